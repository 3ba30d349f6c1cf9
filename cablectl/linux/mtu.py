"""The MTU of an overlay's device: the path's MTU less the bytes of IP, ESP and the overlay.

Transport mode (RFC 4303, section 3.1.1) adds no second IP header, so a frame on the wire is

    IP | [UDP] | ESP header | IV | { overlay's headers | payload } padding trailer | ICV

The part in braces and the trailer of 2 bytes are padded to the cipher's block. Measured on a wire
of 1500 bytes with AES-GCM and VXLAN over IPv4: the largest MTU is 1408 with UDP encapsulation and
1416 without; 4 bytes more don't pass.
"""

from collections.abc import Iterable

from msgspec import Struct

IP_HEADER = {4: 20, 6: 40}
UDP_HEADER = 8  # ESP in UDP, RFC 3948
ESP_HEADER = 8  # SPI and sequence number, RFC 4303, section 2
ESP_TRAILER = 2  # pad length and next header


class Cipher(Struct, frozen=True):
    """What a cipher adds to each packet: IV, ICV, and padding to the block, all in bytes."""

    iv: int
    icv: int
    block: int

    def payload(self, room: int) -> int:
        """Return how many bytes of plain text fit into `room` bytes from the IV to the ICV."""
        blocks = (room - self.iv - self.icv) // self.block
        return blocks * self.block - ESP_TRAILER


AES_GCM = Cipher(iv=8, icv=16, block=4)  # RFC 4106
CHACHA20_POLY1305 = Cipher(iv=8, icv=16, block=4)  # RFC 7634
_AEADS = {
    "aes_gcm": AES_GCM,
    "aes_gcm_c": AES_GCM,
    "aes_gcm_16": AES_GCM,
    "aes_gcm128": AES_GCM,
    "aes_gcm256": AES_GCM,
    "chacha20_poly1305": CHACHA20_POLY1305,
}
_ICV = {  # truncated MACs: RFC 2404, RFC 4868
    "sha1": 12,
    "sha2": 16,
    "sha256": 16,
    "sha2_256": 16,
    "sha384": 24,
    "sha2_384": 24,
    "sha512": 32,
    "sha2_512": 32,
}
_LARGEST_ICV = 32


def cipher(algorithm: str) -> Cipher:
    """Return the cipher of an algorithm such as `aes_gcm-null` or `aes256-sha2_256`.

    An unknown algorithm counts as CBC (RFC 3602) with the largest ICV, since an MTU that is too
    small works, and one that is too large doesn't.
    """
    encryption, _, integrity = algorithm.partition("-")
    if encryption in _AEADS:
        return _AEADS[encryption]
    return Cipher(iv=16, icv=_ICV.get(integrity.partition("-")[0], _LARGEST_ICV), block=16)


def protected(
    path_mtu: int, headers: int, *, version: int, encapsulated: bool, esp: Iterable[str] = ()
) -> int:
    """Return the largest MTU of an overlay's device over ESP in transport mode, in bytes.

    `headers` is the length of the overlay's headers in bytes, `version` the outer IP version. `esp`
    is the algorithms that the peers may choose, of which the largest cost counts. Without `esp`
    they choose AES-GCM, Libreswan's first proposal.
    """
    ciphers = [cipher(algorithm) for algorithm in esp] or [AES_GCM]
    return min(
        carried(path_mtu, headers, candidate, version=version, encapsulated=encapsulated)
        for candidate in ciphers
    )


def carried(path_mtu: int, headers: int, cost: Cipher, *, version: int, encapsulated: bool) -> int:
    """Return the largest MTU over an SA whose cipher is known, in bytes."""
    room = path_mtu - IP_HEADER[version] - (UDP_HEADER if encapsulated else 0) - ESP_HEADER
    return cost.payload(room) - headers


def clear(path_mtu: int, headers: int, *, version: int) -> int:
    """Return the largest MTU of an overlay's device without IPsec, in bytes."""
    return path_mtu - IP_HEADER[version] - headers
