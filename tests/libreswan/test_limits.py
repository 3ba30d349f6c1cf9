"""IKE proposals and the limits of SAs: whack's options, and what pluto prints of them."""

import pytest
from msgspec.structs import replace

from cablectl.errors import UsageError
from cablectl.libreswan import dialects, pluto, whack
from cablectl.libreswan.limits import Limits, limits_of, parse_limits
from cablectl.model.cable import Cable
from cablectl.model.wishes import Ipsec
from tests.support.places import CAPTURES

WISH = Ipsec(
    ike=("aes256-sha2_256;dh19", "aes_gcm256-sha2_512;dh20+dh19"),
    replay_window=256,
    ike_lifetime=7200,
    sa_lifetime=3600,
    max_bytes=10**12,
)
IKE = "--ike aes256-sha2_256;dh19,aes_gcm256-sha2_512;dh20+dh19"
LIMITS = "--replay-window 256 --ikelifetime 7200 --{} 3600"


def flags(cable: Cable, ipsec: Ipsec, release: str) -> str:
    this = replace(cable, ipsec=ipsec)
    argv = whack.add(this, this.connections[0], dialects.parse_version(release))
    return " ".join(argv)


@pytest.mark.parametrize("release", ["4.0", "4.6", "4.7"])
def test_before_4_8(cable: Cable, release: str) -> None:
    argv = flags(cable, replace(WISH, max_bytes=None), release)
    assert f" {IKE} {LIMITS.format('ipseclifetime')} " in argv
    with pytest.raises(UsageError) as error:
        flags(cable, WISH, release)
    assert error.value.message == f"ipsec.max_bytes: Libreswan {release} has no limit of bytes"
    assert error.value.hint == "remove max_bytes, or install Libreswan 4.8 or later"


@pytest.mark.parametrize("release", ["4.8", "4.10", "5.0", "5.2", "5.3", "5.4"])
def test_from_4_8_on(cable: Cable, release: str) -> None:
    limits = f"{LIMITS.format('ipsec-lifetime')} --ipsec-max-bytes 1000000000000"
    assert f" {IKE} {limits} " in flags(cable, WISH, release)


@pytest.mark.parametrize("release", ["4.0", "4.7", "4.10", "5.2", "5.4"])
def test_what_the_file_does_not_name_is_no_option(cable: Cable, release: str) -> None:
    plain = flags(cable, Ipsec(), release)
    for word in ("--ike ", "life", "window", "bytes"):
        assert word not in plain
    only = flags(cable, Ipsec(replay_window=0), release)
    assert only.replace(" --replay-window 0", "") == plain


@pytest.mark.parametrize("release", ["4.10", "5.2", "5.3.2", "5.4"])
def test_what_pluto_prints_of_its_defaults(release: str) -> None:
    status = (CAPTURES / f"libreswan-{release}.txt").read_text()
    loaded = pluto.parse_connections(status, "")
    assert loaded
    for connection in loaded.values():
        assert connection.ike_algorithms == ()
        assert connection.limits == Limits(
            ike_lifetime=28800, sa_lifetime=28800, max_bytes="2^63B", replay_window=128
        )


# The lines are those of 4.6, 4.10 and 5.2, of a connection with these options.
@pytest.mark.parametrize(
    ("begin", "line", "max_bytes"),
    [
        (
            '000 "x":',
            "ike_life: 7200s; ipsec_life: 3600s; replay_window: 256; rekey_margin: 540s;"
            " rekey_fuzz: 100%; keyingtries: 0;",
            None,
        ),
        (
            '000 "x":',
            "ike_life: 7200s; ipsec_life: 3600s; ipsec_max_bytes: 931GiB; ipsec_max_packets: 2^63;"
            " replay_window: 256; rekey_margin: 540s; rekey_fuzz: 100%; keyingtries: 0;",
            "931GiB",
        ),
        (
            '"x":',
            "ike_life: 7200s; ipsec_life: 3600s; ipsec_max_bytes: 931GiB; ipsec_max_packets: 2^63;"
            " replay_window: 256; rekey_margin: 540s; rekey_fuzz: 100%;",
            "931GiB",
        ),
    ],
)
def test_what_pluto_prints(begin: str, line: str, max_bytes: str | None) -> None:
    ike = ("AES_CBC_256-HMAC_SHA2_256-DH19", "AES_GCM_16_256-HMAC_SHA2_512-DH20+DH19")
    status = (
        f"{begin} 172.18.0.8...172.18.0.7; unrouted; eroute owner: #0\n"
        f"{begin}   {line}\n{begin}   IKE algorithms: {', '.join(ike)}\n"
        f"{begin}   IKEv2 algorithm newest: AES_CBC_256-HMAC_SHA2_256-DH19\n"
    )
    loaded = pluto.parse_connections(status, "")["x"]
    assert loaded.ike_algorithms == ike
    assert loaded.esp == ()
    assert loaded.limits == Limits(
        ike_lifetime=7200, sa_lifetime=3600, max_bytes=max_bytes, replay_window=256
    )
    assert loaded.limits.meet(limits_of(WISH))
    assert loaded.limits.meet(limits_of(Ipsec()))


@pytest.mark.parametrize(
    "other",
    [{"ike_lifetime": 7201}, {"sa_lifetime": 3601}, {"replay_window": 0}, {"max_bytes": 10**11}],
)
def test_each_limit_that_differs_counts(other: dict[str, int]) -> None:
    changed = limits_of(replace(WISH, **other))
    assert not limits_of(WISH).meet(changed)
    assert Limits().meet(changed)  # what pluto doesn't print


@pytest.mark.parametrize(
    ("count", "printed"),
    [
        (2**20, "1MiB"),
        (10 * 2**20 - 1, "9MiB"),
        (2**30 - 1, "1023MiB"),
        (10**12, "931GiB"),
        (2**40, "1TiB"),
        (2**50, "1PiB"),
        (2**63 - 1, "7EiB"),
    ],
)
def test_bytes_as_pluto_prints_them(count: int, printed: str) -> None:
    assert limits_of(Ipsec(max_bytes=count)).max_bytes == printed


@pytest.mark.parametrize(("power", "printed"), [(20, "1024KiB"), (30, "1024MiB"), (60, "1024PiB")])
def test_whole_units_as_5_1_and_later_print_them(power: int, printed: str) -> None:
    line = (
        f'"x":   ike_life: 28800s; ipsec_life: 28800s; ipsec_max_bytes: {printed};'
        " ipsec_max_packets: 2^63; replay_window: 128; rekey_margin: 540s; rekey_fuzz: 100%;"
    )
    loaded = parse_limits(line)["x"]
    assert loaded.meet(limits_of(Ipsec(max_bytes=1 << power)))
    assert not loaded.meet(limits_of(Ipsec(max_bytes=(1 << power) - 1)))
