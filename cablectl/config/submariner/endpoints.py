"""Endpoints: the gateways of the equivalent file."""

from cablectl.config.submariner.equivalent import Equivalent, as_bool, as_number
from cablectl.config.submariner.objects import Field, Object
from cablectl.config.values import legible
from cablectl.model.wishes import Mode

VXLAN_DRIVER_PORT = 4500  # the default of Submariner's VXLAN driver
# The fields of the file's endpoint, each with the field of Submariner's Endpoint.
_ENDPOINT_FIELDS = {
    "cluster": "cluster_id",
    "hostname": "hostname",
    "address": "private_ip",
    "subnets": "subnets",
}


class Endpoints:
    """Reads the gateways into the equivalent file, which has its settings already."""

    def __init__(self, file: Equivalent) -> None:
        self._file = file

    def read(self) -> None:
        """Read the gateways, in the order of the documents."""
        endpoints = self._file.of_kind("Endpoint")
        flags = [flag for endpoint in endpoints if (flag := endpoint.spec("nat_enabled"))]
        values = [self._file.read(flag, as_bool) for flag in flags]  # reports every wrong flag
        nat = any(values)
        tunnel = self._file.value["mode"] == Mode.TUNNEL.value
        if nat and not tunnel:
            mode = legible(self._file.value["mode"])
            self._file.notes.append(
                f"nat_enabled is ignored: mode {mode} doesn't pass NAT,"
                " so the gateways have to reach each other's private_ip"
            )
        if endpoints:
            self._file.value["endpoints"] = [{} for _ in endpoints]
        for i, endpoint in enumerate(endpoints):
            self._read_endpoint(i, endpoint, nat=nat and tunnel)
        if not self._file.is_clear_text:
            self._read_servers(endpoints)
        self._read_ports(endpoints)

    def _read_endpoint(self, i: int, endpoint: Object, *, nat: bool) -> None:
        self._file.places[("endpoints", i)] = endpoint.place("spec")
        for name, submariner_name in _ENDPOINT_FIELDS.items():
            self._file.places[("endpoints", i, name)] = endpoint.place("spec", submariner_name)
            entry = endpoint.spec(submariner_name)
            if not entry:
                continue
            self._file.put(("endpoints", i, name), entry.value, entry.place)
            if isinstance(entry.value, list):
                for j, _ in enumerate(entry.value):
                    item_place = endpoint.place("spec", submariner_name, j)
                    self._file.places[("endpoints", i, name, j)] = item_place
        public = endpoint.spec("public_ip")
        if nat and public and public.value != endpoint.text("private_ip"):
            self._file.put(("endpoints", i, "public_address"), public.value, public.place)
        usual = f"submariner-cable-{endpoint.text('cluster_id')}-{endpoint.text('private_ip')}"
        cable_name = endpoint.text("cable_name")
        if cable_name and cable_name != usual.replace(".", "-").replace(":", "-"):
            self._file.notes.append(
                f"cable_name {legible(cable_name)} is ignored: connections get the usual names"
            )

    def _read_servers(self, endpoints: list[Object]) -> None:
        """Read preferred_server; if one end has it true, an end that doesn't state it is null.

        That is what Submariner does. An endpoint's own field comes first, then the resource of
        the endpoint's cluster.
        """
        by_cluster: dict[str, Field] = {}
        for resource in self._file.of_kind("Submariner"):
            if prefers := resource.spec("ceIPSecPreferredServer"):
                by_cluster.setdefault(resource.text("clusterID"), prefers)
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
