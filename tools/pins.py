"""Pins what the Debian package is built from: each library with the hashes of its wheels.

Run `make pins` to take the newest releases that pyproject.toml allows. pip resolves them for each
Python that the package serves, and reports the hashes. `debian/rules` then installs nothing else.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUNTIME = ROOT / "debian" / "requirements.txt"
BUILD = ROOT / "debian" / "requirements-build.txt"
PYTHONS = ("3.11", "3.12", "3.13")  # those of debian/control
DEBIANS = (
    "PyYAML",
    "cryptography",
    "prometheus-client",
)  # of Debian's own packages, which are new enough
HEAD = """\
# Made by `make pins` from pyproject.toml: the Debian package is built from these wheels alone.
"""

Pins = dict[tuple[str, str], set[str]]  # by name and version, the SHA-256 of each wheel


def resolved(requirements: Iterable[str], python: str) -> Pins:
    """Return the wheels that pip would install for a version of Python."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--dry-run", "--ignore-installed", "--only-binary=:all:", "--target", folder),
                *("--python-version", python, "--report", str(report), *requirements),
            ],
            check=True,
        )
        installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {
        (entry["metadata"]["name"].lower(), entry["metadata"]["version"]): {
            entry["download_info"]["archive_info"]["hashes"]["sha256"]
        }
        for entry in installed
    }


def pinned(requirements: list[str]) -> str:
    """Return a file of requirements with hashes that serves every Python of the package."""
    found: Pins = {}
    for python in PYTHONS:
        for wheel, hashes in resolved(requirements, python).items():
            found.setdefault(wheel, set()).update(hashes)
    names = [name for name, _ in found]
    different = {name for name in names if names.count(name) > 1}
    if different:
        sys.exit(f"not the same version for {', '.join(PYTHONS)}: {', '.join(sorted(different))}")
    return HEAD + "".join(
        f"{name}=={version}{''.join(_option(each) for each in sorted(hashes))}\n"
        for (name, version), hashes in sorted(found.items())
    )


def _option(sha256: str) -> str:
    return f" \\\n    --hash=sha256:{sha256}"


def main() -> None:
    """Write both files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = [each for each in project["project"]["dependencies"] if not each.startswith(DEBIANS)]
    RUNTIME.write_text(pinned(needed), encoding="utf-8")
    BUILD.write_text(pinned(project["build-system"]["requires"]), encoding="utf-8")


if __name__ == "__main__":
    main()
