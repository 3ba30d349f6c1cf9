"""The programs that import into NSS, run with the real tools of NSS and openssl in a directory.

Without the tools these tests are skipped; the lab runs the programs too.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from cablectl.libreswan import nss, secrets_file
from cablectl.libreswan.authentication import authentication_of, marked_cables
from cablectl.libreswan.pluto_commands import REREAD_SECRETS
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.x509 import Auth, Cert
from tests.support.certificates import DAY, NOW, Made, authority
from tests.support.examples import load

TOOLS = ("certutil", "pk12util", "crlutil", "openssl", "flock")
needs_tools = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason="libnss3-tools or openssl isn't installed"
)
NICK = "cablectl-{}/cert.pem"
# A copy of `ipsec` that knows where NSS is.
IPSEC = '#!/bin/sh\necho "$@" >>{root}/called\necho "nssdir={root}/nss, dumpdir=/run/pluto"\n'


def with_certificates(cable: Cable, cert: Cert | None = None) -> Cable:
    return replace(cable, ipsec=replace(cable.ipsec, auth=Auth.CERT, cert=cert))


class Host:
    """A directory in the place of a host's: the files, pluto's directory, and NSS."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("ipsec.d", "nss", "bin"):
            (root / name).mkdir(mode=0o755)
        (root / "bin" / "ipsec").write_text(IPSEC.format(root=root))
        (root / "bin" / "ipsec").chmod(0o755)
        self.run(("certutil", "-N", "-d", self.store, "--empty-password"))
        self.above = authority()
        self.own = self.above.issue()
        self.put(self.own, self.above)
        self.cert = Cert(
            certificate=f"{root}/cert.pem", key=f"{root}/key.pem", authority=f"{root}/ca.pem"
        )
        self.cable = with_certificates(load("quickstart"), self.cert)

    @property
    def store(self) -> str:
        return f"sql:{self.root}/nss"

    def put(self, own: Made, *above: Made) -> None:
        (self.root / "cert.pem").write_bytes(own.pem)
        (self.root / "key.pem").write_bytes(own.private.pem)
        (self.root / "ca.pem").write_bytes(b"".join(each.pem for each in above))

    def run(self, argv: Argv) -> subprocess.CompletedProcess[str]:
        """Run a command with this host's directories in the place of the real ones."""
        places = {
            "/etc/ipsec.d": f"{self.root}/ipsec.d",
            nss.WORK: f"{self.root}/work",
            nss.RUN: f"{self.root}/run",
        }
        for real, own in places.items():
            argv = tuple(word.replace(real, own) for word in argv)
        path = f"{self.root}/bin:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path}
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=60, env=environment
        )

    def install(self, *cables: Cable) -> subprocess.CompletedProcess[str]:
        done = self.run(nss.install_all(cables or [self.cable]))
        assert not (self.root / "work").exists()
        return done

    def remove(self, cable: Cable) -> None:
        remove, reread = nss.remove(cable.id)
        assert reread == REREAD_SECRETS
        assert self.run(remove).returncode == 0

    def names(self) -> set[str]:
        text = self.run(("certutil", "-L", "-d", self.store)).stdout
        return set(re.findall(r"(?m)^(\S.*?) +[A-Za-z]*,[A-Za-z]*,[A-Za-z]* *$", text))

    def add(self, name: str, made: Made, trust: str) -> None:
        (self.root / "its.pem").write_bytes(made.pem)
        add = ("certutil", "-A", "-d", self.store, "-n", name, "-t", trust, "-a")
        assert self.run((*add, "-i", f"{self.root}/its.pem")).returncode == 0

    @property
    def nick(self) -> str:
        return NICK.format(self.root)

    def authority_name(self, made: Made | None = None) -> str:
        return f"cablectl-{(made or self.above).certificate.sha256}"

    def mark(self, cable: Cable | None = None) -> nss.Mark | None:
        path = secrets_file.path(cable or self.cable).replace("/etc", str(self.root), 1)
        return nss.parse_mark(Path(path).read_text())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def other_cable(host: Host) -> Cable:
    """Return another cable of the same certificate."""
    remote = replace(host.cable.remote, cluster="cluster3", hostname="third")
    return replace(host.cable, remote=remote)


@needs_tools
def test_import_and_removal(host: Host) -> None:
    done = host.install()
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert host.names() == {host.nick, host.authority_name()}
    mark = host.mark()
    assert mark
    assert mark.certificates == {host.own.certificate.sha256: host.nick}
    assert mark.authorities == {host.above.certificate.sha256: host.authority_name()}
    assert mark.pairs == tuple(secrets_file.pairs(host.cable))
    (file,) = (host.root / "ipsec.d").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert marked_cables([file.name]) == {host.cable.id}
    assert "whack --rereadcerts" in (host.root / "called").read_text()
    host.remove(host.cable)
    assert host.names() == set()
    assert list((host.root / "ipsec.d").iterdir()) == []
    assert "no keys found" in host.run(("certutil", "-K", "-d", host.store)).stdout


@needs_tools
def test_the_last_of_several_cables_removes_what_they_share(host: Host) -> None:
    other = other_cable(host)
    assert host.install(host.cable, other).returncode == 0
    host.remove(host.cable)
    assert host.names() == {host.nick, host.authority_name()}
    host.remove(other)
    assert host.names() == set()


@needs_tools
def test_a_renewed_certificate_and_authority_replace_the_former_ones(host: Host) -> None:
    assert host.install().returncode == 0
    above = authority("authority")  # with the same name
    own = above.issue()
    host.put(own, above, host.above)
    assert host.install().returncode == 0
    both = {host.authority_name(above), host.authority_name()}
    assert host.names() == {host.nick, *both}
    mark = host.mark()
    assert mark
    assert mark.certificates == {own.certificate.sha256: host.nick}
    host.put(own, above)
    assert host.install().returncode == 0
    assert host.names() == {host.nick, host.authority_name(above)}
    assert host.run(("certutil", "-K", "-d", host.store)).stdout.count("\n<") == 1


@needs_tools
def test_a_removed_authority_is_remembered_while_pluto_runs(host: Host) -> None:
    """Again and again in one file, and nothing of the gateway's own certificate."""
    (host.root / "run").mkdir()
    assert host.install().returncode == 0
    host.remove(host.cable)
    assert list((host.root / "run").iterdir()) == []
    (host.root / "run" / "pluto.pid").write_text("77\n")
    for _ in range(2):
        assert host.install().returncode == 0
        host.remove(host.cable)
    (file,) = (host.root / "run").glob("cablectl-*")
    assert file.name == f"{host.authority_name()}.77"
    assert file.read_bytes().split() == host.above.pem.split()
    assert file.stat().st_mode & 0o777 == 0o600


@needs_tools
def test_what_was_there_before_stays(host: Host) -> None:
    host.add("its own", host.above, "C,,")
    host.add("another", authority("other"), "C,,")
    before = host.run(("certutil", "-L", "-d", host.store)).stdout
    assert host.install().returncode == 0
    mark = host.mark()
    assert mark
    assert mark.authorities == {host.above.certificate.sha256: "its own"}
    host.remove(host.cable)
    assert host.run(("certutil", "-L", "-d", host.store)).stdout == before


@needs_tools
def test_a_failure_leaves_nothing(host: Host) -> None:
    host.put(host.above.issue("another"), host.above)
    (host.root / "key.pem").write_bytes(host.own.private.pem)  # of another certificate
    done = host.install()
    assert done.returncode != 0
    assert host.names() == set()
    assert list((host.root / "ipsec.d").iterdir()) == []


@needs_tools
def test_an_untrusted_file_is_refused(host: Host) -> None:
    for name in ("cert.pem", "key.pem", "ca.pem"):
        path = host.root / name
        path.chmod(0o666)
        done = host.install()
        assert (done.returncode, host.names()) == (3, set())
        assert f"writable by others: {path}" in done.stderr
        path.chmod(0o600)


@needs_tools
def test_a_certificate_under_another_name_is_refused(host: Host) -> None:
    host.add("gateway", host.own, ",,")
    done = host.install()
    assert done.returncode == 3
    assert "write nickname: gateway" in done.stderr
    assert host.names() == {"gateway"}


@needs_tools
def test_crls_go_with_their_authority(host: Host) -> None:
    crl = host.root / "crl.pem"
    cert = replace(host.cert, crl=str(crl))
    cable = with_certificates(host.cable, cert)
    crl.write_bytes(host.above.revoke({}).pem)
    assert host.install(cable).returncode == 0
    crls = ("crlutil", "-L", "-d", host.store)
    assert host.authority_name() in host.run(crls).stdout
    host.remove(cable)
    assert "cablectl" not in host.run(crls).stdout
    crl.write_bytes(authority("other").revoke({}).pem)
    done = host.install(cable)
    assert done.returncode == 3
    assert "a CRL of no authority" in done.stderr
    assert host.names() == set()


@needs_tools
def test_a_crl_of_the_hosts_own_authority_goes_alone(host: Host) -> None:
    host.add("its own", host.above, "C,,")
    crl = host.root / "crl.pem"
    crl.write_bytes(host.above.revoke({}).pem)
    cable = with_certificates(host.cable, replace(host.cert, crl=str(crl)))
    assert host.install(cable).returncode == 0
    crls = ("crlutil", "-L", "-d", host.store)
    assert "its own" in host.run(crls).stdout
    host.remove(cable)
    assert "its own" not in host.run(crls).stdout
    assert host.names() == {"its own"}


@needs_tools
def test_an_authority_that_is_renewed_under_its_name_keeps_its_crl(host: Host) -> None:
    crl = host.root / "crl.pem"
    cable = with_certificates(host.cable, replace(host.cert, crl=str(crl)))
    crl.write_bytes(host.above.revoke({}).pem)
    assert host.install(cable).returncode == 0
    above = authority("authority")
    host.put(above.issue(), above)
    crl.write_bytes(above.revoke({1: NOW - DAY / 2}).pem)
    assert host.install(cable).returncode == 0
    assert host.names() == {host.nick, host.authority_name(above)}
    assert host.authority_name(above) in host.run(("crlutil", "-L", "-d", host.store)).stdout


@needs_tools
def test_a_certificate_in_nss_is_only_listed(host: Host) -> None:
    assert host.install().returncode == 0
    cable = with_certificates(host.cable, Cert(nickname="gateway"))
    assert host.install(cable).returncode != 0  # NSS has none
    host.remove(host.cable)
    host.add("gateway", host.own, ",,")
    assert host.install(cable).returncode == 0
    mark = host.mark()
    assert mark
    assert mark.certificates == {host.own.certificate.sha256: "gateway"}
    host.remove(cable)
    assert host.names() == {"gateway"}


def test_no_key_is_in_a_command(cable: Cable) -> None:
    method = authentication_of(with_certificates(cable).ipsec)
    install = method.install(with_certificates(cable))
    assert install[4:10] == (
        "cablectl-/etc/cablectl/cert.pem",
        "/etc/cablectl/cert.pem",
        "/etc/cablectl/key.pem",
        "/etc/cablectl/ca.pem",
        "",
        "",
    )
    assert method.place(cable) == "/etc/ipsec.d/cablectl-cluster2-172-18-0-7.secrets"


def test_a_secrets_file_is_no_mark() -> None:
    assert nss.parse_mark("172.18.0.8 172.18.0.7 : PSK 0x00\n") is None
