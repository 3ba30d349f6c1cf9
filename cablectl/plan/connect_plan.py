"""Cables and facts become the plan that brings the cables up."""

from collections.abc import Iterator

from cablectl.errors import CablectlError, HostNotReadyError, UsageError
from cablectl.facts import earlier_devices, orientation, rivals, table
from cablectl.facts.host_facts import Credential, Facts, Pluto
from cablectl.libreswan import dialects, pluto
from cablectl.libreswan.authentication import authentication_of
from cablectl.linux import esp_offload, guard, mss, mtu, xfrm
from cablectl.linux.firewall import remedies, rewriting
from cablectl.linux.overlay.registry import headers_of, overlay_of
from cablectl.model.cable import Cable
from cablectl.model.ranges import FIPS_SA_LIFETIME
from cablectl.model.wishes import Encapsulation, Mode, Offload, OverlayWish
from cablectl.plan import clamp, device, ipsec, moved_host, stale_peers
from cablectl.plan.steps import WAIT_LIMIT, Action, Phase, Plan, Step, in_order


def plan(
    cables: tuple[Cable, ...],
    facts: tuple[Facts, ...],
    *,
    wait: bool = True,
    limit: float = WAIT_LIMIT,
    narrowed: bool = False,
) -> Plan:
    """Return the plan that brings the cables up, starting from the facts.

    Unless `narrowed`, the cables are all cables of the file, and stale peers are removed.
    UsageError if the wanted MTU is too large, or if Libreswan can't do what the file asks.
    HostNotReadyError if something on the host isn't cablectl's own. If other cables are left, the
    plan refuses only the cables concerned.
    """
    refused: dict[str, CablectlError] = {}
    pairs, sizes = [], []
    for cable, of_cable in zip(cables, facts, strict=True):
        try:
            sizes.append(_checked(cable, of_cable))
            pairs.append((cable, of_cable))
        except CablectlError as error:
            refused[cable.id] = error
    if not pairs:
        raise next(iter(refused.values()))
    first, _ = pairs[0]
    steps: list[Step] = []
    if first.overlay:
        sizes = [_size(pairs, sizes, narrowed=narrowed and first.shares_device)] * len(pairs)
    if any(sizes):
        steps += clamp.steps(pairs, sizes, narrowed=narrowed)
    if first.mode is not Mode.NONE:
        steps += ipsec.steps(pairs, wait=wait, limit=limit)
    removals = [*stale_peers.former_cables(pairs)]
    if first.overlay:
        steps += moved_host.device(pairs, first.overlay, sizes[0])
        present = moved_host.without_neighbours(pairs)
        steps += device.steps(present, first.overlay, sizes[0], narrowed=narrowed)
        steps += moved_host.addresses(pairs, first.overlay)
        shared = narrowed and first.shares_device
        stale = () if shared else stale_peers.steps(present, first.overlay)
        steps += [step for step in stale if step.phase is Phase.UNLOAD]
        removals += [step for step in stale if step.phase is not Phase.UNLOAD]
    return Plan(
        action=Action.CONNECT,
        cables=tuple(cable for cable, _ in pairs),
        facts=tuple(of_cable for _, of_cable in pairs),
        steps=(*in_order(steps), *in_order(removals)),
        refused=refused,
        warnings=tuple(dict.fromkeys(line for pair in pairs for line in _warnings(*pair))),
    )


def _size(pairs: ipsec.Pairs, sizes: list[int], *, narrowed: bool) -> int:
    """Return the largest MTU that fits all peers of the device, in bytes."""
    overlay = pairs[0][1].overlay
    others = [overlay.link.mtu] if narrowed and overlay.stale_peers and overlay.link else []
    return min(sizes + others)


def _checked(cable: Cable, facts: Facts) -> int:
    """Return the largest packet that the cable carries, in bytes; raise what prevents the cable.

    With an overlay it is the device's MTU; it is 0 for a cable that carries no subnets.
    """
    _refuse_unknown_algorithms(cable, facts)
    _refuse_a_lifetime_that_is_cut(cable, facts)
    if cable.remote_host == cable.local.address and any(each.routed for each in cable.connections):
        raise UsageError(
            f"{cable.remote.cluster} can't be reached: it has this gateway's own address,"
            f" {cable.local.address}, and no public_address",
            hint="name the peers that can be reached with --peer, or add the public_address",
        )
    if not facts.holds_address:
        message, hint = orientation.cause(cable, facts)
        raise HostNotReadyError(message, hint=hint)
    if facts.not_ready:
        message, hint = facts.not_ready[0]
        raise HostNotReadyError(message, hint=hint)
    if cable.connections:
        _refuse_a_pluto_that_is_not_ready(cable, facts)
        _refuse_software(cable, facts)
    if not cable.overlay:
        return mss.tunnel_mtu(cable, facts.path_mtu) if cable.joins_subnets else 0
    _refuse_a_device_that_is_not_ours(cable, facts, cable.overlay)
    _refuse_a_rival(cable, facts, cable.overlay)
    _refuse_a_table_that_is_not_ours(cable, facts)
    return overlay_mtu(cable, facts, cable.overlay)


def overlay_mtu(cable: Cable, facts: Facts, wanted: OverlayWish) -> int:
    """Return the device's MTU in bytes: the file's, or the largest that fits the path."""
    version, headers = cable.local.address.version, headers_of(cable, wanted)
    if cable.mode is Mode.NONE:
        largest = mtu.clear(facts.path_mtu, headers, version=version)
    else:
        largest = mtu.protected(
            facts.path_mtu,
            headers,
            version=version,
            encapsulated=cable.encapsulation is not Encapsulation.NO,
            esp=cable.ipsec.esp,
        )
    asked = wanted.mtu
    if asked and asked > largest:
        raise UsageError(
            f"{wanted.kind}.mtu: {asked} is too large by {asked - largest}"
            f" for a path of {facts.path_mtu} bytes",
            hint=f"at most {largest}, or auto",
        )
    return asked or largest


def _refuse_unknown_algorithms(cable: Cable, facts: Facts) -> None:
    proposals = [name for name in cable.ipsec.ike if "mlkem" in name.replace("_", "")]
    if proposals and facts.libreswan < dialects.ML_KEM_SINCE:
        raise UsageError(
            f"ipsec.ike: Libreswan {facts.libreswan} has no ML-KEM: {proposals[0]}",
            hint=f"remove this proposal, or install Libreswan {dialects.ML_KEM_SINCE} or later",
        )
    if facts.algorithms.refused:
        raise UsageError(
            f"ipsec: Libreswan {facts.libreswan} doesn't accept the file's algorithms:"
            f" {facts.algorithms.refused}",
            hint="correct ipsec.ike, ipsec.esp or ipsec.pfs_group; see `ipsec algparse`",
        )


def _refuse_a_lifetime_that_is_cut(cable: Cable, facts: Facts) -> None:
    lifetime = cable.ipsec.sa_lifetime
    if facts.fips and lifetime and lifetime > FIPS_SA_LIFETIME:
        raise UsageError(
            f"ipsec.sa_lifetime: {lifetime} is too long: FIPS mode is on, in which pluto allows at"
            f" most {FIPS_SA_LIFETIME} seconds",
            hint=f"write sa_lifetime: {FIPS_SA_LIFETIME}, or less",
        )


def _refuse_a_pluto_that_is_not_ready(cable: Cable, facts: Facts) -> None:
    if facts.pluto is Pluto.DOWN:
        raise HostNotReadyError(
            "pluto isn't running, and this host has no systemd unit to start it",
            hint="start Libreswan's pluto, then try again",
        )
    if facts.pluto is Pluto.STARTABLE and _foreign_xfrm(cable, facts):
        raise HostNotReadyError(
            "pluto isn't running, and starting it would flush IPsec policies of another program",
            hint="look at `ip xfrm policy`; if they may go: sudo systemctl start ipsec",
        )
    wanted = cable.overlay
    named = wanted is not None and isinstance(wanted.port, str)
    if wanted and named and facts.service_port != wanted.port_number:
        raise HostNotReadyError(
            f"vxlan.port: /etc/services of this host has no {wanted.port} {wanted.port_number}/udp,"
            " so whack would refuse the name",
            hint=f"write port: {wanted.port_number}",
        )
    if facts.credential is Credential.OTHER:
        place = authentication_of(cable.ipsec).place(cable)
        raise HostNotReadyError(f"{place} holds another secret", hint=AGAIN)
    for connection in cable.connections:
        loaded = facts.connections.get(connection.name)
        expected = pluto.selectors(connection)
        if loaded and not facts.made_here and not loaded.joins(expected):
            raise HostNotReadyError(
                f"pluto has {connection.name} with other addresses or ports", hint=AGAIN
            )


def _refuse_software(cable: Cable, facts: Facts) -> None:
    """Refuse SAs in software if the file asks for offload, before and after they exist."""
    asked = cable.ipsec.offload
    if asked not in esp_offload.NEEDED:
        return
    if facts.nic and facts.nic.can is False:
        raise HostNotReadyError(
            f"ipsec.offload: {asked}, and {facts.nic.device} has no {esp_offload.HARDWARE}",
            hint=f"look at `ethtool -k {facts.nic.device}`, or write offload: auto",
        )
    wanted = "packet" if asked is Offload.PACKET else "crypto"
    for sa in xfrm.sas_of(cable.connections, facts.policies, facts.sas):
        if sa.offload != wanted:
            raise CablectlError(
                f"ipsec.offload: {asked}, and the SA {sa.spi} to {sa.destination} is in"
                f" {sa.offload or 'software'}",
                hint="look at `cablectl offload`, or write offload: auto",
            )


AGAIN = "run cablectl teardown with the file that made it, then connect"


def _refuse_a_device_that_is_not_ours(cable: Cable, facts: Facts, wanted: OverlayWish) -> None:
    link, ours = facts.overlay.link, str(cable.local_underlay)
    if link and not link.ours:
        raise HostNotReadyError(
            f"the device {wanted.device} exists, but cablectl didn't make it",
            hint=f"choose another name in {wanted.kind}.device, or remove the device",
        )
    earlier = earlier_devices.is_of_earlier_file(cable, facts, wanted)
    if link and not (earlier or link.fits(cable, wanted)):
        raise HostNotReadyError(
            f"the device {wanted.device} was made for another cable, port, VNI or key", hint=AGAIN
        )
    if overlay_of(wanted).leaves_by_route and facts.leaves_with not in ("", ours):
        raise HostNotReadyError(
            f"packets to {cable.remote_host} leave with the source address {facts.leaves_with},"
            " which no policy of the cable protects",
            hint=f"set the route's source address to {ours}, or write overlay: vxlan",
        )


def _refuse_a_rival(cable: Cable, facts: Facts, wanted: OverlayWish) -> None:
    """Refuse a cable whose device the kernel would refuse after the SAs are up."""
    link, others = facts.overlay.link, facts.overlay.others
    for rival in rivals.rivals(cable, {**others, **({wanted.device: link} if link else {})}):
        if rival.present:
            raise HostNotReadyError(
                f"{rival.name} {rival.clash.reason}: the kernel doesn't allow {wanted.device}"
                " beside it",
                hint=rivals.remedy(cable, rival),
            )


def _refuse_a_table_that_is_not_ours(cable: Cable, facts: Facts) -> None:
    """Refuse a table whose other routes our rule would apply to every packet of this host."""
    for problem, remedy in table.in_the_way(cable, facts.overlay):
        raise HostNotReadyError(problem, hint=remedy)


def _foreign_xfrm(cable: Cable, facts: Facts) -> bool:
    others = set(facts.sas) - set(xfrm.sas_of(cable.connections, facts.policies, facts.sas))
    return bool(others or facts.policies.keys() - xfrm.policies_of(cable.connections))


def _warnings(cable: Cable, facts: Facts) -> Iterator[str]:
    yield from facts.warnings
    if facts.algorithms.unchecked:
        yield facts.algorithms.unchecked
    for found in rewriting.rewritings(facts.nat, cable, facts.devices):
        yield f"{found.text}; try: {remedies.exemption(facts.nat, found.chain, found.samples)}"
    if cable.guarded and facts.loaded(cable) and guard.broken(cable, facts.guard):
        what = "was changed" if facts.guard else "is missing"
        yield f"the guard {what}: table {guard.name(cable)}; it is loaded again"
    if cable.mode is Mode.NONE:
        yield "mode: none: everything on the overlay is sent in clear text"
    elif cable.ipsec.dpd is None and dialects.dialect(facts.libreswan).dpd_action:
        yield (
            f"dpd: off on Libreswan {facts.libreswan}: pluto can abort when an IKE SA gets no"
            " answer; remove dpd from the file for the safe default"
        )
    if not cable.guarded and any(not connection.routed for connection in cable.connections):
        yield (
            f"this end is a server and has no trap policies before {cable.remote.cluster} connects:"
            " until then packets between the subnets follow the routes, in clear text"
        )
