"""The MTU of an overlay's device, compared with sizes measured on a wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cablectl.linux import mtu
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.wishes import OVERLAYS

HEADERS = {"vxlan": 30, "geneve": 30, "gre": 8, "ipip": 0}


@pytest.mark.parametrize(
    ("encapsulated", "measured"), [(True, 1408), (False, 1416)], ids=["in UDP", "bare ESP"]
)
def test_the_mtu_measured_with_aes_gcm_on_1500_bytes(encapsulated: bool, measured: int) -> None:
    assert mtu.protected(1500, 30, version=4, encapsulated=encapsulated) == measured


@pytest.mark.parametrize(
    ("algorithm", "cipher"),
    [
        ("aes_gcm-null", mtu.Cipher(8, 16, 4)),
        ("aes_gcm128-null", mtu.Cipher(8, 16, 4)),
        ("chacha20_poly1305", mtu.Cipher(8, 16, 4)),
        ("aes256-sha2_256", mtu.Cipher(16, 16, 16)),
        ("aes-sha1", mtu.Cipher(16, 12, 16)),
        ("aes128-sha2_512-modp2048", mtu.Cipher(16, 32, 16)),
        ("something_new", mtu.Cipher(16, 32, 16)),
    ],
)
def test_the_cipher_of_an_algorithm(algorithm: str, cipher: mtu.Cipher) -> None:
    assert mtu.cipher(algorithm) == cipher


def frame(plain: int, cipher: mtu.Cipher, *, version: int, encapsulated: bool) -> int:
    """Return the length of an ESP packet in bytes, computed forward as a sender builds it."""
    padded = -(-(plain + mtu.ESP_TRAILER) // cipher.block) * cipher.block
    return (
        mtu.IP_HEADER[version]
        + (mtu.UDP_HEADER if encapsulated else 0)
        + mtu.ESP_HEADER
        + cipher.iv
        + padded
        + cipher.icv
    )


@given(
    st.integers(min_value=576, max_value=9216),
    st.sampled_from(sorted(HEADERS.values())),
    st.sampled_from([4, 6]),
    st.booleans(),
    st.lists(st.sampled_from(["aes_gcm-null", "aes256-sha2_256", "aes-sha1", "unknown"])),
)
def test_the_largest_fits_and_one_byte_more_does_not(
    path_mtu: int, headers: int, version: int, encapsulated: bool, esp: list[str]
) -> None:
    largest = mtu.protected(path_mtu, headers, version=version, encapsulated=encapsulated, esp=esp)
    ciphers = [mtu.cipher(algorithm) for algorithm in esp] or [mtu.AES_GCM]

    def longest(payload: int) -> int:
        plain = payload + headers
        return max(
            frame(plain, cipher, version=version, encapsulated=encapsulated) for cipher in ciphers
        )

    assert longest(largest) <= path_mtu < longest(largest + 1)


def test_without_ipsec_only_the_headers_are_subtracted() -> None:
    assert mtu.clear(1500, 30, version=4) == 1450  # the MTU of Submariner's VXLAN driver
    assert mtu.clear(1500, 30, version=6) == 1430


def test_every_overlay_is_tested() -> None:
    assert {wish.kind: overlay_of(wish()).headers for wish in OVERLAYS.values()} == HEADERS
