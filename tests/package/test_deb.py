"""The Debian package on Debian 12 and 13: installed with what it depends on, used, purged.

`make package` builds it and runs this, as root.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from cablectl import __version__
from tests.lab.releases import TRIXIE
from tests.lab.rooms import LabError, Room
from tests.support.places import ROOT
from tests.support.sandbox import MAX_EXPOSURE

pytestmark = pytest.mark.package

DEB = ROOT / "build" / f"cablectl_{__version__}_amd64.deb"
UNITS = [f"/usr/lib/systemd/system/{unit.name}" for unit in sorted((ROOT / "systemd").iterdir())]
EXAMPLE = "/usr/share/doc/cablectl/examples/quickstart.yaml"
# What looks at pages, completions and unit.
READERS = ("bash-completion", "man-db", "systemd")
# $1 is the root. All that is written goes to a tmpfs.
WRITABLE = """
set -e
read -r pid rest </proc/self/stat
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
cd /mnt/root
rm -f etc/resolv.conf
cat /etc/resolv.conf >etc/resolv.conf
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs run
mkdir run/written
mount --bind /mnt/upper run/written
pivot_root . .
umount --lazy .
exec sh -c 'echo "$1"; sleep infinity; exit' sh "$pid"
"""
# What is written besides by apt, dpkg, ldconfig, man and Python for any package.
WRITTEN = r"""
cd /run/written
find . \( -path ./var/cache -o -path ./var/log -o -path ./var/lib/apt -o -path ./var/lib/dpkg \
    -o -path ./etc/ld.so.cache -o -path ./usr/lib/python3/dist-packages \) -prune \
    -o \( -type f -o -type l -o -type d -empty \) -printf '/%P\n' | sort
"""
PACKAGED = "sort -u /var/lib/dpkg/info/*.list"
COMPLETE = """
. /usr/share/bash-completion/bash_completion
_completion_loader cablectl
COMP_WORDS=(cablectl con) COMP_CWORD=1
$(complete -p cablectl | sed 's/.*-F \\([^ ]*\\).*/\\1/') cablectl
echo "${COMPREPLY[*]}"
"""


class Debian(Room):
    """A Debian whose files can be written to, on this machine's network."""

    namespaces = ("--mount", "--pid")
    script = WRITABLE
    before: frozenset[str]

    def lines(self, script: str) -> frozenset[str]:
        """Return what a shell's script prints, line by line."""
        return frozenset(self.run("sh", "-c", script).stdout.splitlines())

    def apt(self, *argv: str) -> None:
        """Run apt-get; a LabError if it fails."""
        options = ("-qq", "-o", "APT::Sandbox::User=root", "-o", "Dpkg::Use-Pty=0")
        quiet = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        self.run("apt-get", *options, *argv, env=quiet, timeout=300)


@pytest.fixture(scope="module", params=["/", TRIXIE], ids=["this machine", "Debian 13"])
def debian(request: pytest.FixtureRequest) -> Iterator[Debian]:
    """A Debian on which the package was installed."""
    try:
        with closing(Debian("debian", request.param)) as debian:
            debian.path("/tmp/cablectl.deb").write_bytes(DEB.read_bytes())
            debian.apt("update")
            debian.apt("install", "--no-install-recommends", *READERS)
            debian.before = debian.lines(WRITTEN)
            debian.apt("install", "--no-install-recommends", "/tmp/cablectl.deb")
            yield debian
    except LabError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def test_it_runs_and_its_plan_needs_no_root(debian: Debian) -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cablectl")
    assert debian.run(*nobody, "--version").stdout == f"cablectl {__version__}\n"
    for form, expected in (
        ("sh", "\nipsec whack --psk --encrypt "),
        ("table", "ipsec whack"),
        ("json", '"connect"'),
    ):
        options = ("--dry-run", "--local", "cluster1", "--format", form)
        assert expected in debian.run(*nobody, "plan", EXAMPLE, *options).stdout


def test_debians_own_library_writes_the_metrics(debian: Debian) -> None:
    command = ("cablectl", "status", EXAMPLE, "--local", "cluster1", "--format", "prometheus")
    told = debian.run(*command, check=False)
    assert told.returncode == 1, told.stderr
    (down,) = re.findall(
        r'^cablectl_cable_state\{.*state="down"\} (.*)$', told.stdout, re.MULTILINE
    )
    assert float(down) == 1


def test_it_has_the_alarms_and_the_dashboard(debian: Debian) -> None:
    for folder in ("prometheus", "grafana"):
        packaged = debian.path(f"/usr/share/doc/cablectl/examples/{folder}")
        expected = {file.name: file.read_text() for file in (ROOT / "contrib" / folder).iterdir()}
        assert {file.name: file.read_text() for file in packaged.iterdir()} == expected


def test_man_finds_every_page(debian: Debian) -> None:
    pages = list((ROOT / "man").glob("*.[1-9]"))
    assert len(pages) > 10
    for page in pages:
        found = debian.run("man", "-w", page.suffix[1:], page.stem).stdout
        assert found == f"/usr/share/man/man{page.suffix[1:]}/{page.name}.gz\n"


def test_the_shells_find_the_completions(debian: Debian) -> None:
    assert debian.run("bash", "-c", COMPLETE).stdout.strip() == "connect"
    for path in ("zsh/vendor-completions/_cablectl", "fish/vendor_completions.d/cablectl.fish"):
        assert debian.path(f"/usr/share/{path}").is_file()


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_the_unit_and_its_sandbox(
    debian: Debian, unit: str, record_property: Callable[[str, object], None]
) -> None:
    verified = debian.run("systemd-analyze", "verify", unit)
    assert verified.stderr == ""
    told = debian.run("systemd-analyze", "security", "--offline=true", "--no-pager", unit).stdout
    (exposure,) = re.findall(r"Overall exposure level for .*: ([\d.]+)", told)
    record_property(f"exposure of {unit.rpartition('/')[2]}, of 10", exposure)
    assert float(exposure) <= MAX_EXPOSURE


def test_all_of_it_is_roots_and_writable_by_root_alone(debian: Debian) -> None:
    wrong = r"-not -user root -o -not -group root -o -not -type l -perm /022"
    look = rf"tr '\n' '\0' | find -files0-from - -maxdepth 0 \( {wrong} \)"
    assert not debian.lines(f"dpkg -L cablectl | {look}")
    assert debian.run("stat", "-c", "%a", "/etc/cablectl").stdout == "700\n"


def test_it_has_its_license_and_those_of_its_libraries(debian: Debian) -> None:
    told = debian.path("/usr/share/doc/cablectl/copyright").read_text()
    assert "Apache License, Version 2.0" in told
    for metadata in debian.path("/usr/lib/cablectl").glob("*.dist-info"):
        assert f"/{metadata.name}/" in told or metadata.name.startswith("cablectl-")


def test_purged_it_leaves_no_file_behind(debian: Debian) -> None:
    debian.run("cablectl", "plan", EXAMPLE, "--dry-run", "--local", "cluster1")  # as root
    debian.apt("purge", "cablectl")
    assert debian.lines(WRITTEN) - debian.before - debian.lines(PACKAGED) == set()
