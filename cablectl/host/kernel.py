"""What this host's kernel and NIC can do for IPsec: modules, ESP, and offload features."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from cablectl.host import probe
from cablectl.linux.esp_offload import FEATURES, Nic
from cablectl.linux.overlay.registry import kinds


def in_fips_mode() -> bool:
    """Return whether the kernel allows only what FIPS 140 allows; pluto then does so too."""
    try:
        return Path("/proc/sys/crypto/fips_enabled").read_text().strip() == "1"
    except OSError:
        return False


def has_module(name: str) -> bool:
    """Return whether a module is loaded or built into the kernel."""
    if Path("/sys/module", name).is_dir():
        return True
    builtin = Path("/lib/modules", os.uname().release, "modules.builtin")
    try:
        return f"/{name}.ko" in builtin.read_text(encoding="utf-8")
    except OSError:
        return False


def can_load(name: str) -> bool:
    """Return whether modprobe finds a module."""
    found = shutil.which("modprobe")
    return bool(found) and probe.run("modprobe", "-n", "-q", name).returncode == 0


def to_load(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the modules that aren't loaded and could be."""
    return tuple(name for name in names if not has_module(name) and can_load(name))


def has_esp(module: str) -> bool:
    """Return whether ESP (esp4, esp6) is loaded, built in, or could be loaded."""
    return has_module(module) or can_load(module) or has_code(module)


# A function of each module: /proc/kallsyms lists it even if nothing else shows the module.
_FUNCTIONS = {
    "esp4": "esp_init_state",
    "esp6": "esp6_init_state",
    "nf_tables": "nft_do_chain",
    **{module.name: module.function for kind in kinds() for module in kind.modules.values()},
}


def has_code(module: str) -> bool:
    """Return whether a module is built in, also on a host without /lib/modules, as a container."""
    try:
        symbols = Path("/proc/kallsyms").read_text()
    except OSError:
        return False
    return re.search(rf"\b{_FUNCTIONS[module]}\b", symbols) is not None


def nic(device: str) -> Nic:
    """Return a device with its offload features; without ethtool it has none."""
    listing: Any = probe.decoded(probe.if_any("ethtool", "--json", "-k", device))
    features = listing[0] if listing else {}
    return Nic(device, {name: features[name]["active"] for name in FEATURES if name in features})
