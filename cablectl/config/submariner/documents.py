"""Submariner's own documents → the file that says the same, and the place of each value in them.

What each field does is what Submariner's libreswan and vxlan drivers do with it: Submariner
(submariner.io/v1alpha1), Endpoint (submariner.io/v1), Secret, and the ConfigMap of the proposal's
cableDriverCustomConfig.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from cablectl.config import native
from cablectl.config.reader import Document, Path, Place, legible, shown
from cablectl.config.spec import FIELDS
from cablectl.config.submariner.objects import Field, Object, Problems, block, has_objects, objects
from cablectl.errors import UsageError
from cablectl.libreswan.secrets_file import MAX_KEY
from cablectl.model.network import Network
from cablectl.model.wishes import DEFAULT_PSK, MAX_ENDPOINTS, Mode, OverlayKind

__all__ = ["VARIABLE", "Imported", "has_objects", "parse"]

VARIABLE = "CE_IPSEC_PSK"  # of Submariner's driver: where a key that was found inline is put
VXLAN_DRIVER_PORT = 4500  # the default of Submariner's VXLAN driver
MAX_OBJECTS = 3 * MAX_ENDPOINTS  # that matter here: of each cluster an endpoint, a resource, a key


class Imported(Struct, frozen=True):
    """What the documents describe.

    `value` is the file that says the same, `key` the pre-shared key if it was found in them, and
    `notes` are for a person: what was left out, and why.
    """

    value: dict[str, Any]
    network: Network
    key: str
    notes: tuple[str, ...]


def parse(texts: dict[str, str], psk_file: str = "") -> Imported:
    """Return what documents, by the names of their files, describe; UsageError with all problems.

    A key that was found in them is to be put into `psk_file`, or else into VARIABLE.
    """
    problems: Problems = []
    found = [each for file, text in texts.items() for each in objects(file, text, problems)]
    if len(found) > MAX_OBJECTS:
        raise UsageError(
            f"{len(found)} objects in the documents; allowed: at most {MAX_OBJECTS}",
            hint="give those of the clusters alone that are to be joined",
        )
    build = _Build(found, texts, problems)
    build.settings()
    key = build.key(psk_file)
    build.endpoints()
    value = {name: build.value[name] for name in FIELDS if name in build.value}
    network = native.build(Document(value, build.places), problems)
    return Imported(value, network, key, tuple(build.notes))


def _truth(value: object) -> bool:
    """Return what Go's strconv.ParseBool makes of a value; ValueError if nothing."""
    text = str(value)
    if text in ("1", "t", "T", "true", "True", "TRUE"):
        return True
    if text in ("0", "f", "F", "false", "False", "FALSE"):
        return False
    raise ValueError(text)


def _number(value: object) -> int:
    return int(str(value))


def _encapsulation(value: object) -> str:
    return "yes" if _truth(value) else "auto"


def _same(value: object) -> object:
    return value


_Read = Callable[[object], object]
_ALLOWED: dict[_Read, str] = {
    _truth: "true, false",
    _encapsulation: "true, false",
    _number: "a port, 1 to 65535",
}
# What a setting of Submariner is in the file, and how its value is read.
_SETTINGS: dict[str, tuple[Path, _Read]] = {
    "ceIPSecMode": (("mode",), _same),
    "ceIPSecOverlay": (("overlay",), _same),
    "ceIPSecPfsGroup": (("ipsec", "pfs_group"), _same),
    "ceIPSecEsp": (("ipsec", "esp"), _same),
    "ceIPSecNATTPort": (("ipsec", "ike_port"), _number),
    "ceIPSecForceUDPEncaps": (("ipsec", "encapsulation"), _encapsulation),
}
_OTHERS = (
    "ceIPSecPSK",
    "ceIPSecPSKSecret",
    "ceIPSecPreferredServer",
    "ceIPSecDebug",
    "ceIPSecIKEPort",
)
# What a field of an Endpoint is in the file.
_ENDPOINT = {
    "cluster": "cluster_id",
    "hostname": "hostname",
    "address": "private_ip",
    "subnets": "subnets",
}


class _Build:
    """Puts the file together, with the place of each value in the documents."""

    def __init__(self, found: list[Object], texts: dict[str, str], problems: Problems) -> None:
        self.value: dict[str, Any] = {"version": 1, "mode": Mode.TUNNEL.value}
        self.places: dict[Path, Place] = {(): Place(next(iter(texts)), 1, "")}
        self.notes: list[str] = []
        self._objects, self._texts, self._problems = found, texts, problems
        self._given: dict[str, Field] = {}

    def settings(self) -> None:
        """Read mode, overlay and IPsec; what a ConfigMap says goes before the resource's field."""
        named = set()
        for each in self._of("Submariner"):
            fields = each.value.get("spec")
            for name in fields if isinstance(fields, dict) else ():
                found = each.spec(name)
                if found and name.startswith("ceIPSec"):
                    self._setting(name, found)
            config = each.spec("cableDriverCustomConfig", "configMapName")
            named |= {str(config.value)} if config else set()
        custom = [each for each in self._of("ConfigMap") if not named or each.name in named]
        for each in custom:
            for name, found in block(self._text_of(each), each, self._problems).items():
                self._given.pop(name, None)
                self._setting(name, found)
        driver = self._driver()
        if driver and driver.value == OverlayKind.VXLAN.value:
            # A driver without encryption: the choice was made there.
            self._put(("mode",), Mode.NONE.value, driver.place)
            self._put(("overlay",), OverlayKind.VXLAN.value, driver.place)
            self._put(("allow_cleartext",), True, driver.place)
            self.value.pop("ipsec", None)
        elif driver and driver.value != "libreswan":
            self._refuse(driver, "libreswan, vxlan")

    def _setting(self, name: str, found: Field) -> None:
        if name not in _SETTINGS and name not in _OTHERS:
            allowed = ", ".join((*_SETTINGS, *_OTHERS))
            self._problems.append((found.place, f"unknown field; allowed: {allowed}"))
            return
        before = self._given.setdefault(name, found)
        if before.value != found.value and name != "ceIPSecPreferredServer":
            where = f"{before.place.file}:{before.place.line}"
            self._problems.append((found.place, f"differs from what stands at {where}"))
        if name in _SETTINGS:
            path, read = _SETTINGS[name]
            value = self._read(found, read)
            if value is not None:
                self._put(path, value, found.place)
        elif name == "ceIPSecIKEPort" and str(found.value) != "500":
            what = legible(found.value)
            self.notes.append(f"{name}: {what} is not used: ceIPSecNATTPort is the IKE port")
        elif name == "ceIPSecDebug" and found.value is True:
            self.notes.append(f"{name} is not used: pluto's own configuration says what it logs")

    def _driver(self) -> Field | None:
        """Return which driver the resources and the endpoints name, if they do: all the same."""
        named = [each.spec("cableDriver") for each in self._of("Submariner")]
        named += [each.spec("backend") for each in self._of("Endpoint")]
        found = [each for each in named if each]
        for each in found[1:]:
            if each.value != found[0].value:
                where = f"{found[0].place.file}:{found[0].place.line}"
                self._refuse(each, f"{legible(found[0].value)}, as at {where}")
        return found[0] if found else None

    def key(self, psk_file: str) -> str:
        """Say where the key is; return it if it is in the documents, as the driver has it."""
        if self._clear:
            return ""
        found, secret = self._given.get("ceIPSecPSK"), self._given.get("ceIPSecPSKSecret")
        for each in self._of("Secret"):
            if secret is None or each.name == secret.value:
                # The driver encodes what the secret holds, so the key is its encoded form.
                found = each.field("data", "psk") or found
        if not found:
            path = psk_file or DEFAULT_PSK
            of = f" of the Secret {legible(secret.value)}" if secret else ""
            self.notes.append(f"the key{of} is not in the documents: put it in {path}")
            self._put(("ipsec", "psk"), {"file": path}, self.places[()])
            return ""
        where = {"file": psk_file} if psk_file else {"env": VARIABLE}
        self._put(("ipsec", "psk"), where, found.place)
        text = found.value if isinstance(found.value, str) else ""
        if not text.isprintable() or not 0 < len(text.encode()) <= MAX_KEY:
            allowed = f"allowed: the key as text, of at most {MAX_KEY} bytes"
            self._problems.append((found.place, allowed))
            return ""
        return text

    def endpoints(self) -> None:
        """Read the gateways, in the order of the documents."""
        found = self._of("Endpoint")
        natted = [e for e in found if (n := e.spec("nat_enabled")) and self._read(n, _truth)]
        tunnel = self.value["mode"] == Mode.TUNNEL.value
        if natted and not tunnel:
            mode = legible(self.value["mode"])
            self.notes.append(
                f"nat_enabled is not used in mode {mode}, which passes no NAT:"
                " the gateways have to reach each other's private_ip"
            )
        if found:
            self.value["endpoints"] = [{} for _ in found]
        for i, each in enumerate(found):
            self._endpoint(i, each, nat=bool(natted) and tunnel)
        if not self._clear:
            self._servers(found)
        self._ports(found)

    def _endpoint(self, i: int, each: Object, *, nat: bool) -> None:
        self.places[("endpoints", i)] = each.place("spec")
        for ours, theirs in _ENDPOINT.items():
            self.places[("endpoints", i, ours)] = each.place("spec", theirs)
            found = each.spec(theirs)
            if not found:
                continue
            self._put(("endpoints", i, ours), found.value, found.place)
            if isinstance(found.value, list):
                for j, _ in enumerate(found.value):
                    self.places[("endpoints", i, ours, j)] = each.place("spec", theirs, j)
        public = each.spec("public_ip")
        if nat and public and public.value != each.text("private_ip"):
            self._put(("endpoints", i, "public_address"), public.value, public.place)
        usual = f"submariner-cable-{each.text('cluster_id')}-{each.text('private_ip')}"
        named = each.text("cable_name")
        if named and named != usual.replace(".", "-").replace(":", "-"):
            what = legible(named)
            self.notes.append(f"cable_name {what} is not used: connections get the usual names")

    def _servers(self, found: list[Object]) -> None:
        """Read who prefers to be server; if one does, who doesn't say is null, as in Submariner.

        The resource of an endpoint's own cluster says what the endpoint doesn't.
        """
        own: dict[str, list[Field | None]] = {}
        for resource in self._of("Submariner"):
            prefers = resource.spec("ceIPSecPreferredServer")
            own.setdefault(resource.text("clusterID"), []).append(prefers)
        said: list[Field | None] = []
        for each in found:
            told = [each.spec("backend_config", "preferred-server")]
            told += own.get(each.text("cluster_id"), ())
            said.append(next(filter(None, told), None))
        values = [self._read(prefers, _truth) if prefers else None for prefers in said]
        for i, (prefers, value) in enumerate(zip(said, values, strict=True)):
            if any(values):
                place = prefers.place if prefers else self.places[("endpoints", i)]
                self._put(("endpoints", i, "preferred_server"), value, place)

    def _ports(self, found: list[Object]) -> None:
        """Read the UDP ports: of IKE, or of the VXLAN in clear text."""
        ports = [each.spec("backend_config", "udp-port") for each in found]
        read = [(port, self._read(port, _number)) for port in ports if port]
        if self._clear:
            place = read[0][0].place if read else self.places[()]
            self._put(("vxlan", "port"), read[0][1] if read else VXLAN_DRIVER_PORT, place)
            for other, number in read:
                if number != read[0][1]:
                    self._refuse(other, f"{read[0][1]}, as the other one has")
        elif read and len(read) == len(found) and len({number for _, number in read}) == 1:
            self._put(("ipsec", "ike_port"), read[0][1], read[0][0].place)
        else:
            for i, port in enumerate(ports):
                if port:
                    number = self._read(port, _number)
                    self._put(("endpoints", i, "ike_port"), number, port.place)

    @property
    def _clear(self) -> bool:
        return bool(self.value["mode"] == Mode.NONE.value)

    def _of(self, kind: str) -> list[Object]:
        return [each for each in self._objects if each.kind == kind]

    def _text_of(self, each: Object) -> str:
        return self._texts[each.place().file]

    def _read(self, found: Field, read: _Read) -> object:
        """Return a field's value; None, and a problem, if it is none."""
        try:
            return read(found.value)
        except ValueError:
            self._refuse(found, _ALLOWED[read])
            return None

    def _refuse(self, found: Field, allowed: str) -> None:
        message = f"{shown(found.value)} is not allowed; allowed: {allowed}"
        self._problems.append((found.place, message))

    def _put(self, path: Path, value: object, place: Place) -> None:
        target: Any = self.value
        for step in path[:-1]:
            target = target[step] if isinstance(step, int) else target.setdefault(step, {})
        target[path[-1]] = value
        self.places[path] = place
