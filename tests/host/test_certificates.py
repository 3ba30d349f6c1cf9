"""A gateway's certificate: what is refused before anything changes, and what connect would do."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
from msgspec.structs import replace

from cablectl.facts.host_facts import Credential
from cablectl.host import certificates, nss_store, pluto_process, probe
from cablectl.host.certificates import Found
from cablectl.host.nss_store import Store, columns
from cablectl.libreswan import nss, secrets_file
from cablectl.model.cable import Cable
from cablectl.model.x509 import Auth, Cert, KeyType
from tests.support.certificates import Made, authority

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
NAME = "cluster1-worker"


class Host:
    """The files of a certificate, pluto's directory, and what NSS has."""

    def __init__(self, root: Path, cable: Cable) -> None:
        self.root, self.trust = root, dict[str, str]()
        self.in_nss, self.with_crl = dict[str, tuple[Made, ...]](), frozenset[str]()
        self.pluto_runs, self.removed = False, tuple[Made, ...]()
        self.above = authority(begin=NOW - HOUR, end=NOW + HOUR)
        self.cert = Cert(
            certificate=f"{root}/cert.pem",
            key=f"{root}/key.pem",
            authority=f"{root}/ca.pem",
            key_type=KeyType.ECDSA,
        )
        self._cable = cable
        self.put(self.issue())

    @property
    def cable(self) -> Cable:
        ipsec = replace(self._cable.ipsec, auth=Auth.CERT, cert=self.cert)
        return replace(self._cable, ipsec=ipsec)

    def named(self, identity: str) -> None:
        self._cable = replace(self._cable, local=replace(self._cable.local, identity=identity))

    def issue(self, name: str = NAME, **wishes: object) -> Made:
        times = {"begin": NOW - HOUR, "end": NOW + HOUR}
        return self.above.issue(name, names=(f"DNS:{name}",), **{**times, **wishes})  # type: ignore[arg-type]

    def write(self, name: str, content: bytes, mode: int = 0o600) -> None:
        (self.root / name).touch(mode)
        (self.root / name).write_bytes(content)

    def put(self, own: Made) -> None:
        self.own = own
        self.write("cert.pem", own.pem)
        self.write("key.pem", own.private.pem)
        self.write("ca.pem", self.above.pem)

    def imported(self) -> None:
        """Have NSS and the mark as the import leaves them."""
        name = self.cert.nss_name
        sha = self.above.certificate.sha256
        self.trust = {name: "u,u,u", f"cablectl-{sha}": "CT,,"}
        self.in_nss = {name: (self.own,), f"cablectl-{sha}": (self.above,)}
        lines = [f"id {pair}" for pair in secrets_file.pairs(self.cable)]
        lines += [f"certificate {self.own.certificate.sha256} {name}"]
        lines += [f"authority {sha} cablectl-{sha}"]
        Path(secrets_file.path(self.cable)).write_text("".join(f"# cablectl {x}\n" for x in lines))

    def find(self) -> Found:
        removed = tuple(made.certificate for made in self.removed)
        store = Store("sql:/nss", self.trust, self.with_crl, self.pluto_runs, removed)
        known = {name: tuple(m.certificate for m in made) for name, made in self.in_nss.items()}
        store.__dict__["known"] = {name: known.get(name, ()) for name in (*known, *self.trust)}
        store.__dict__["known"].setdefault(self.cert.nss_name, ())
        return certificates.finder(self.cert, store)(self.cable)

    def problem(self) -> tuple[str, str]:
        (problem,) = self.find().problems
        return problem


@pytest.fixture
def host(tmp_path: Path, cable: Cable, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(secrets_file, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda tool: tool)
    return Host(tmp_path, cable)


def test_a_right_certificate_has_no_problem(host: Host) -> None:
    found = host.find()
    assert (found.held, found.problems, found.warnings) == (Credential.ABSENT, (), ())
    assert f"CN={NAME}, O=test" in found.summary


def test_what_is_refused(host: Host) -> None:
    other = authority("other", begin=NOW - HOUR, end=NOW + HOUR)
    strange = other.issue(NAME, names=(f"DNS:{NAME}",), begin=NOW - HOUR, end=NOW + HOUR)
    big = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    cases = {
        "is issued by": strange,
        "is expired since": host.issue(begin=NOW - 2 * HOUR, end=NOW - HOUR),
        "isn't valid before": host.issue(begin=NOW + HOUR / 2),
        f"isn't for DNS:{NAME}": host.issue("another"),
        "the file says key_type: ecdsa": host.issue(key=big),
    }
    for expected, made in cases.items():
        host.put(made)
        message, hint = host.problem()
        assert message.startswith("ipsec.cert: ")
        assert expected in message
        assert hint
    host.put(host.issue())
    host.write("key.pem", host.issue().private.pem)
    assert "doesn't belong to" in host.problem()[0]


def test_a_file_that_cannot_be_read_or_trusted(host: Host) -> None:
    (host.root / "key.pem").chmod(0o640)
    assert host.problem() == (
        f"{host.root}/key.pem can be read by others than root",
        f"chmod 600 {host.root}/key.pem",
    )
    (host.root / "key.pem").chmod(0o600)
    (host.root / "ca.pem").chmod(0o666)
    assert "can be written by everybody" in host.problem()[0]
    (host.root / "ca.pem").unlink()
    assert (
        host.problem()[0] == f"ipsec.cert.authority: {host.root}/ca.pem: No such file or directory"
    )
    host.write("ca.pem", b"nothing")
    assert host.problem()[0].startswith(f"ipsec.cert.authority: {host.root}/ca.pem: no certificate")
    host.put(host.own)
    host.write("key.pem", b"-----BEGIN PRIVATE KEY-----\nnonsense\n")
    message, _ = host.problem()
    assert message.startswith(f"ipsec.cert.key: {host.root}/key.pem: ")
    assert "nonsense" not in message


def test_a_dn(host: Host) -> None:
    host.named(f"CN={NAME}, O=test")
    assert host.find().problems == ()
    host.named("CN=another, O=test")
    assert f"'CN={NAME}, O=test'" in host.problem()[0]


def test_pkcs12(host: Host) -> None:
    made = host.own
    encryption = BestAvailableEncryption(b"secret")
    raw = pkcs12.serialize_key_and_certificates(b"x", made.key, made.loaded, None, encryption)
    host.write("own.p12", raw)
    host.write("pass", b"secret\n")
    host.cert = Cert(
        pkcs12=f"{host.root}/own.p12",
        passphrase_file=f"{host.root}/pass",
        authority=f"{host.root}/ca.pem",
        key_type=KeyType.ECDSA,
    )
    assert host.find().problems == ()
    host.write("pass", b"wrong\n")
    message, _ = host.problem()
    assert "the passphrase is wrong" in message


def test_a_revoked_certificate_and_an_outdated_list(host: Host) -> None:
    host.cert = replace(host.cert, crl=f"{host.root}/crl.pem")
    serial = host.own.certificate.serial
    host.write("crl.pem", host.above.revoke({serial: NOW - HOUR}, NOW + HOUR).pem)
    assert "is revoked since" in host.problem()[0]
    host.write("crl.pem", host.above.revoke({}, NOW - HOUR / 2).pem)
    (warning,) = host.find().warnings
    assert warning.startswith("ipsec.cert.crl: the revocation list of ")


def test_what_connect_would_do(host: Host) -> None:
    host.imported()
    assert host.find().held is Credential.SAME
    host.trust[host.cert.nss_name] = ",,"  # without its key
    assert host.find().held is Credential.INCOMPLETE
    host.imported()
    host.trust.pop(f"cablectl-{host.above.certificate.sha256}")
    assert host.find().held is Credential.INCOMPLETE
    host.imported()
    host.named("another.example")
    assert host.find().held is Credential.RENEWED
    host.named(NAME)
    assert host.find().held is Credential.SAME
    host.put(host.issue())
    assert host.find().held is Credential.RENEWED
    Path(secrets_file.path(host.cable)).write_text("172.18.0.8 172.18.0.7 : PSK 0x00\n")
    assert host.find().held is Credential.OTHER


def test_a_new_list_or_authority_keeps_the_connections(host: Host) -> None:
    host.imported()
    host.cert = replace(host.cert, crl=f"{host.root}/crl.pem")
    host.write("crl.pem", host.above.revoke({}, NOW + HOUR).pem)
    assert host.find().held is Credential.INCOMPLETE
    host.cert = replace(host.cert, crl="")
    more = authority("more", begin=NOW - HOUR, end=NOW + HOUR)
    host.write("ca.pem", host.above.pem + more.pem)
    assert host.find().held is Credential.INCOMPLETE


def test_an_authority_that_pluto_trusts_although_it_is_removed(host: Host) -> None:
    old, new = host.above, authority("new", begin=NOW - HOUR, end=NOW + HOUR)
    host.imported()
    host.above = new
    host.put(host.issue())
    assert host.find().warnings == ()  # without pluto
    host.pluto_runs = True
    told = "pluto trusts the authority 'CN=authority, O=test' until pluto is restarted"
    for removed, held in ((), host.trust), ((old,), {}):
        host.removed, host.trust = removed, held
        (warning,) = host.find().warnings
        assert warning.startswith(told)
    host.write("ca.pem", old.pem + new.pem)
    assert host.find().warnings == ()
    host.above = authority(begin=NOW - HOUR, end=NOW + HOUR)  # another one with the old name
    host.put(host.issue())
    (warning,) = host.find().warnings
    assert warning.startswith(told)


def test_what_nss_has_under_other_names(host: Host) -> None:
    host.trust, host.in_nss = {"its own": "C,,"}, {"its own": (host.above,)}
    assert host.find() == replace(host.find(), problems=(), warnings=())
    host.trust = {"its own": ",,"}
    assert host.problem()[0] == "ipsec.cert.authority: NSS has 'its own', and doesn't trust it"
    host.trust, host.in_nss = {"gateway": "u,u,u"}, {"gateway": (host.own,)}
    message, hint = host.problem()
    assert "NSS has this certificate already, as 'gateway'" in message
    assert hint.startswith("write nickname: gateway")
    other = authority("other")
    host.trust, host.in_nss = {"other": "CT,,"}, {"other": (other,)}
    (warning,) = host.find().warnings
    assert warning.startswith("NSS also trusts the authority 'other'")


def test_a_certificate_that_is_in_nss(host: Host) -> None:
    host.cert = Cert(nickname="gateway", key_type=KeyType.ECDSA)
    assert "NSS has no certificate called 'gateway'" in host.problem()[0]
    host.trust, host.in_nss = {"gateway": ",,"}, {"gateway": (host.own,)}
    assert "NSS has no key called 'gateway'" in host.problem()[0]
    host.trust = {"gateway": "u,u,u"}
    assert host.find().problems == ()


def test_a_missing_tool(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: None if "p" in tool else tool)
    assert host.problem() == (
        "openssl is not installed, and auth: cert needs it",
        "on Debian: apt install openssl",
    )


def test_authorities_removed_while_this_pluto_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nss_store, "RUN", str(tmp_path))
    pid = f"{os.getpid()}"
    monkeypatch.setattr(pluto_process, "pid", lambda: pid)
    monkeypatch.setattr(probe, "if_any", lambda *_: "")
    old, kept = authority("old"), authority("kept")
    names = {made: f"cablectl-{made.certificate.sha256}" for made in (old, kept)}
    between = old.issue("between", ca=True)
    (tmp_path / f"{names[old]}.{pid}").write_bytes(old.pem + between.pem)
    (tmp_path / f"{names[kept]}.1").write_bytes(kept.pem)  # of an earlier pluto
    (tmp_path / f"cablectl-0.{pid}").write_text("no certificate")
    store = nss_store.read()
    assert (store.pluto_runs, [each.sha256 for each in store.removed]) == (
        True,
        [old.certificate.sha256],
    )
    monkeypatch.setattr(pluto_process, "pid", lambda: "")
    store = nss_store.read()
    assert (store.pluto_runs, store.removed) == (False, ())
    monkeypatch.setattr(pluto_process, "pid", lambda: pid)
    listed = f"Name\n{names[old]}  CT,,\n"
    monkeypatch.setattr(probe, "if_any", lambda *argv: listed if "-L" in argv else "")
    assert nss_store.read().removed == ()  # NSS has it again


def test_the_lists_of_nss() -> None:
    certutil = """
Certificate Nickname                                         Trust Attributes
                                                             SSL,S/MIME,JAR/XPI

its own name                                                 CT,C,C
cablectl-/etc/cablectl/cert.pem                              u,u,u
cablectl-dd1097e65be4db2a32605e91e26697425b8479a5020d9ad080d9aad996b524e6 CT,, \n"""
    found = dict(columns(certutil, "[a-zA-Z]*,[a-zA-Z]*,[a-zA-Z]*"))
    assert list(found.values()) == ["CT,C,C", "u,u,u", "CT,,"]
    assert list(found)[:2] == ["its own name", "cablectl-/etc/cablectl/cert.pem"]
    crlutil = "\n\nCRL names                                CRL Type\n\nits own    CRL  \n"
    assert dict(columns(crlutil, "CRL")) == {"its own": "CRL"}
    assert (
        nss.fingerprint(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
