"""How many bytes are left for the overlay's device once ESP and the overlay took theirs.

Transport mode (RFC 4303, section 3.1.1) adds no second IP header, so a frame on the wire is

    IP | [UDP] | ESP header | IV | { overlay's headers | payload } padding trailer | ICV

and the part in braces, with the 2 bytes of trailer, is padded to the cipher's block. Seen on a
1500-byte wire with AES-GCM, VXLAN over IPv4: 1408 bytes with UDP encapsulation, 1416 without; 4
more don't pass.
"""

from collections.abc import Iterable

from msgspec import Struct

IP_HEADER = {4: 20, 6: 40}
UDP_HEADER = 8  # of ESP in UDP, RFC 3948
ESP_HEADER = 8  # SPI and sequence number, RFC 4303, section 2
ESP_TRAILER = 2  # pad length and next header


class Cipher(Struct, frozen=True):
    """What a cipher costs in each packet: bytes of IV, of ICV, and the block it pads to."""

    iv: int
    icv: int
    block: int

    def payload(self, room: int) -> int:
        """Return how many bytes fit into `room` bytes that begin with the IV."""
        return (room - self.iv - self.icv) // self.block * self.block - ESP_TRAILER


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
    """Return what an algorithm such as `aes_gcm-null` or `aes256-sha2_256` costs.

    What isn't known here is taken for CBC (RFC 3602) with the largest ICV: too small an MTU works.
    """
    encryption, _, integrity = algorithm.partition("-")
    if encryption in _AEADS:
        return _AEADS[encryption]
    return Cipher(iv=16, icv=_ICV.get(integrity.partition("-")[0], _LARGEST_ICV), block=16)


def protected(
    path_mtu: int, headers: int, *, version: int, encapsulated: bool, esp: Iterable[str] = ()
) -> int:
    """Return the largest MTU in bytes of an overlay's device over ESP in transport mode.

    `headers` is what the overlay itself takes, `version` that of IP outside. Without `esp` the
    peers take AES-GCM, the first of Libreswan's own proposals; with it any of these may be taken,
    so the costliest counts.
    """
    costs = [cipher(name) for name in esp] or [AES_GCM]
    return min(
        carried(path_mtu, headers, each, version=version, encapsulated=encapsulated)
        for each in costs
    )


def carried(path_mtu: int, headers: int, cost: Cipher, *, version: int, encapsulated: bool) -> int:
    """Return the same, in bytes, over an SA whose cipher is known."""
    room = path_mtu - IP_HEADER[version] - (UDP_HEADER if encapsulated else 0) - ESP_HEADER
    return cost.payload(room) - headers


def clear(path_mtu: int, headers: int, *, version: int) -> int:
    """Return the largest MTU in bytes of an overlay's device without IPsec."""
    return path_mtu - IP_HEADER[version] - headers
