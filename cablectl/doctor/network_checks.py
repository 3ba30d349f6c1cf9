"""Checks of the way between the ends: address, route, MTU, filters, ports, and who answers."""

from collections.abc import Iterator

from cablectl.doctor.evidence import Ends, Host, Reply
from cablectl.doctor.finding import Finding, fail, ok, warn
from cablectl.errors import UsageError
from cablectl.facts.host_facts import Facts
from cablectl.libreswan.dialects import LATEST
from cablectl.linux.overlay.registry import overlay_of
from cablectl.linux.sockets import PLUTO, Socket
from cablectl.model.cable import Cable
from cablectl.model.wishes import PLUTO_PORTS, Mode
from cablectl.plan.connect_plan import overlay_mtu

STRICT = 1  # rp_filter, RFC 3704
LEAST_MTU = {4: 576, 6: 1280}  # bytes that have to pass: RFC 791, RFC 8200 (section 5)
_WORDS = {"id": "VNI", "ikey": "key in", "okey": "key out"}  # what `ip -d -j link` calls them


def address(cable: Cable, ends: Ends) -> Iterator[Finding]:
    """Whether this host holds the local end's address."""
    local = cable.local
    if ends.held_by:
        yield ok("address", f"{local.address} is on {ends.held_by}")
    else:
        yield fail(
            "address",
            f"this host doesn't hold {local.address}, the address of {local.cluster}",
            "give it that address, correct the file, or say which end this is with --local",
        )


def route(cable: Cable, ends: Ends) -> Iterator[Finding]:
    """Whether there is a way to the peer."""
    there = ends.route
    if there.device:
        yield ok("route", f"{cable.remote_host} is reached by {there.device}")
    else:
        yield fail(
            "route",
            f"no route from {cable.local.address} to {cable.remote_host}: {there.error}",
            "see `ip route`; add one to the peer, or a default route",
        )


def mtu(cable: Cable, ends: Ends) -> Iterator[Finding]:
    """Whether the overlay's MTU fits the path, as far as route and NIC tell it."""
    wanted, size = cable.overlay, ends.route.mtu
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
            f"a path of {size} bytes leaves {largest} for {wanted.device}",
            f"see the MTU of {ends.route.device} and of the route: {least} are needed inside",
        )
    else:
        yield ok("mtu", f"a path of {size} bytes carries {largest} on {wanted.device}")


def filters(cable: Cable, ends: Ends) -> Iterator[Finding]:
    """Whether packets are dropped since the way back to their source is another (RFC 3704)."""
    strict = {device for device, value in ends.filters.items() if value == STRICT}
    inward, outward = ends.held_by, ends.route.device
    found = False
    if inward in strict and outward not in ("", inward):
        found = True
        yield fail(
            "rp_filter",
            f"{inward} filters strictly, and the route back to {cable.remote_host} leaves by"
            f" {outward}: what the peer sends is dropped",
            f"echo 2 >/proc/sys/net/ipv4/conf/{inward}/rp_filter, or correct the route",
        )
    if cable.overlay and cable.overlay.device in strict:
        found = True
        yield warn(
            "rp_filter",
            f"{cable.overlay.device} filters strictly: what comes from {cable.remote.cluster}"
            " and isn't routed back there may be dropped",
            f"echo 2 >/proc/sys/net/ipv4/conf/{cable.overlay.device}/rp_filter",
        )
    if ends.filters and not found:
        told = ", ".join(f"{device} {value}" for device, value in ends.filters.items())
        yield ok("rp_filter", f"the larger of all and its own: {told}")


def forwarding(cable: Cable, ends: Ends) -> Iterator[Finding]:
    """Whether hosts behind this gateway are let through: the gateway's own packets need nothing."""
    deaf = [device for device, forwards in ends.forwards.items() if not forwards]
    if deaf:
        behind = ", ".join(subnet for subnet, device in ends.inner.items() if device in deaf)
        what = f"hosts of {behind} can't use the cable" if behind else "nothing passes through"
        name = "ipv4.ip_forward" if cable.local.address.version == 4 else "ipv6.conf.all.forwarding"
        yield warn(
            "forwarding",
            f"{', '.join(deaf)} doesn't forward: {what}",
            f"sysctl -w net.{name}=1, if there are hosts behind this one",
        )
    elif ends.forwards:
        yield ok("forwarding", f"{', '.join(ends.forwards)} forwards")


def ports(host: Host, cable: Cable | None) -> Iterator[Finding]:
    """Whether somebody else has a port that pluto or the overlay needs."""
    conflicts = [*_ike_conflicts(host, cable), *(_overlay_conflicts(host, cable) if cable else ())]
    yield from conflicts
    if not conflicts:
        yield ok("ports", "nobody else has a port that pluto or the overlay needs")


def _ike_conflicts(host: Host, cable: Cable | None) -> Iterator[Finding]:
    local = str(cable.local.address) if cable else ""
    for port in sorted({*PLUTO_PORTS, *((cable.ike_port(cable.local),) if cable else ())}):
        for socket in host.sockets:
            taken = socket.port == port and (not local or socket.covers(local))
            hidden = socket.holder is None and not host.root
            if taken and not hidden and not (socket.holder and socket.holder.name == PLUTO):
                yield fail(
                    "ports",
                    f"UDP {port} of {socket.address} is held by {_holder(host, socket)}",
                    "stop that, then: ipsec whack --listen",
                )


def _overlay_conflicts(host: Host, cable: Cable) -> Iterator[Finding]:
    wanted = cable.overlay
    if wanted is None:
        return
    for socket in host.sockets:
        if wanted.port and socket.port == wanted.port_number and socket.holder:
            yield fail(
                "ports",
                f"UDP {socket.port}, the overlay's, is held by {socket.holder}",
                f"stop it, or take another {wanted.kind}.port in both files",
            )


def clear_text(host: Host, cable: Cable) -> Iterator[Finding]:
    """Whether another device speaks the overlay's own protocol, which no IPsec need protect."""
    wanted = cable.overlay
    if wanted is None or cable.mode is Mode.NONE:
        return
    overlay = overlay_of(wanted)
    kind, info = overlay.link_info(cable)
    which = overlay.identity or tuple(info)
    called = ", ".join(f"{_WORDS.get(key, key)} {info[key]}" for key in which)
    found = [
        name
        for name, link in host.links.items()
        if link.kind == kind
        and all(link.info.get(key) == info[key] for key in which)
        and not (link.ours and name == wanted.device)
    ]
    for name in found:
        yield fail(
            "clear text",
            f"{name} is a {kind} with the cable's own {called}, and cablectl didn't make it for"
            " this cable: the kernel takes no second one, and that one may send in clear text",
            f"take another VNI, or key, in both files; or remove {name}, if nobody needs it",
        )
    if not found:
        yield ok("clear text", f"no other {kind} has {called}")


def _holder(host: Host, socket: Socket) -> str:
    if socket.holder:
        return str(socket.holder)
    devices = [name for name, link in host.links.items() if link.info.get("port") == socket.port]
    return f"the kernel, for the device {' or '.join(devices)}" if devices else "the kernel"


def peer(cable: Cable, ends: Ends) -> Iterator[Finding]:
    """Whether the peer answers IKE at the file's port; 500 shows whether it is there at all."""
    if cable.mode is Mode.NONE:
        return
    if not ends.replies:
        yield ok("peer", _not_asked(cable, ends))
        return
    wanted = cable.ike_port(cable.remote)
    for port, reply in ends.replies.items():
        where = f"{cable.remote_host} UDP {port}"
        if port != wanted:
            yield ok("peer", f"{where} {_says(reply)}; the file has {wanted}")
        elif not reply.answer:
            silent = reply == Reply()
            but = "".join(f", and UDP {each} is not" for each in _heard(ends) if silent)
            yield fail("peer", f"{where} {_says(reply)}{but}", _remedy(cable, reply, ends))
        elif reply.answer == "NO_PROPOSAL_CHOSEN":
            what = f"it has no connection for {cable.local.address} yet"
            remedy = f"connect on {cable.remote.hostname}, with the same file"
            yield warn("peer", f"{where} {_says(reply)}: {what}", remedy)
        else:
            yield ok("peer", f"{where} {_says(reply)}")


def _not_asked(cable: Cable, ends: Ends) -> str:
    if not (ends.held_by and ends.route.device):
        return "not asked: there is no way there"
    if any(each.remote.host is None for each in cable.connections):
        return "not asked: the client may be anywhere"
    return "not asked: all that this host sends there is the cable's own"


def _heard(ends: Ends) -> list[int]:
    """Return the ports from which anything came back."""
    return [port for port, each in ends.replies.items() if each.answer or each.refused]


def _says(reply: Reply) -> str:
    if reply.answer:
        return f"answers IKE_SA_INIT with {reply.answer}"
    if reply.refused:
        return "refuses: nobody has that port"
    return f"can't be asked: {reply.error}" if reply.error else "is silent"


def _remedy(cable: Cable, reply: Reply, ends: Ends) -> str:
    if reply.refused:
        return f"start pluto on {cable.remote.hostname}, and see that it listens there"
    if reply.error:
        return f"is {cable.remote.hostname} up? See this host's firewall and routes as well"
    if _heard(ends):
        return "the peer is there: a firewall here, there or on the way drops this port"
    return f"is {cable.remote.hostname} up? Does a firewall here, there or on the way drop it?"
