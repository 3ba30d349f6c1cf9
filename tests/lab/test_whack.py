"""Whack and pluto of each release take every planned command, and load what the plan says.

The releases are this machine's Libreswan, the Libreswan in the root that tests/lab/root makes, and
those of LAB_RELEASES.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from msgspec.structs import replace

from cablectl.facts.host_facts import Facts
from cablectl.libreswan import dialects, pluto, pluto_commands, whack
from cablectl.libreswan.dialects import Version
from cablectl.libreswan.limits import limits_of
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Ipsec
from cablectl.plan import connect_plan
from tests.support.documents import SHAPES, shaped
from tests.support.examples import load

from .gateways import Gateway, Lab
from .releases import DEBIAN, installations, libreswans

pytestmark = pytest.mark.lab

NOWHERE = ("--ctlsocket", "/nonexistent")


@pytest.fixture(scope="module", params=libreswans())
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """A gateway with pluto, named after its Libreswan."""
    with Lab() as lab:
        gateway = lab.gateway(request.param, "172.18.0.8/16", "2001:db8::8/64", request.param)
        gateway.start_pluto()
        yield gateway


def commands(version: Version) -> list[Argv]:
    """Return every whack command of every shape's plan and of the plan's undo, without repeats."""
    facts = Facts(libreswan=version)
    cables = [shaped(shape, end) for shape in SHAPES for end in ("cluster1", "cluster2")]
    cables += [load("quickstart", end) for end in ("cluster1", "cluster2")]
    steps = [step for cable in cables for step in connect_plan.plan((cable,), (facts,)).steps]
    argvs = [argv for step in steps for argv in (step.argv, *step.undo)]
    return list(dict.fromkeys(argv for argv in argvs if argv[:2] == pluto_commands.WHACK))


def output_of(gateway: Gateway, argv: Argv) -> str:
    """Return whack's output for a command that it can't send to pluto.

    The `ipsec` of 5.0 always adds a control socket, and whack takes only one.
    """
    whack = f"{gateway.run('ipsec', '--directory').stdout.strip()}/whack"
    done = gateway.run(whack, *NOWHERE, *argv[2:], check=False)
    return done.stdout + done.stderr


def test_every_flag_is_recognised(
    gateway: Gateway, record_property: Callable[[str, object], None]
) -> None:
    if gateway.name not in DEBIAN:
        record_property(gateway.name, gateway.version())
    outputs = {argv: output_of(gateway, argv) for argv in commands(gateway.release())}
    assert {argv: text for argv, text in outputs.items() if not is_accepted(text)} == {}


def algorithms_of(gateway: Gateway, cable: Cable) -> tuple[str, ...]:
    asked = whack.algorithms_to_parse(cable)
    if not asked:
        return ()
    return pluto.parse_algorithms(gateway.run(*pluto_commands.PARSE_ALGORITHMS, *asked).stdout)


def test_every_connection_is_loaded_as_planned(gateway: Gateway) -> None:
    """Exit codes prove nothing: pluto's status does. The gateway is the first cluster's."""
    version = gateway.release()
    wanted = {
        whack.add(cable, connection, version): (cable, connection)
        for cable in map(shaped, (*SHAPES, "transport vxlan v4 pfs"))
        for connection in cable.connections
    }
    wrong = {}
    for argv, (cable, connection) in wanted.items():
        printed = gateway.whack(*argv[2:], check=False)
        status = gateway.whack("--status")
        loaded = pluto.parse_connections(status, "").get(connection.name)
        gateway.whack(*whack.delete(connection.name)[2:], check=False)
        no_script = f'"{connection.name}":.* my_updown=<disabled>;'
        esp = algorithms_of(gateway, cable)
        if not (
            loaded
            and loaded.selectors
            and loaded.joins(pluto.selectors(connection))
            and loaded.esp == esp
            and bool(re.search(no_script, status)) == whack.skips_script(cable)
        ):
            wrong[argv] = printed, loaded
    assert wrong == {}


def test_options_that_no_field_uses_yet(gateway: Gateway) -> None:
    """docs/flags.md lists them for each release."""
    cable, version = shaped("transport vxlan v4"), gateway.release()
    row = dialects.dialect(version)
    options = (
        (row.rekey_margin, "300"),
        (row.rekey_fuzz, f"50{row.rekey_fuzz_unit}"),
    )
    words = (word for option in options if option[0] for word in option)
    argv = whack.add(cable, cable.connections[0], version)
    gateway.whack(*argv[2:], *words)
    status = gateway.whack("--status")
    gateway.whack(*whack.delete(cable.connections[0].name)[2:], check=False)
    assert " rekey_margin: 300s; rekey_fuzz: 50%;" in status


def test_proposals_and_limits_are_loaded_as_the_file_has_them(gateway: Gateway) -> None:
    """Each limit once with its least value and once with its largest."""
    cable, version = shaped("transport vxlan v4"), gateway.release()
    connection, row = cable.connections[0], dialects.dialect(version)
    for ike, lifetime, window, count in (
        (("aes256-sha2;dh19", "aes_gcm256-sha2_512+sha2;dh20+modp2048"), 1081, 0, 2**20),
        (("aes", "aes-sha1-modp2048"), 86400, 4096, 2**63 - 1),
    ):
        ipsec = Ipsec(
            ike=ike,
            ike_lifetime=lifetime,
            sa_lifetime=lifetime,
            replay_window=window,
            max_bytes=count if row.max_bytes else None,
        )
        this = replace(cable, ipsec=ipsec)
        printed = gateway.whack(*whack.add(this, connection, version)[2:])
        loaded = pluto.parse_connections(gateway.whack("--status"), "")[connection.name]
        gateway.whack(*whack.delete(connection.name)[2:])
        assert loaded.ike_algorithms == algorithms_of(gateway, this), printed
        assert len(loaded.ike_algorithms) == 2
        assert loaded.limits == limits_of(ipsec), printed


def is_accepted(text: str) -> bool:
    """Tell whether whack accepted the options, and then missed pluto's control socket."""
    return re.search(r"[Pp]luto is not running", text) is not None


def test_an_option_of_the_other_release_is_refused() -> None:
    (first, *_) = commands(Version(4, 10))
    for name, option in (("5.2", "--forceencaps"), ("4.10", "--transport")):
        with closing(Gateway(name, installations()[name])) as gateway:
            assert "unrecognized option" in output_of(gateway, (*first, option))
