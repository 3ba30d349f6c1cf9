"""Endpoints: the gateways of the equivalent file."""

from cablectl.config.submariner.equivalent import Equivalent, as_bool, as_number
from cablectl.config.submariner.families import (
    Addresses,
    addresses,
    chosen_version,
    is_within,
    version_of,
)
from cablectl.config.submariner.objects import Field, Object
from cablectl.config.submariner.sites import End, Sites
from cablectl.config.values import legible
from cablectl.model.network import MAX_LISTED
from cablectl.model.wishes import CABLE, Mode, OverlayKind

VXLAN_DRIVER_PORT = 4500  # the default of Submariner's VXLAN driver
NONE = OverlayKind.NONE.value
_LOAD_BALANCER = ("backend_config", "using-loadbalancer")


class Endpoints:
    """Reads the gateways into the equivalent file, which has its settings already."""

    def __init__(self, file: Equivalent) -> None:
        self._file = file

    def read(self) -> None:
        """Read the gateways, in the order of the documents."""
        endpoints = self._file.of_kind("Endpoint")
        if endpoints:
            self._file.value["endpoints"] = [{} for _ in endpoints]
        version = chosen_version(endpoints, self._file.problems)
        found = [addresses(endpoint, version) for endpoint in endpoints]
        for i, (endpoint, of_end) in enumerate(zip(endpoints, found, strict=True)):
            self._read_names(i, endpoint)
            self._read_address(i, endpoint, of_end)
        self._read_sites(endpoints, found)
        for i, (endpoint, of_end) in enumerate(zip(endpoints, found, strict=True)):
            self._read_subnets(i, endpoint, of_end)
            self._read_health_address(i, endpoint, of_end)
        self._tell_other_version(endpoints, found, version)
        if not self._file.is_clear_text:
            self._read_servers(endpoints)
        self._read_ports(endpoints)

    def _read_names(self, i: int, endpoint: Object) -> None:
        self._file.places[("endpoints", i)] = endpoint.place("spec")
        for name, submariner_name in (("cluster", "cluster_id"), ("hostname", "hostname")):
            self._put(i, name, endpoint.spec(submariner_name), endpoint, submariner_name)

    def _read_address(self, i: int, endpoint: Object, found: Addresses) -> None:
        self._put(i, "address", found.private, endpoint, "private_ip")
        private = str(found.private.value) if found.private else ""
        given = endpoint.spec("private_ip")
        if given and version_of(given.value) == version_of(private) and given.value != private:
            self._file.notes.append(
                f"private_ip {legible(given.value)} is ignored: private_ips has {legible(private)}"
            )
        usual = f"{CABLE}{endpoint.text('cluster_id')}-{private}"
        cable_name = endpoint.text("cable_name")
        if cable_name and cable_name != usual.replace(".", "-").replace(":", "-"):
            self._file.notes.append(
                f"cable_name {legible(cable_name)} is ignored: connections get the usual names"
            )

    def _read_sites(self, endpoints: list[Object], found: list[Addresses]) -> None:
        """Read who reaches whom at which address: public_address and site."""
        ends = [
            End(
                cluster=endpoint.text("cluster_id"),
                cable_name=endpoint.text("cable_name"),
                private=of_end.private,
                public=of_end.public,
                natted=self._is_natted(endpoint),
            )
            for endpoint, of_end in zip(endpoints, found, strict=True)
        ]
        sites = Sites(self._file, ends)
        if not sites.nat:
            return
        tunnel = self._file.value["mode"] == Mode.TUNNEL.value
        if tunnel or sites.only_one:
            sites.tell()
        else:
            mode = legible(self._file.value["mode"])
            self._file.notes.append(
                f"nat_enabled is ignored: mode {mode} doesn't pass NAT,"
                " so the gateways have to reach each other's private_ip"
            )
        if not tunnel or sites.only_one:
            return
        located = zip(ends, sites.names(), sites.public(), strict=True)
        for i, (end, site, is_public) in enumerate(located):
            if is_public and end.translated:
                self._put(i, "public_address", end.public, endpoints[i], "public_ip")
            if site:
                place = end.public.place if end.public else endpoints[i].place("spec")
                self._file.put(("endpoints", i, "site"), site, place)

    def _is_natted(self, endpoint: Object) -> bool:
        """Return whether Submariner takes the public address if it can't find out more."""
        flags = [endpoint.spec("nat_enabled"), endpoint.spec(*_LOAD_BALANCER)]
        values = [self._file.read(flag, as_bool) for flag in flags if flag]
        return any(values)

    def _read_subnets(self, i: int, endpoint: Object, found: Addresses) -> None:
        entry = endpoint.spec("subnets")
        is_list = entry is not None and isinstance(entry.value, list)
        if entry and is_list:
            entry = Field([subnet.value for subnet in found.subnets], entry.place)
        self._put(i, "subnets", entry, endpoint, "subnets")
        for j, subnet in enumerate(found.subnets):
            self._file.places[("endpoints", i, "subnets", j)] = subnet.place

    def _read_health_address(self, i: int, endpoint: Object, found: Addresses) -> None:
        """Read healthCheckIP where echoes need it: between subnets, if it is in one of them."""
        value = self._file.value
        is_used = value["mode"] == Mode.TUNNEL.value and value.get("overlay", NONE) == NONE
        if not found.health or not is_used:
            return
        if is_within(found.health.value, [subnet.value for subnet in found.subnets]):
            self._put(i, "health_address", found.health, endpoint, "healthCheckIP")
        else:
            address = legible(found.health.value)
            self._file.notes.append(f"healthCheckIP {address} is ignored: it is in no subnet")

    def _tell_other_version(
        self, endpoints: list[Object], found: list[Addresses], version: int
    ) -> None:
        """Add a note for each endpoint, up to MAX_LISTED, of what isn't in the file."""
        other_version = 6 if version == 4 else 4
        with_other = [(i, of_end.other) for i, of_end in enumerate(found) if of_end.other]
        for i, other in with_other[:MAX_LISTED]:
            cluster, more = legible(endpoints[i].text("cluster_id")), len(other) - MAX_LISTED
            listed = ", ".join(other[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
            self._file.notes.append(
                f"IPv{other_version} of {cluster} is left out, since a file has one version of IP:"
                f" {listed}"
            )
        more = len(with_other) - MAX_LISTED
        if more > 0:
            self._file.notes.append(
                f"IPv{other_version} of {more} more endpoints is left out as well"
            )

    def _put(
        self, i: int, name: str, entry: Field | None, endpoint: Object, submariner_name: str
    ) -> None:
        """Set a field of an endpoint; of a missing one, only the place."""
        path = ("endpoints", i, name)
        if entry:
            self._file.put(path, entry.value, entry.place)
        else:
            self._file.places[path] = endpoint.place("spec", submariner_name)

    def _read_servers(self, endpoints: list[Object]) -> None:
        """Read preferred_server; if one end has it true, an end that doesn't state it is null.

        That is what Submariner does. An endpoint's own field comes first, then the resource of
        the endpoint's cluster.
        """
        by_cluster: dict[str, Field] = {}
        for resource in self._file.of_kind("Submariner"):
            if prefers := resource.spec("ceIPSecPreferredServer"):
                earlier = by_cluster.setdefault(resource.text("clusterID"), prefers)
                if earlier.value != prefers.value:
                    self._file.differs(prefers, earlier)
        entries: list[Field | None] = [
            endpoint.spec("backend_config", "preferred-server")
            or by_cluster.get(endpoint.text("cluster_id"))
            for endpoint in endpoints
        ]
        values = [self._file.read(entry, as_bool) if entry else None for entry in entries]
        if not any(values):
            return
        for i, (entry, value) in enumerate(zip(entries, values, strict=True)):
            place = entry.place if entry else self._file.places[("endpoints", i)]
            self._file.put(("endpoints", i, "preferred_server"), value, place)

    def _read_ports(self, endpoints: list[Object]) -> None:
        """Read the UDP ports: of IKE, or of VXLAN in clear text."""
        entries = [endpoint.spec("backend_config", "udp-port") for endpoint in endpoints]
        ports = [(entry, self._file.read(entry, as_number)) for entry in entries if entry]
        if self._file.is_clear_text:
            place = ports[0][0].place if ports else self._file.places[()]
            self._file.put(("vxlan", "port"), ports[0][1] if ports else VXLAN_DRIVER_PORT, place)
            for entry, number in ports:
                if number != ports[0][1]:
                    self._file.refuse(entry, f"{ports[0][1]}, like the first endpoint")
        elif ports and len(ports) == len(endpoints) and len({number for _, number in ports}) == 1:
            self._file.put(("ipsec", "ike_port"), ports[0][1], ports[0][0].place)
        else:
            for i, port in enumerate(entries):
                if port:
                    number = self._file.read(port, as_number)
                    self._file.put(("endpoints", i, "ike_port"), number, port.place)
