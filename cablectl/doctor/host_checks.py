"""Checks of the host alone: privileges, Libreswan, kernel, clock, and competing programs."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from cablectl.doctor.evidence import HostEvidence, Presence
from cablectl.doctor.finding import Finding, fail, ok, warn
from cablectl.errors import UsageError
from cablectl.libreswan import dialects
from cablectl.linux import mss
from cablectl.linux.overlay.registry import kinds, overlay_of
from cablectl.linux.sockets import PLUTO
from cablectl.model.cable import Cable, cable_id
from cablectl.model.wishes import Mode

# The kernel option of each module; Debian's kernels have them all.
OPTIONS = {
    "esp4": "CONFIG_INET_ESP",
    "esp6": "CONFIG_INET6_ESP",
    "nf_tables": "CONFIG_NF_TABLES",
    **{module.name: module.option for kind in kinds() for module in kind.modules.values()},
}
FIRST_YEAR = 2025  # cablectl didn't exist before
_FIPS_CIPHERS = ("aes", "null_auth_aes_gmac")  # the beginnings of names; SP 800-38A to -38D
_FIPS_GROUPS = ("modp2048", "modp3072", "modp4096", "modp6144", "modp8192", "dh19", "dh20", "dh21")
_SUBMARINER_DEVICES = ("vxlan-tunnel", "vx-submariner")  # as its own drivers name them


def check_root(host: HostEvidence) -> Iterator[Finding]:
    """Check that root runs doctor: only root can read pluto, policies, firewall and secrets."""
    if host.root:
        yield ok("root", "yes")
    else:
        unread = "pluto, the kernel's policies, the firewall and the secret can't be read"
        yield fail("root", f"not root, so {unread}", "run the same command with sudo")


def check_libreswan(host: HostEvidence) -> Iterator[Finding]:
    """Check that Libreswan is installed, and report the release of its options."""
    install = "on Debian: sudo apt install libreswan"
    if not host.libreswan:
        yield fail("libreswan", "ipsec is not installed", install)
        return
    try:
        version = dialects.parse_version(host.libreswan)
    except UsageError as error:  # strongSwan's command has the same name
        yield fail("libreswan", error.message, install)
        return
    since = dialects.dialect(version).since
    yield ok("libreswan", f"{version}, whack takes the options of {since} and later")


def check_pluto(host: HostEvidence) -> Iterator[Finding]:
    """Check that pluto runs and answers."""
    running = [daemon for daemon in host.daemons if daemon.name == PLUTO]
    if not running:
        yield fail(PLUTO, "pluto isn't running", "sudo systemctl start ipsec")
    elif host.pluto_error:
        yield fail(
            PLUTO,
            f"{running[0]} doesn't answer: {host.pluto_error}",
            "read its log and check whether it is stopped or busy; else: sudo systemctl restart"
            " ipsec",
        )
    elif len(running) > 1:
        yield warn(
            PLUTO,
            f"more than one pluto is running: {', '.join(map(str, running))}",
            "stop all but one, unless the others run in containers",
        )
    else:
        yield ok(PLUTO, f"{running[0]} {'answers' if host.root else 'is running'}")


def check_listening(host: HostEvidence, cable: Cable | None) -> Iterator[Finding]:
    """Check that pluto listens on the local address.

    Pluto binds only the addresses that the host had at the last `whack --listen`.
    """
    listen = "sudo ipsec whack --listen"
    if not host.listening:
        answers = host.root and not host.pluto_error
        if answers and any(daemon.name == PLUTO for daemon in host.daemons):
            yield fail("listening", "pluto listens on no address", listen)
        return
    addresses = dict.fromkeys(socket.rpartition(":")[0].strip("[]") for socket in host.listening)
    if cable is None or str(cable.local.address) in addresses:
        yield ok("listening", f"pluto listens on {', '.join(addresses)}")
    else:
        yield fail(
            "listening",
            f"pluto listens on {', '.join(addresses)}, not on {cable.local.address}",
            f"check that this host has the address, then: {listen}",
        )


def check_kernel(host: HostEvidence, cable: Cable | None) -> Iterator[Finding]:
    """Check that the kernel has the modules that the cable needs."""
    for name in needed_modules(cable):
        presence = host.modules.get(name, Presence.MISSING)
        if presence is Presence.MISSING:
            yield fail(
                "kernel",
                f"kernel {host.kernel} has no {name}: not loaded, not built in and not loadable",
                f"boot a kernel with {OPTIONS[name]}; on Debian: sudo apt install"
                " linux-image-amd64, or the package of your architecture",
            )
        else:
            yield ok("kernel", f"{name} is {presence}")


def needed_modules(cable: Cable | None) -> tuple[str, ...]:
    """Return the kernel modules that the cable needs; without a cable, the usual ones."""
    if cable is None:
        return ("esp4", "vxlan", "nf_tables")
    version = cable.local.address.version
    names = [] if cable.mode is Mode.NONE else ["esp6" if version == 6 else "esp4"]
    if cable.overlay:
        names.append(overlay_of(cable.overlay).modules[version].name)
    return (*names, *(("nf_tables",) if cable.guarded or mss.is_wanted(cable) else ()))


def check_fips(host: HostEvidence, cable: Cable | None) -> Iterator[Finding]:
    """Check that the file asks only for algorithms that FIPS 140 allows, if FIPS mode is on."""
    if not host.fips:
        yield ok("fips", "off")
        return
    algorithms = cable.ipsec.esp if cable else ()
    refused = [name for name in algorithms if not name.startswith(_FIPS_CIPHERS)]
    group = cable.ipsec.pfs_group if cable else None
    refused += [group] if group and group not in _FIPS_GROUPS else []
    ike = [name for name in (cable.ipsec.ike if cable else ()) if not _is_fips_ike(name)]
    remedies = [
        *(["write ike: [aes256-sha2_256;dh19] below ipsec, or remove ike"] if ike else []),
        *(
            ["write esp: [aes_gcm-null] and pfs_group: modp2048 below ipsec, or remove both"]
            if refused
            else []
        ),
    ]
    if remedies:
        yield fail(
            "fips",
            f"FIPS mode is on and forbids {', '.join([*ike, *refused])}, which the file asks for",
            "; ".join(remedies),
        )
    else:
        yield ok("fips", "on; the file asks for nothing that FIPS mode forbids")


def _is_fips_ike(proposal: str) -> bool:
    """Tell whether FIPS 140 allows an IKE proposal's ciphers and groups."""
    ciphers = proposal.partition("-")[0].partition(";")[0].split("+")
    groups = [
        word for word in re.split("[;+-]", proposal) if re.match(r"modp\d|dh\d|ecp\d|x?25519", word)
    ]
    return all(cipher.startswith("aes") for cipher in ciphers) and set(groups) <= set(_FIPS_GROUPS)


def check_clock(host: HostEvidence) -> Iterator[Finding]:
    """Check the clock: a pre-shared key doesn't need it, but comparing two hosts' logs does."""
    year = datetime.fromtimestamp(host.time, UTC).year
    fix = "sudo timedatectl set-ntp true, or check your NTP daemon"
    if year < FIRST_YEAR:
        yield warn("clock", f"the clock says that the year is {year}", fix)
    elif host.synchronised is False:
        yield warn("clock", "not synchronised: the times in two hosts' logs may differ", fix)
    else:
        yield ok("clock", "synchronised" if host.synchronised else "the year is plausible")


def check_others(host: HostEvidence) -> Iterator[Finding]:
    """Check whether other programs speak IKE on this host or create cables."""
    daemons = [str(daemon) for daemon in host.daemons if daemon.name != PLUTO]
    if daemons:
        yield warn(
            "others",
            f"another IKE daemon is running: {', '.join(daemons)}",
            "stop it, unless it runs in a container: only one daemon can bind UDP 500 and 4500",
        )
    devices = [
        name for name, link in host.links.items() if name in _SUBMARINER_DEVICES and not link.ours
    ]
    foreign = [name for name in host.cables if cable_id(name) not in host.own_cables]
    traces = [f"the device {name}" for name in devices] + [f"pluto's {name}" for name in foreign]
    if traces:
        yield warn(
            "others",
            f"Submariner may be active on this host: {', '.join(traces)}; cablectl created none of"
            " them",
            "check `subctl show all`, and give the cable a device that Submariner doesn't use",
        )
    if not daemons and not traces:
        yield ok("others", "no other IKE daemon, and no trace of Submariner")


def check_runs(host: HostEvidence) -> Iterator[Finding]:
    """Check whether another cablectl is running, or was interrupted."""
    if not host.root:  # only root can read /run/cablectl
        return
    for run in host.runs:
        pid = f"PID {run.pid}" if run.pid else "PID unknown"
        if run.at_work:
            yield warn(
                "runs",
                f"another cablectl ({pid}) is working on {run.cable}",
                "wait until it ends, or stop it",
            )
        elif run.cut_off:
            stale = f", and its lock is stale ({pid})" if run.pid else ""
            yield warn(
                "runs",
                f"{run.cable}: an earlier {run.cut_off}{stale}",
                "run connect, which completes it, or teardown, which removes it",
            )
        else:
            yield warn(
                "runs",
                f"{run.cable}: the lock of a cablectl that has ended is stale ({pid})",
                "run connect or teardown: it takes over the lock",
            )
    if not host.runs:
        yield ok("runs", "no cablectl is running, and none was interrupted")
