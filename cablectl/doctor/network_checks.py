"""Checks of the path between the ends: address, route, MTU, filters, ports, and the peer."""

from collections.abc import Iterator

from cablectl.doctor.evidence import CableEvidence, HostEvidence, Reply
from cablectl.doctor.finding import Finding, fail, ok, warn
from cablectl.errors import UsageError
from cablectl.facts import orientation, rivals
from cablectl.facts.host_facts import Facts
from cablectl.libreswan.dialects import LATEST
from cablectl.linux.overlay.registry import overlay_of
from cablectl.linux.sockets import PLUTO, Socket
from cablectl.model.cable import Cable
from cablectl.model.wishes import PLUTO_PORTS, Mode
from cablectl.plan.connect_plan import overlay_mtu

STRICT = 1  # rp_filter, RFC 3704
LEAST_MTU = {4: 576, 6: 1280}  # bytes that have to pass: RFC 791, RFC 8200 (section 5)
_LABELS = {"id": "VNI", "ikey": "key in", "okey": "key out"}  # by the names of `ip -d -j link`


def check_address(cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    """Check that this host has the local end's address."""
    local = cable.local
    if evidence.local_device:
        yield ok("address", f"{local.address} is on {evidence.local_device}")
    else:
        was_here = evidence.facts is not None and evidence.facts.was_made_at(cable)
        yield fail("address", *orientation.absent(cable, evidence.instead, was_here=was_here))


def check_route(cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    """Check that this host has a route to the peer."""
    route = evidence.route
    if route.device:
        yield ok("route", f"{cable.remote_host} is reached through {route.device}")
    else:
        yield fail(
            "route",
            f"no route from {cable.local.address} to {cable.remote_host}: {route.error}",
            "add a route to the peer, or a default route; `ip route` lists the present routes",
        )


def check_mtu(cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    """Check that the overlay's MTU fits the path, as far as the route and the NIC show it."""
    wanted, size = cable.overlay, evidence.route.mtu
    if not (wanted and size):
        return
    try:
        largest = overlay_mtu(cable, Facts(libreswan=LATEST, path_mtu=size), wanted)
    except UsageError as error:
        yield fail("mtu", error.message, error.hint)
        return
    least = LEAST_MTU[cable.local_vtep.version]
    if largest < least:
        yield fail(
            "mtu",
            f"a path MTU of {size} bytes leaves {largest} for {wanted.device}",
            f"raise the MTU of {evidence.route.device} or of the route: {wanted.device} needs"
            f" {least}",
        )
    else:
        yield ok("mtu", f"a path MTU of {size} bytes leaves {largest} for {wanted.device}")


def check_rp_filter(cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    """Check whether the kernel drops packets because of the route to their source (RFC 3704)."""
    strict = {device for device, value in evidence.rp_filters.items() if value == STRICT}
    local, outgoing = evidence.local_device, evidence.route.device
    affected = False
    if local in strict and outgoing not in ("", local):
        affected = True
        yield fail(
            "rp_filter",
            f"rp_filter is strict on {local}, but the route to {cable.remote_host} leaves through"
            f" {outgoing}: the kernel drops the peer's packets",
            f"{_loosen(local)}, or correct the route",
        )
    if cable.overlay and cable.overlay.device in strict:
        affected = True
        device = cable.overlay.device
        yield warn(
            "rp_filter",
            f"rp_filter is strict on {device}: the kernel may drop packets from"
            f" {cable.remote.cluster} whose source isn't routed through {device}",
            _loosen(device),
        )
    if evidence.rp_filters and not affected:
        values = ", ".join(f"{device}: {value}" for device, value in evidence.rp_filters.items())
        yield ok("rp_filter", f"effective rp_filter on {values}")


def _loosen(device: str) -> str:
    return f"sudo sysctl -w net/ipv4/conf/{device}/rp_filter=2"  # slashes: a name may have a dot


def check_forwarding(cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    """Check that packets of hosts behind this gateway are forwarded."""
    off = [device for device, forwards in evidence.forwarding.items() if not forwards]
    if off:
        subnets = (subnet for subnet, device in evidence.subnet_devices.items() if device in off)
        behind = ", ".join(subnets)
        hosts = f"hosts of {behind}" if behind else "hosts behind this gateway"
        name = "ipv4.ip_forward" if cable.local.address.version == 4 else "ipv6.conf.all.forwarding"
        yield warn(
            "forwarding",
            f"forwarding is off on {', '.join(off)}: {hosts} can't use the cable",
            f"sudo sysctl -w net.{name}=1, if there are hosts behind this gateway",
        )
    elif evidence.forwarding:
        yield ok("forwarding", f"on: {', '.join(evidence.forwarding)}")


def check_ports(host: HostEvidence, cable: Cable | None) -> Iterator[Finding]:
    """Check whether another program or device holds a port that pluto or the overlay needs."""
    conflicts = [*_ike_conflicts(host, cable), *(_overlay_conflicts(host, cable) if cable else ())]
    yield from conflicts
    if not conflicts:
        yield ok("ports", "no other program has bound a port that pluto or the overlay needs")


def _ike_conflicts(host: HostEvidence, cable: Cable | None) -> Iterator[Finding]:
    local = str(cable.local.address) if cable else ""
    for port in sorted({*PLUTO_PORTS, *((cable.ike_port(cable.local),) if cable else ())}):
        for socket in host.sockets:
            bound = socket.port == port and (not local or socket.covers(local))
            holder_unknown = socket.holder is None and not host.root
            by_pluto = socket.holder is not None and socket.holder.name == PLUTO
            if bound and not holder_unknown and not by_pluto:
                free = "stop that process" if socket.holder else "free that port"
                yield fail(
                    "ports",
                    f"UDP {port} of {socket.address} is held by {_holder(host, socket)}",
                    f"{free}, then: sudo ipsec whack --listen",
                )


def _overlay_conflicts(host: HostEvidence, cable: Cable) -> Iterator[Finding]:
    wanted = cable.overlay
    if wanted is None:
        return
    for socket in host.sockets:
        if wanted.port and socket.port == wanted.port_number and socket.holder:
            yield fail(
                "ports",
                f"UDP {socket.port}, the overlay's port, is held by {socket.holder}",
                f"stop that process, or choose another {wanted.kind}.port in the file of both ends",
            )
    for rival in rivals.rivals(cable, host.links):
        if rival.name in _clear_text_rivals(host, cable):
            continue
        reason, device, remedy = rival.clash.reason, wanted.device, rivals.remedy(cable, rival)
        if rival.present:
            evidence = f"{rival.name} {reason}: the kernel doesn't allow {device} beside it"
            yield fail("ports", evidence, remedy)
        else:
            evidence = f"{rival.name} {reason}, and is down: it can't come up beside {device}"
            yield warn("ports", evidence, remedy)


def check_clear_text(host: HostEvidence, cable: Cable) -> Iterator[Finding]:
    """Check whether another device has the overlay's identity, and may send without IPsec."""
    wanted = cable.overlay
    if wanted is None or cable.mode is Mode.NONE:
        return
    kind, info = overlay_of(wanted).link_info(cable)
    keys = overlay_of(wanted).identity or tuple(info)
    identity = ", ".join(f"{_LABELS.get(key, key)} {info[key]}" for key in keys)
    found = _clear_text_rivals(host, cable)
    for name in found:
        yield fail(
            "clear text",
            f"{name} is a {kind} device with this cable's {identity}, but cablectl didn't create it"
            f" for this cable: the kernel allows no second one, and {name} may send in clear text",
            "choose another VNI or key in the file of both ends, or remove"
            f" {name} if nobody needs it",
        )
    if not found:
        yield ok("clear text", f"no other {kind} device has {identity}")


def _clear_text_rivals(host: HostEvidence, cable: Cable) -> list[str]:
    """Return the other devices that have the overlay's identity, if the cable has IPsec."""
    wanted = cable.overlay
    if wanted is None or cable.mode is Mode.NONE:
        return []
    kind, info = overlay_of(wanted).link_info(cable)
    keys = overlay_of(wanted).identity or tuple(info)
    return [
        name
        for name, link in host.links.items()
        if link.kind == kind
        and all(link.info.get(key) == info[key] for key in keys)
        and not (link.ours and name == wanted.device)
    ]


def _holder(host: HostEvidence, socket: Socket) -> str:
    if socket.holder:
        return str(socket.holder)
    devices = [name for name, link in host.links.items() if link.info.get("port") == socket.port]
    return f"the kernel, for the device {' or '.join(devices)}" if devices else "the kernel"


def check_peer(cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    """Check that the peer answers IKE on the cable's port; UDP 500 shows whether it is up."""
    if cable.mode is Mode.NONE:
        return
    if not evidence.replies:
        yield ok("peer", _skipped(cable, evidence))
        return
    wanted = cable.ike_port(cable.remote)
    for port, reply in evidence.replies.items():
        result = f"{cable.remote_host} UDP {port} {_result(reply)}"
        if port != wanted:
            yield ok("peer", f"{result}; the cable doesn't use it")
        elif not reply.answer:
            if reply == Reply():
                result += "".join(f", but UDP {other} does" for other in _responding(evidence))
            yield fail("peer", result, _remedy(cable, reply, evidence))
        elif reply.answer == "NO_PROPOSAL_CHOSEN":
            reason = f"the peer has no connection for {cable.local.address} yet"
            remedy = f"run connect on {cable.remote.short_hostname} with the same file"
            yield warn("peer", f"{result}: {reason}", remedy)
        else:
            yield ok("peer", result)


def _skipped(cable: Cable, evidence: CableEvidence) -> str:
    if not (evidence.local_device and evidence.route.device):
        return "skipped: this host has no path to the peer"
    if any(connection.remote.host is None for connection in cable.connections):
        return "skipped: the client's address isn't known"
    return "skipped: the cable takes up all traffic to the peer"


def _responding(evidence: CableEvidence) -> list[int]:
    """Return the peer's ports that answered or refused."""
    return [port for port, reply in evidence.replies.items() if reply.answer or reply.refused]


def _result(reply: Reply) -> str:
    if reply.answer:
        return f"answers IKE_SA_INIT with {reply.answer}"
    if reply.refused:
        return "is closed"
    return f"can't be reached: {reply.error}" if reply.error else "doesn't respond"


def _remedy(cable: Cable, reply: Reply, evidence: CableEvidence) -> str:
    hostname = cable.remote.short_hostname
    if reply.refused:
        return f"start pluto on {hostname}, and check that it listens on that address and port"
    if reply.error:
        return f"check that {hostname} is up, and check this host's firewall and routes"
    if _responding(evidence):
        return f"allow this port in the firewalls of this host, of {hostname} and in between"
    return (
        f"check that {hostname} is up, and that no firewall on this host, on {hostname} or in"
        " between drops the port"
    )
