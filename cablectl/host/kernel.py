"""What this host's kernel and NIC can do for IPsec: modules, ESP, and what `ethtool -k` says."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from cablectl.host import probe
from cablectl.linux.esp_offload import FEATURES, Nic
from cablectl.linux.overlay.registry import kinds


def has_module(name: str) -> bool:
    """Tell whether the kernel has a module loaded or built in."""
    if Path("/sys/module", name).is_dir():
        return True
    builtin = Path("/lib/modules", os.uname().release, "modules.builtin")
    try:
        return f"/{name}.ko" in builtin.read_text(encoding="utf-8")
    except OSError:
        return False


def can_load(name: str) -> bool:
    """Tell whether modprobe finds a module."""
    found = shutil.which("modprobe")
    return bool(found) and probe.run("modprobe", "-n", "-q", name).returncode == 0


def to_load(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those modules that aren't there and could be."""
    return tuple(name for name in names if not has_module(name) and can_load(name))


def has_esp(module: str) -> bool:
    """Tell whether ESP (esp4, esp6) is there or can be loaded."""
    return has_module(module) or can_load(module) or has_code(module)


# A function of each, by which one that is built in is known where nothing else tells.
_FUNCTIONS = {
    "esp4": "esp_init_state",
    "esp6": "esp6_init_state",
    "nf_tables": "nft_do_chain",
    **{module.name: module.function for kind in kinds() for module in kind.modules.values()},
}


def has_code(module: str) -> bool:
    """Tell whether it is built in, on a host without /lib/modules, such as a container."""
    try:
        symbols = Path("/proc/kallsyms").read_text()
    except OSError:
        return False
    return re.search(rf"\b{_FUNCTIONS[module]}\b", symbols) is not None


def nic(device: str) -> Nic:
    """Return what a device says of its offload features; none without ethtool."""
    told: Any = probe.decoded(probe.if_any("ethtool", "--json", "-k", device))
    features = told[0] if told else {}
    return Nic(device, {name: features[name]["active"] for name in FEATURES if name in features})
