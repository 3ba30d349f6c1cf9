"""Where secrets go: every write, argv and environment of all processes of all commands, by strace.

Keys and passphrases may be in pipes between the processes of one command, and in files of mode 0600
that are meant for them; nowhere else, so not in a log, a report or what a command prints.
"""

from __future__ import annotations

import codecs
import re
import secrets as random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from . import certs, extent
from .cable import EXAMPLES, FILE, PSK_FILE, bring_up, ping, run, tear_down
from .gateways import PLUTO_LOG, Gateway, two_gateways
from .rooms import PROGRAM

pytestmark = pytest.mark.lab

TRACE, REPORT, STAMP = "/tmp/trace", "/tmp/report.tar.gz", "/tmp/stamp"
CALLS = "trace=execve,write,writev,pwrite64,sendto,sendmsg"
# Pipes, pluto's secrets, the directory of mode 0700 that NSS imports from, and what `ca` hands out.
ALLOWED = re.compile(
    r"\d+ +(write|writev|pwrite64)\(\d+<(pipe:\[\d+\]|/etc/ipsec\.d/cablectl-[^/>]+\.secrets\.new"
    r"|/run/cablectl/\.nss/(key|pass)|/tmp/out/[^>]+)>, "
)
# The passphrase with which openssl hands a key over to NSS's own tool.
FOR_NSS = re.compile(rb'</run/cablectl/\.nss/pass>, "([0-9a-f]{48})"')
PPK_FILE = "/etc/cablectl/ppk"
P12, PASSPHRASE = "/etc/cablectl/gateway.p12", "/etc/cablectl/passphrase"
CERT = f"pkcs12: {P12}, passphrase_file: {PASSPHRASE}"
AUTHORITY = ("--ca", "/tmp/ca", "--passphrase-file", PASSPHRASE)
WITH_PPK = (
    (EXAMPLES / "quickstart.yaml")
    .read_text()
    .replace("ipsec:\n", f"ipsec:\n  ppk: {{file: {PPK_FILE}}}\n")
)


class Traced:
    """A gateway whose commands run under strace."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.calls: list[bytes] = []
        self.printed = b""

    def run(self, *args: str, code: int = 0) -> None:
        """Run the program; note the system calls of all its processes, and what it prints."""
        options = ("-f", "--seccomp-bpf", "-qq", "-v", "-y", "-s", "65536", "-e", CALLS)
        argv = ("strace", *options, "-o", TRACE, PROGRAM, *args)
        done = self.gateway.run(*argv, check=False, timeout=150)
        assert done.returncode == code, done.stderr
        lines = self.gateway.path(TRACE).read_bytes().splitlines()
        self.gateway.path(TRACE).unlink()
        assert any(b"execve(" in line for line in lines)
        self.calls += [codecs.escape_decode(line)[0] for line in lines]
        self.printed += (done.stdout + done.stderr).encode()

    def writes_of(self, *secrets: bytes) -> list[str]:
        """Return the calls that hold a secret; AssertionError if one of them may not."""
        assert not held(self.printed, *secrets)
        calls = [call.decode("latin1") for call in self.calls if held(call, *secrets)]
        assert [call[:200] for call in calls if not ALLOWED.match(call)] == []
        return calls

    def assert_files(self, *secrets: bytes, allowed: set[str]) -> None:
        """No file that was written since the stamp may hold a secret, besides those allowed."""
        changed = f"find /run /tmp /var /etc -xdev -type f -newer {STAMP} -print0"
        names = self.gateway.run("sh", "-c", changed).stdout.split("\0")[:-1]
        assert FILE in names
        found = {name for name in names if held(self.gateway.path(name).read_bytes(), *secrets)}
        assert found == allowed
        assert all(self.gateway.path(name).stat().st_mode & 0o77 == 0 for name in found)
        assert not held(self.gateway.path(PLUTO_LOG).read_bytes(), *secrets)

    def assert_report(self, *secrets: bytes) -> None:
        """The report of doctor may hold no secret."""
        report = self.gateway.run("tar", "-xzOf", REPORT).stdout
        assert "submariner-cable" in report
        assert not held(report.encode(), *secrets)


def held(text: bytes, *secrets: bytes) -> bool:
    """Tell whether a text holds a secret, as it is or in hex."""
    lower = text.lower()
    return any(secret in text or secret.hex().encode() in lower for secret in secrets)


def parts_of(pem: bytes, passphrase: bytes | None = None) -> list[bytes]:
    """Return what of a private key can be found in a text: its number, and its lines in PEM."""
    key = serialization.load_pem_private_key(pem, passphrase)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    number = key.private_numbers().private_value.to_bytes(key.key_size // 8)
    texts = [
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        for form in (
            serialization.PrivateFormat.PKCS8,
            serialization.PrivateFormat.TraditionalOpenSSL,
        )
    ]
    return [number, *(line for text in texts for line in text.splitlines()[2:-2])]


@contextmanager
def started() -> Iterator[list[Gateway]]:
    with two_gateways("4.10", "4.10") as lab:
        for gateway in lab.gateways:
            gateway.start_pluto()
            gateway.run("touch", "--date=1 minute ago", STAMP)
        yield lab.gateways


def use(traced: Traced) -> None:
    """Run each command on the cable that is up, and tear it down."""
    for args in (
        ("plan", FILE, "--format", "json"),
        ("-v", "status", FILE, "--format", "json"),
        ("doctor", FILE, "--report", REPORT),
        ("teardown", FILE),
    ):
        traced.run(*args)


def test_pre_shared_keys_and_a_ppk() -> None:
    """Also while a key is rotated."""
    psk, after, ppk = (random.token_hex(32).encode() for _ in range(3))
    with started() as (first, second):
        for gateway in (first, second):
            gateway.write(FILE, WITH_PPK)
            gateway.write(PSK_FILE, f"{psk.decode()}\n")
            gateway.write(PPK_FILE, f"{ppk.decode()}\n")
        bring_up(second, first)
        tear_down(first)
        traced = Traced(first)
        traced.run("connect", FILE)
        assert ping(first).returncode == 0
        for gateway in (first, second):
            gateway.write(f"{PSK_FILE}.next", f"{after.decode()}\n")
        with second.popen(PROGRAM, "rotate", FILE) as peer:
            traced.run("rotate", FILE)
            assert peer.wait(100) == 0
        use(traced)
        for secret in (psk, after, ppk):
            assert any(".secrets.new" in call for call in traced.writes_of(secret))
        traced.assert_report(psk, after, ppk)
        traced.assert_files(psk, after, ppk, allowed={PSK_FILE, PPK_FILE})


def hand_out(first: Gateway, second: Gateway, ending: str = "") -> None:
    """Copy what `ca` made to both gateways, for the first as a PKCS#12."""
    made = "/tmp/out/cluster{}/{}" + ending
    for name in ("cert.pem", "key.pem", "ca.pem"):
        if text := first.read(made.format(2, name)):
            second.write(f"{certs.DIRECTORY}/{name}{ending}", text)
    own = f"-in {made.format(1, 'cert.pem')} -inkey {made.format(1, 'key.pem')}"
    to = f"-out {P12}{ending} -passout file:{PASSPHRASE}"
    first.run("openssl", "pkcs12", "-export", *own.split(), *to.split())
    if not ending:
        first.write(f"{certs.DIRECTORY}/ca.pem", first.read(made.format(1, "ca.pem")))


@pytest.mark.parametrize(
    "rotated",
    [False, pytest.param(True, marks=pytest.mark.skipif(not extent.ALL, reason="make rotation"))],
)
def test_private_keys_and_their_passphrases(rotated: bool) -> None:
    """From an authority's key to a gateway's in NSS."""
    passphrase = random.token_hex(16).encode()
    with started() as (first, second):
        traced = Traced(first)
        first.write(PASSPHRASE, f"{passphrase.decode()}\n")
        for gateway in (first, second):
            gateway.write(FILE, certs.document())
        traced.run("ca", "init", *AUTHORITY)
        traced.run("ca", "issue", FILE, "--out", "/tmp/out", *AUTHORITY)
        hand_out(first, second)
        first.write(FILE, certs.document(cert=CERT))

        with second.popen(PROGRAM, "connect", FILE) as peer:
            traced.run("connect", FILE)
            assert peer.wait(100) == 0
        assert ping(first).returncode == 0
        traced.run("ca", "renew", FILE, "--all", "--out", "/tmp/out", *AUTHORITY)
        if rotated:
            hand_out(first, second, ".next")
            with second.popen(PROGRAM, "rotate", FILE) as peer:
                traced.run("rotate", FILE)
                assert peer.wait(100) == 0
        use(traced)
        traced.run("ca", "revoke", "gw2.example", *AUTHORITY)
        traced.run("ca", "list", *AUTHORITY[:2])

        keys = [f"/tmp/out/cluster1/key.pem{ending}" for ending in ("", ".next")]
        own = [part for key in keys for part in parts_of(first.path(key).read_bytes())]
        authority = parts_of(first.path("/tmp/ca/ca-key.pem").read_bytes(), passphrase)
        assert any("/run/cablectl/.nss/key" in call for call in traced.writes_of(*own))
        of_nss = {match[1] for call in traced.calls if (match := FOR_NSS.search(call))}
        assert traced.writes_of(passphrase, *authority) == []
        assert len(of_nss) == 1 + rotated
        assert traced.writes_of(*of_nss)
        everything = (passphrase, *of_nss, *authority, *own)
        traced.assert_report(*everything)
        traced.assert_files(*everything, allowed={PASSPHRASE, *keys})
        assert run(second, "teardown", FILE).returncode == 0
