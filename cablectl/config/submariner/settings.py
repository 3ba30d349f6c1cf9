"""Mode, overlay, IPsec and key: from Submariner's resource, its Secret and the ConfigMap."""

from cablectl.config.reader import Path
from cablectl.config.submariner.equivalent import (
    Equivalent,
    Read,
    as_encapsulation,
    as_it_is,
    as_mode,
    as_number,
)
from cablectl.config.submariner.objects import Field, Object, block
from cablectl.config.values import legible, shown
from cablectl.libreswan.secrets_file import MAX_KEY
from cablectl.model.wishes import DEFAULT_PSK, Mode, OverlayKind

VARIABLE = "CE_IPSEC_PSK"  # Submariner's driver reads the key from it
# The file's field for each of Submariner's settings, and the function that reads the value.
_SETTINGS: dict[str, tuple[Path, Read]] = {
    "ceIPSecMode": (("mode",), as_mode),
    "ceIPSecOverlay": (("overlay",), as_it_is),
    "ceIPSecPfsGroup": (("ipsec", "pfs_group"), as_it_is),
    "ceIPSecEsp": (("ipsec", "esp"), as_it_is),
    "ceIPSecNATTPort": (("ipsec", "ike_port"), as_number),
    "ceIPSecForceUDPEncaps": (("ipsec", "encapsulation"), as_encapsulation),
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


class Settings:
    """Reads the settings, and then the key, into the equivalent file.

    `lines` are those of each document's file.
    """

    def __init__(self, file: Equivalent, lines: dict[str, list[str]]) -> None:
        self._file, self._lines = file, lines
        self._given: dict[str, Field] = {}
        self._of_config_map: set[str] = set()  # the names of its settings

    def read(self) -> None:
        """Read mode, overlay and IPsec; a ConfigMap's setting overrides the resource's field."""
        config_names = set()
        for resource in self._file.of_kind("Submariner"):
            fields = resource.value.get("spec")
            for name in fields if isinstance(fields, dict) else ():
                entry = resource.spec(name)
                if entry and name.startswith("ceIPSec"):
                    self._read_setting(name, entry)
            config_name = resource.spec("cableDriverCustomConfig", "configMapName")
            config_names |= {str(config_name.value)} if config_name else set()
        for config in self._file.of_kind("ConfigMap"):
            if config_names and config.name not in config_names:
                continue
            for name, entry in block(self._lines_of(config), config, self._file.problems).items():
                if name not in self._of_config_map:
                    self._given.pop(name, None)  # it overrides a resource, but no other ConfigMap
                    self._of_config_map.add(name)
                self._read_setting(name, entry)
        driver = self._driver()
        if driver and driver.value == OverlayKind.VXLAN.value:
            self._refuse_unless_all_want_clear_text(driver)
            self._file.put(("mode",), Mode.NONE.value, driver.place)
            self._file.put(("overlay",), OverlayKind.VXLAN.value, driver.place)
            self._file.put(("allow_cleartext",), True, driver.place)
            self._file.value.pop("ipsec", None)
        elif driver and driver.value != "libreswan":
            self._file.refuse(driver, "libreswan, vxlan")

    def _refuse_unless_all_want_clear_text(self, driver: Field) -> None:
        """Refuse the driver if an endpoint names no driver, or if anything asks for IPsec.

        A peer writes its own Endpoint, which must not switch off encryption that the others want.
        """
        line = f"{driver.place.file}:{driver.place.line}"
        name = legible(driver.value)
        self._file.problems += [
            (
                endpoint.place("spec", "backend"),
                f"missing; write {name} if this end has no IPsec, as at {line}",
            )
            for endpoint in self._file.of_kind("Endpoint")
            if not endpoint.spec("backend")
        ]
        wish = self._wish_for_ipsec()
        if wish:
            self._file.problems.append(
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
        keys = [secret.field("data", "psk") for secret in self._file.of_kind("Secret")]
        return next((entry for entry in (*given, *keys) if entry), None)

    def _read_setting(self, name: str, entry: Field) -> None:
        if name not in _SETTINGS and name not in _OTHER_SETTINGS:
            allowed = ", ".join((*_SETTINGS, *_OTHER_SETTINGS))
            self._file.problems.append((entry.place, f"unknown field; allowed: {allowed}"))
            return
        earlier = self._given.setdefault(name, entry)
        if earlier.value != entry.value and name != "ceIPSecPreferredServer":
            self._file.differs(entry, earlier)
        if name in _SETTINGS:
            path, read = _SETTINGS[name]
            value = self._file.read(entry, read)
            if value is not None:
                self._file.put(path, value, entry.place)
        elif name == "ceIPSecIKEPort" and str(entry.value) != "500":
            port = legible(entry.value)
            self._file.notes.append(f"{name}: {port} is ignored: ceIPSecNATTPort is the IKE port")
        elif name == "ceIPSecDebug" and entry.value is True:
            self._file.notes.append(
                f"{name} is ignored: pluto's own configuration sets its logging"
            )

    def _driver(self) -> Field | None:
        """Return the cable driver that resources and endpoints name; None if they name none.

        If they differ, the ones with clear text are wrong.
        """
        entries = [resource.spec("cableDriver") for resource in self._file.of_kind("Submariner")]
        entries += [endpoint.spec("backend") for endpoint in self._file.of_kind("Endpoint")]
        drivers = [entry for entry in entries if entry]
        if not drivers:
            return None
        clear_text = OverlayKind.VXLAN.value
        first = next((driver for driver in drivers if driver.value != clear_text), drivers[0])
        for driver in drivers:
            if driver.value != first.value:
                line = f"{first.place.file}:{first.place.line}"
                self._file.refuse(driver, f"{legible(first.value)}, as at {line}")
        return first

    def read_key(self, psk_file: str) -> str:
        """Set the place of the key; return the key as the driver uses it, or an empty text."""
        if self._file.is_clear_text:
            return ""
        key, secret_name = self._given.get("ceIPSecPSK"), self._given.get("ceIPSecPSKSecret")
        secrets = [
            entry
            for secret in self._file.of_kind("Secret")
            if secret_name is None or secret.name == secret_name.value
            # The driver encodes the secret's content, so the key is its encoded form.
            if (entry := secret.field("data", "psk"))
        ]
        for secret in secrets[1:]:
            if secret.value != secrets[0].value:
                place = secrets[0].place
                message = f"differs from the key at {place.file}:{place.line}; give one key"
                self._file.problems.append((secret.place, message))
        key = secrets[0] if secrets else key
        if not key:
            path = psk_file or DEFAULT_PSK
            of_secret = f" of the Secret {legible(secret_name.value)}" if secret_name else ""
            self._file.notes.append(f"the key{of_secret} is not in the documents: put it in {path}")
            self._file.put(("ipsec", "psk"), {"file": path}, self._file.places[()])
            return ""
        source = {"file": psk_file} if psk_file else {"env": VARIABLE}
        self._file.put(("ipsec", "psk"), source, key.place)
        text = key.value if isinstance(key.value, str) else ""
        if not text.isprintable() or not 0 < len(text.encode()) <= MAX_KEY:
            allowed = f"printable text of at most {MAX_KEY} bytes"
            self._file.problems.append((key.place, f"not a pre-shared key; allowed: {allowed}"))
            return ""
        return text

    def _lines_of(self, config: Object) -> list[str]:
        return self._lines[config.place().file]
