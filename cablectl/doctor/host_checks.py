"""Checks of the host alone: who may look, Libreswan, kernel, clock, and who else is at work."""

from collections.abc import Iterator
from datetime import UTC, datetime

from cablectl.doctor.evidence import Host, Presence
from cablectl.doctor.finding import Finding, fail, ok, warn
from cablectl.errors import UsageError
from cablectl.libreswan import dialects
from cablectl.linux.overlay.registry import kinds, overlay_of
from cablectl.linux.sockets import PLUTO
from cablectl.model.cable import Cable, cable_id
from cablectl.model.wishes import Mode

# Each with what makes a kernel have it; Debian's own kernels have them all.
OPTIONS = {
    "esp4": "CONFIG_INET_ESP",
    "esp6": "CONFIG_INET6_ESP",
    "nf_tables": "CONFIG_NF_TABLES",
    **{module.name: module.option for kind in kinds() for module in kind.modules.values()},
}
FIRST_YEAR = 2025  # before that this program didn't exist
_FIPS_CIPHERS = ("aes", "null_auth_aes_gmac")  # SP 800-38A to -38D; what begins so
_FIPS_GROUPS = ("modp2048", "modp3072", "modp4096", "modp6144", "modp8192", "dh19", "dh20", "dh21")
_SUBMARINERS = ("vxlan-tunnel", "vx-submariner")  # what its own drivers call their devices


def root(host: Host) -> Iterator[Finding]:
    """Whether root looks: nobody else sees pluto, policies, the firewall and the secrets."""
    if host.root:
        yield ok("root", "yes")
    else:
        missing = "pluto, the kernel's policies, the firewall and the secret can't be seen"
        yield fail("root", f"not root: {missing}", "the same with sudo")


def libreswan(host: Host) -> Iterator[Finding]:
    """Whether there is a Libreswan, and which whack is talked to."""
    install = "on Debian: apt install libreswan"
    if not host.libreswan:
        yield fail("libreswan", "ipsec is not installed", install)
        return
    try:
        version = dialects.parse_version(host.libreswan)
    except UsageError as error:  # strongSwan's command has the same name
        yield fail("libreswan", error.message, install)
        return
    since = dialects.dialect(version).since
    yield ok("libreswan", f"{version}, whack takes the flags of {since} and later")


def pluto(host: Host) -> Iterator[Finding]:
    """Whether the daemon runs and answers."""
    running = [each for each in host.daemons if each.name == PLUTO]
    if not running:
        yield fail(PLUTO, "pluto isn't running", "systemctl start ipsec")
    elif host.deaf:
        yield fail(
            PLUTO,
            f"{running[0]} doesn't answer: {host.deaf}",
            "see its log, and whether it is stopped or busy; systemctl restart ipsec",
        )
    elif len(running) > 1:
        yield warn(
            PLUTO,
            f"there is more than one: {', '.join(map(str, running))}",
            "one is enough, unless the others run in containers",
        )
    else:
        yield ok(PLUTO, f"{running[0]} {'answers' if host.root else 'runs'}")


def listening(host: Host, cable: Cable | None) -> Iterator[Finding]:
    """Whether pluto hears IKE: at the addresses that the host had when it was last told to."""
    if not host.listening:
        if host.root and not host.deaf and any(each.name == PLUTO for each in host.daemons):
            yield fail("listening", "pluto listens on no address", "ipsec whack --listen")
        return
    addresses = dict.fromkeys(each.rpartition(":")[0].strip("[]") for each in host.listening)
    if cable is None or str(cable.local.address) in addresses:
        yield ok("listening", f"pluto listens on {', '.join(addresses)}")
    else:
        yield fail(
            "listening",
            f"pluto listens on {', '.join(addresses)}, not on {cable.local.address}",
            "ipsec whack --listen, when the host has that address",
        )


def kernel(host: Host, cable: Cable | None) -> Iterator[Finding]:
    """Whether the kernel has what the cable takes."""
    for name in needed_modules(cable):
        presence = host.modules.get(name, Presence.MISSING)
        if presence is Presence.MISSING:
            yield fail(
                "kernel",
                f"the kernel {host.kernel} has no {name}, loaded, built in or to be loaded",
                f"boot one that has {OPTIONS[name]}; on Debian: apt install linux-image-amd64, or"
                " that of your architecture",
            )
        else:
            yield ok("kernel", f"{name} is {presence}")


def needed_modules(cable: Cable | None) -> tuple[str, ...]:
    """Return the kernel's modules without which the cable can't be; without one, the usual."""
    if cable is None:
        return ("esp4", "vxlan", "nf_tables")
    version = cable.local.address.version
    names = [] if cable.mode is Mode.NONE else ["esp6" if version == 6 else "esp4"]
    if cable.overlay:
        names.append(overlay_of(cable.overlay).modules[version].name)
    return (*names, *(("nf_tables",) if cable.guarded else ()))


def fips(host: Host, cable: Cable | None) -> Iterator[Finding]:
    """Whether the kernel restricts itself, and pluto with it, to what FIPS 140 allows."""
    if not host.fips:
        yield ok("fips", "off")
        return
    asked = cable.ipsec.esp if cable else ()
    refused = [each for each in asked if not each.startswith(_FIPS_CIPHERS)]
    group = cable.ipsec.pfs_group if cable else None
    refused += [group] if group and group not in _FIPS_GROUPS else []
    if refused:
        yield fail(
            "fips",
            f"on, and the file asks for {', '.join(refused)}",
            "take ipsec.esp: [aes_gcm-null] and pfs_group: modp2048, or leave them out",
        )
    else:
        yield ok("fips", "on; the file asks for nothing that it forbids")


def clock(host: Host) -> Iterator[Finding]:
    """Whether the clock can be believed: a pre-shared key needs none, two hosts' logs do."""
    year = datetime.fromtimestamp(host.time, UTC).year
    fix = "timedatectl set-ntp true, or see your NTP daemon"
    if year < FIRST_YEAR:
        yield warn("clock", f"it says that this is {year}", fix)
    elif host.synchronised is False:
        yield warn("clock", "not synchronised: the two hosts' logs may not agree in time", fix)
    else:
        yield ok("clock", "synchronised" if host.synchronised else "its year is sane")


def others(host: Host) -> Iterator[Finding]:
    """Whether anybody else speaks IKE here, or makes cables."""
    daemons = [str(each) for each in host.daemons if each.name != PLUTO]
    if daemons:
        yield warn(
            "others",
            f"{', '.join(daemons)} speaks IKE as well",
            "stop it, unless it runs in a container: one daemon has the ports 500 and 4500",
        )
    devices = [name for name, link in host.links.items() if name in _SUBMARINERS and not link.ours]
    foreign = [name for name in host.cables if cable_id(name) not in host.made]
    seen = [*(f"the device {each}" for each in devices), *(f"pluto's {each}" for each in foreign)]
    if seen:
        yield warn(
            "others",
            f"Submariner may be at work here: {', '.join(seen)}; cablectl made none of them",
            "see `subctl show all`; a cable needs another device than Submariner's",
        )
    if not daemons and not seen:
        yield ok("others", "nobody else speaks IKE, and there is nothing of Submariner")


def runs(host: Host) -> Iterator[Finding]:
    """Whether another run is at work on a cable, or was killed."""
    if not host.root:  # whose directory it is
        return
    for each in host.runs:
        who = f"PID {each.pid}" if each.pid else "its PID isn't known"
        if each.at_work:
            yield warn(
                "runs",
                f"another cablectl ({who}) is at work on {each.cable}",
                "wait for its end, or stop it",
            )
        elif each.cut_off:
            stale = f", and its lock is stale ({who})" if each.pid else ""
            yield warn(
                "runs",
                f"{each.cable}: an earlier {each.cut_off}{stale}",
                "connect finishes it, teardown takes it away",
            )
        else:
            yield warn(
                "runs",
                f"{each.cable}: the lock of a cablectl that is gone is stale ({who})",
                "nothing has to be done: the next connect or teardown takes it",
            )
    if not host.runs:
        yield ok("runs", "no cablectl is at work, and none was cut off")
