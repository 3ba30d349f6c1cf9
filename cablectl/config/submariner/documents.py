"""Converts Submariner's documents into the equivalent file, with the place of each value.

The documents are: Submariner (submariner.io/v1alpha1), Endpoint (submariner.io/v1), Secret, and
the ConfigMap of the proposal's cableDriverCustomConfig. Each field has the effect that it has in
Submariner's libreswan and vxlan drivers.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from cablectl.config import native
from cablectl.config.reader import Document, Path, Place
from cablectl.config.spec import FIELDS
from cablectl.config.submariner.objects import Field, Object, Problems, block, has_objects, objects
from cablectl.config.values import legible, shown
from cablectl.errors import UsageError
from cablectl.libreswan.secrets_file import MAX_KEY
from cablectl.model.network import Network
from cablectl.model.wishes import DEFAULT_PSK, MAX_ENDPOINTS, Mode, OverlayKind

__all__ = ["VARIABLE", "Imported", "has_objects", "parse"]

VARIABLE = "CE_IPSEC_PSK"  # Submariner's driver reads the key from it
VXLAN_DRIVER_PORT = 4500  # the default of Submariner's VXLAN driver
MAX_OBJECTS = 3 * MAX_ENDPOINTS  # each cluster has an endpoint, a resource and a secret


class Imported(Struct, frozen=True):
    """The content of the documents."""

    value: dict[str, Any]  # the equivalent file
    network: Network
    key: str  # the pre-shared key; empty if the documents don't contain it
    notes: tuple[str, ...]  # ignored fields, each with the reason, for a person


def parse(texts: dict[str, str], psk_file: str = "") -> Imported:
    """Return the content of documents, given by file name; UsageError with all problems.

    The equivalent file names `psk_file` as the key's file, or VARIABLE if `psk_file` is empty.
    """
    problems: Problems = []
    found = [entry for file, text in texts.items() for entry in objects(file, text, problems)]
    if len(found) > MAX_OBJECTS:
        raise UsageError(
            f"{len(found)} objects in the documents; allowed: at most {MAX_OBJECTS}",
            hint="give only the objects of the clusters that you want to join",
        )
    converter = _Converter(found, texts, problems)
    converter.read_settings()
    key = converter.read_key(psk_file)
    converter.read_endpoints()
    value = {name: converter.value[name] for name in FIELDS if name in converter.value}
    network = native.build(Document(value, converter.places), problems)
    return Imported(value, network, key, tuple(converter.notes))


def _parse_bool(value: object) -> bool:
    """Return the boolean that Go's strconv.ParseBool reads; ValueError if it reads none."""
    text = str(value)
    if text in ("1", "t", "T", "true", "True", "TRUE"):
        return True
    if text in ("0", "f", "F", "false", "False", "FALSE"):
        return False
    raise ValueError(text)


def _number(value: object) -> int:
    return int(str(value))


def _encapsulation(value: object) -> str:
    return "yes" if _parse_bool(value) else "auto"


def _mode(value: object) -> object:
    """Return the mode; ValueError for another one, also for none, which no setting can ask for."""
    if value not in _MODES:
        raise ValueError(value)
    return value


def _unchanged(value: object) -> object:
    return value


_MODES = (Mode.TUNNEL.value, Mode.TRANSPORT.value)
_Read = Callable[[object], object]
_ALLOWED: dict[_Read, str] = {
    _parse_bool: "true, false",
    _encapsulation: "true, false",
    _number: "a port, 1 to 65535",
    _mode: ", ".join(_MODES),
}
# The file's field for each of Submariner's settings, and the function that reads the value.
_SETTINGS: dict[str, tuple[Path, _Read]] = {
    "ceIPSecMode": (("mode",), _mode),
    "ceIPSecOverlay": (("overlay",), _unchanged),
    "ceIPSecPfsGroup": (("ipsec", "pfs_group"), _unchanged),
    "ceIPSecEsp": (("ipsec", "esp"), _unchanged),
    "ceIPSecNATTPort": (("ipsec", "ike_port"), _number),
    "ceIPSecForceUDPEncaps": (("ipsec", "encapsulation"), _encapsulation),
}
_OTHER_SETTINGS = (
    "ceIPSecPSK",
    "ceIPSecPSKSecret",
    "ceIPSecPreferredServer",
    "ceIPSecDebug",
    "ceIPSecIKEPort",
)
_WISHES_FOR_IPSEC = (
    "ceIPSecMode",
    "ceIPSecOverlay",
    "ceIPSecPfsGroup",
    "ceIPSecEsp",
    "ceIPSecPSK",
    "ceIPSecPSKSecret",
)
# The fields of the file's endpoint, each with the field of Submariner's Endpoint.
_ENDPOINT_FIELDS = {
    "cluster": "cluster_id",
    "hostname": "hostname",
    "address": "private_ip",
    "subnets": "subnets",
}


class _Converter:
    """Builds the equivalent file from the objects, with the place of each value."""

    def __init__(self, found: list[Object], texts: dict[str, str], problems: Problems) -> None:
        self.value: dict[str, Any] = {"version": 1, "mode": Mode.TUNNEL.value}
        self.places: dict[Path, Place] = {(): Place(next(iter(texts)), 1, "")}
        self.notes: list[str] = []
        self._objects, self._problems = found, problems
        # Split once: a text of 1 MiB may have thousands of ConfigMaps.
        self._lines = {file: text.splitlines() for file, text in texts.items()}
        self._given: dict[str, Field] = {}
        self._of_config_map: set[str] = set()  # the names of its settings

    def read_settings(self) -> None:
        """Read mode, overlay and IPsec; a ConfigMap's setting overrides the resource's field."""
        config_names = set()
        for resource in self._of_kind("Submariner"):
            fields = resource.value.get("spec")
            for name in fields if isinstance(fields, dict) else ():
                entry = resource.spec(name)
                if entry and name.startswith("ceIPSec"):
                    self._read_setting(name, entry)
            config_name = resource.spec("cableDriverCustomConfig", "configMapName")
            config_names |= {str(config_name.value)} if config_name else set()
        for config in self._of_kind("ConfigMap"):
            if config_names and config.name not in config_names:
                continue
            for name, entry in block(self._lines_of(config), config, self._problems).items():
                if name not in self._of_config_map:
                    self._given.pop(name, None)  # it overrides a resource, but no other ConfigMap
                    self._of_config_map.add(name)
                self._read_setting(name, entry)
        driver = self._driver()
        if driver and driver.value == OverlayKind.VXLAN.value:
            self._refuse_unless_all_want_clear_text(driver)
            self._put(("mode",), Mode.NONE.value, driver.place)
            self._put(("overlay",), OverlayKind.VXLAN.value, driver.place)
            self._put(("allow_cleartext",), True, driver.place)
            self.value.pop("ipsec", None)
        elif driver and driver.value != "libreswan":
            self._refuse(driver, "libreswan, vxlan")

    def _refuse_unless_all_want_clear_text(self, driver: Field) -> None:
        """Refuse the driver if an endpoint names no driver, or if anything asks for IPsec.

        A peer writes its own Endpoint, which must not switch off encryption that the others want.
        """
        line = f"{driver.place.file}:{driver.place.line}"
        name = legible(driver.value)
        self._problems += [
            (
                endpoint.place("spec", "backend"),
                f"missing; write {name} if this end has no IPsec, as at {line}",
            )
            for endpoint in self._of_kind("Endpoint")
            if not endpoint.spec("backend")
        ]
        wish = self._wish_for_ipsec()
        if wish:
            self._problems.append(
                (
                    driver.place,
                    f"{shown(driver.value)} sends everything in clear text, but"
                    f" {wish.place.field} at {wish.place.file}:{wish.place.line} asks for IPsec;"
                    " write libreswan, or remove what asks for IPsec",
                )
            )

    def _wish_for_ipsec(self) -> Field | None:
        """Return the first value that asks for IPsec; None if there is none.

        Submariner's operator fills in the other settings of a resource for every driver.
        """
        given = [
            entry
            for name, entry in self._given.items()
            if name in _WISHES_FOR_IPSEC or name in self._of_config_map
        ]
        keys = [secret.field("data", "psk") for secret in self._of_kind("Secret")]
        return next((entry for entry in (*given, *keys) if entry), None)

    def _read_setting(self, name: str, entry: Field) -> None:
        if name not in _SETTINGS and name not in _OTHER_SETTINGS:
            allowed = ", ".join((*_SETTINGS, *_OTHER_SETTINGS))
            self._problems.append((entry.place, f"unknown field; allowed: {allowed}"))
            return
        earlier = self._given.setdefault(name, entry)
        if earlier.value != entry.value and name != "ceIPSecPreferredServer":
            line = f"{earlier.place.file}:{earlier.place.line}"
            self._problems.append((entry.place, f"differs from the value at {line}"))
        if name in _SETTINGS:
            path, read = _SETTINGS[name]
            value = self._read(entry, read)
            if value is not None:
                self._put(path, value, entry.place)
        elif name == "ceIPSecIKEPort" and str(entry.value) != "500":
            port = legible(entry.value)
            self.notes.append(f"{name}: {port} is ignored: ceIPSecNATTPort is the IKE port")
        elif name == "ceIPSecDebug" and entry.value is True:
            self.notes.append(f"{name} is ignored: pluto's own configuration sets its logging")

    def _driver(self) -> Field | None:
        """Return the cable driver that resources and endpoints name; None if they name none.

        If they differ, the ones with clear text are wrong.
        """
        entries = [resource.spec("cableDriver") for resource in self._of_kind("Submariner")]
        entries += [endpoint.spec("backend") for endpoint in self._of_kind("Endpoint")]
        drivers = [entry for entry in entries if entry]
        if not drivers:
            return None
        clear_text = OverlayKind.VXLAN.value
        first = next((driver for driver in drivers if driver.value != clear_text), drivers[0])
        for driver in drivers:
            if driver.value != first.value:
                line = f"{first.place.file}:{first.place.line}"
                self._refuse(driver, f"{legible(first.value)}, as at {line}")
        return first

    def read_key(self, psk_file: str) -> str:
        """Set the place of the key; return the key as the driver uses it, or an empty text."""
        if self._is_clear_text:
            return ""
        key, secret_name = self._given.get("ceIPSecPSK"), self._given.get("ceIPSecPSKSecret")
        secrets = [
            entry
            for secret in self._of_kind("Secret")
            if secret_name is None or secret.name == secret_name.value
            # The driver encodes the secret's content, so the key is its encoded form.
            if (entry := secret.field("data", "psk"))
        ]
        for secret in secrets[1:]:
            if secret.value != secrets[0].value:
                place = secrets[0].place
                message = f"differs from the key at {place.file}:{place.line}; give one key"
                self._problems.append((secret.place, message))
        key = secrets[0] if secrets else key
        if not key:
            path = psk_file or DEFAULT_PSK
            of_secret = f" of the Secret {legible(secret_name.value)}" if secret_name else ""
            self.notes.append(f"the key{of_secret} is not in the documents: put it in {path}")
            self._put(("ipsec", "psk"), {"file": path}, self.places[()])
            return ""
        source = {"file": psk_file} if psk_file else {"env": VARIABLE}
        self._put(("ipsec", "psk"), source, key.place)
        text = key.value if isinstance(key.value, str) else ""
        if not text.isprintable() or not 0 < len(text.encode()) <= MAX_KEY:
            allowed = f"printable text of at most {MAX_KEY} bytes"
            self._problems.append((key.place, f"not a pre-shared key; allowed: {allowed}"))
            return ""
        return text

    def read_endpoints(self) -> None:
        """Read the gateways, in the order of the documents."""
        endpoints = self._of_kind("Endpoint")
        flags = [flag for endpoint in endpoints if (flag := endpoint.spec("nat_enabled"))]
        values = [self._read(flag, _parse_bool) for flag in flags]  # reports every wrong flag
        nat = any(values)
        tunnel = self.value["mode"] == Mode.TUNNEL.value
        if nat and not tunnel:
            mode = legible(self.value["mode"])
            self.notes.append(
                f"nat_enabled is ignored: mode {mode} doesn't pass NAT,"
                " so the gateways have to reach each other's private_ip"
            )
        if endpoints:
            self.value["endpoints"] = [{} for _ in endpoints]
        for i, endpoint in enumerate(endpoints):
            self._read_endpoint(i, endpoint, nat=nat and tunnel)
        if not self._is_clear_text:
            self._read_servers(endpoints)
        self._read_ports(endpoints)

    def _read_endpoint(self, i: int, endpoint: Object, *, nat: bool) -> None:
        self.places[("endpoints", i)] = endpoint.place("spec")
        for name, submariner_name in _ENDPOINT_FIELDS.items():
            self.places[("endpoints", i, name)] = endpoint.place("spec", submariner_name)
            entry = endpoint.spec(submariner_name)
            if not entry:
                continue
            self._put(("endpoints", i, name), entry.value, entry.place)
            if isinstance(entry.value, list):
                for j, _ in enumerate(entry.value):
                    item_place = endpoint.place("spec", submariner_name, j)
                    self.places[("endpoints", i, name, j)] = item_place
        public = endpoint.spec("public_ip")
        if nat and public and public.value != endpoint.text("private_ip"):
            self._put(("endpoints", i, "public_address"), public.value, public.place)
        usual = f"submariner-cable-{endpoint.text('cluster_id')}-{endpoint.text('private_ip')}"
        cable_name = endpoint.text("cable_name")
        if cable_name and cable_name != usual.replace(".", "-").replace(":", "-"):
            self.notes.append(
                f"cable_name {legible(cable_name)} is ignored: connections get the usual names"
            )

    def _read_servers(self, endpoints: list[Object]) -> None:
        """Read preferred_server; if one end has it true, an end that doesn't state it is null.

        That is what Submariner does. An endpoint's own field comes first, then the resource of
        the endpoint's cluster.
        """
        by_cluster: dict[str, Field] = {}
        for resource in self._of_kind("Submariner"):
            if prefers := resource.spec("ceIPSecPreferredServer"):
                by_cluster.setdefault(resource.text("clusterID"), prefers)
        entries: list[Field | None] = [
            endpoint.spec("backend_config", "preferred-server")
            or by_cluster.get(endpoint.text("cluster_id"))
            for endpoint in endpoints
        ]
        values = [self._read(entry, _parse_bool) if entry else None for entry in entries]
        if not any(values):
            return
        for i, (entry, value) in enumerate(zip(entries, values, strict=True)):
            place = entry.place if entry else self.places[("endpoints", i)]
            self._put(("endpoints", i, "preferred_server"), value, place)

    def _read_ports(self, endpoints: list[Object]) -> None:
        """Read the UDP ports: of IKE, or of VXLAN in clear text."""
        entries = [endpoint.spec("backend_config", "udp-port") for endpoint in endpoints]
        ports = [(entry, self._read(entry, _number)) for entry in entries if entry]
        if self._is_clear_text:
            place = ports[0][0].place if ports else self.places[()]
            self._put(("vxlan", "port"), ports[0][1] if ports else VXLAN_DRIVER_PORT, place)
            for entry, number in ports:
                if number != ports[0][1]:
                    self._refuse(entry, f"{ports[0][1]}, like the first endpoint")
        elif ports and len(ports) == len(endpoints) and len({number for _, number in ports}) == 1:
            self._put(("ipsec", "ike_port"), ports[0][1], ports[0][0].place)
        else:
            for i, port in enumerate(entries):
                if port:
                    number = self._read(port, _number)
                    self._put(("endpoints", i, "ike_port"), number, port.place)

    @property
    def _is_clear_text(self) -> bool:
        return bool(self.value["mode"] == Mode.NONE.value)

    def _of_kind(self, kind: str) -> list[Object]:
        return [entry for entry in self._objects if entry.kind == kind]

    def _lines_of(self, config: Object) -> list[str]:
        return self._lines[config.place().file]

    def _read(self, entry: Field, read: _Read) -> object:
        """Return a field's value; if the value isn't allowed, add a problem and return None."""
        try:
            return read(entry.value)
        except ValueError:
            self._refuse(entry, _ALLOWED[read])
            return None

    def _refuse(self, entry: Field, allowed: str) -> None:
        message = f"{shown(entry.value)} is not allowed; allowed: {allowed}"
        self._problems.append((entry.place, message))

    def _put(self, path: Path, value: object, place: Place) -> None:
        target: Any = self.value
        for step in path[:-1]:
            target = target[step] if isinstance(step, int) else target.setdefault(step, {})
        target[path[-1]] = value
        self.places[path] = place
