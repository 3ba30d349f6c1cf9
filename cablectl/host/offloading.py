"""Facts of offload: the features of NIC and kernel, and where the SAs are."""

from functools import cache

from cablectl.errors import HostNotReadyError
from cablectl.host import daemon, ipsec_state, kernel, privilege
from cablectl.host.ipsec_state import Xfrm
from cablectl.host.paths import ways
from cablectl.libreswan import pluto
from cablectl.linux import esp_offload, xfrm
from cablectl.model.cable import Cable
from cablectl.model.connection import Connection
from cablectl.model.wishes import Encapsulation, Offload


def offload_of(cables: tuple[Cable, ...]) -> list[esp_offload.OffloadReport]:
    """Return the offload of a file's cables."""
    privilege.refuse_others_than_root()
    way_to = ways(cables[0].local.address, (cable.remote_host for cable in cables))
    nic_of, xfrm_of_all = cache(kernel.nic), ipsec_state.xfrm_state()
    return [
        _offload(
            cable.remote.cable_name,
            cable.connections,
            nic_of(way.device) if (way := way_to.get(cable.remote_host)) else None,
            xfrm_of_all,
            asked=cable.ipsec.offload,
            encapsulation=cable.encapsulation,
        )
        for cable in cables
    ]


def offload_of_all() -> list[esp_offload.OffloadReport]:
    """Return the offload of every cable in pluto; HostNotReadyError if pluto isn't running."""
    privilege.refuse_others_than_root()
    status = daemon.pluto_status()
    if status is None:
        raise HostNotReadyError(
            "pluto isn't running, so cables can't be listed",
            hint="sudo systemctl start ipsec, or give the cable's file",
        )
    found = pluto.cables(status.connections)
    hosts = {
        name: (connections[0].local.host, connections[0].remote.host)
        for name, connections in found.items()
    }
    ways_from = {
        local: ways(local, [to for host, to in hosts.values() if host == local and to])
        for local in {host for host, _ in hosts.values() if host}
    }
    reports, nic_of, xfrm_of_all = [], cache(kernel.nic), ipsec_state.xfrm_state()
    for name, connections in found.items():
        local, remote = hosts[name]
        way = ways_from[local].get(remote) if local and remote else None
        nic = nic_of(way.device) if way else None
        reports.append(_offload(name, connections, nic, xfrm_of_all))
    return reports


def _offload(
    name: str,
    connections: tuple[Connection, ...],
    nic: esp_offload.Nic | None,
    xfrm_of_all: Xfrm,
    asked: Offload | None = None,
    encapsulation: Encapsulation | None = None,
) -> esp_offload.OffloadReport:
    version = connections[0].local.network.version if connections else 4
    module = esp_offload.modules(version)[-1]
    return esp_offload.OffloadReport(
        cable=name,
        asked=asked,
        encapsulation=encapsulation,
        nic=nic,
        module=module,
        loaded=kernel.has_module(module),
        sas=xfrm.sas_of(connections, *xfrm_of_all),
    )
