"""The arithmetic of overheads, against what was seen on a wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cablectl import mtu

INNER = mtu.UDP_HEADER + mtu.VXLAN_HEADER + mtu.ETHERNET_HEADER


@pytest.mark.parametrize(
    ("encapsulated", "seen"), [(True, 1408), (False, 1416)], ids=["in UDP", "bare ESP"]
)
def test_what_was_measured_with_aes_gcm_on_1500_bytes(encapsulated: bool, seen: int) -> None:
    assert mtu.vxlan(1500, encapsulated=encapsulated) == seen


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
def test_ciphers(algorithm: str, cipher: mtu.Cipher) -> None:
    assert mtu.cipher(algorithm) == cipher


def frame(payload: int, cipher: mtu.Cipher, *, encapsulated: bool) -> int:
    """Return the IP packet's length the other way round, as a sender builds it."""
    plain = payload + INNER + mtu.ESP_TRAILER
    padded = -(-plain // cipher.block) * cipher.block
    return (
        mtu.IPV4_HEADER
        + (mtu.UDP_HEADER if encapsulated else 0)
        + mtu.ESP_HEADER
        + cipher.iv
        + padded
        + cipher.icv
    )


@given(
    st.integers(min_value=576, max_value=9216),
    st.booleans(),
    st.lists(st.sampled_from(["aes_gcm-null", "aes256-sha2_256", "aes-sha1", "unknown"])),
)
def test_the_largest_fits_and_one_byte_more_does_not(
    path_mtu: int, encapsulated: bool, esp: list[str]
) -> None:
    largest = mtu.vxlan(path_mtu, encapsulated=encapsulated, esp=esp)
    ciphers = [mtu.cipher(each) for each in esp] or [mtu.AES_GCM]
    lengths = [frame(largest, each, encapsulated=encapsulated) for each in ciphers]
    longer = [frame(largest + 1, each, encapsulated=encapsulated) for each in ciphers]
    assert max(lengths) <= path_mtu < max(longer)
