"""`cablectl ca` as a process: options, reports, errors, and that no output has a secret."""

import json
import os
import pty
import re
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.places import EXAMPLES, PROGRAM
from tests.support.program import complete, run

MESH = str(EXAMPLES / "mesh.yaml")
PASSPHRASE = "a passphrase of a test, nowhere shown"  # noqa: S105 - of this test alone
CLUSTERS = ["cluster1", "cluster2", "cluster3"]


class Place:
    """A directory in which the commands run, with a passphrase in a file."""

    def __init__(self, root: Path) -> None:
        self.root, self.out, self.file = root, root / "out", root / "passphrase"
        self.file.touch(mode=0o600)
        self.file.write_text(f"{PASSPHRASE}\n")

    def run(self, words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `cablectl ca`; nothing that it prints has a secret."""
        places = {"MESH": MESH, "OUT": str(self.out)}
        args = [places.get(word, word) for word in words.split()]
        unlocking = (
            args[0] in ("init", "issue", "renew", "revoke") and "--passphrase-file" not in args
        )
        given = ("--passphrase-file", str(self.file)) if unlocking else ()
        done = run("ca", *args, "--ca", str(self.root / "ca"), *given)
        assert done.returncode == code, done.stderr
        for secret in (PASSPHRASE, *self.secrets):
            assert secret not in done.stdout + done.stderr
        return done

    @property
    def secrets(self) -> list[str]:
        """A line of each private key."""
        return [
            path.read_text().splitlines()[1]
            for path in self.root.rglob("*key.pem*")
            if path.is_file()
        ]

    def report(self, words: str) -> dict[str, object]:
        found = json.loads(self.run(f"{words} --format json").stdout)
        assert found["kind"] == "ca"
        result = found["result"]
        assert isinstance(result, dict)
        return result


@pytest.fixture
def this(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.run("init")
    return place


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An authority that no test changes."""
    place = Place(tmp_path_factory.mktemp("settled"))
    place.run("init")
    return place


def told(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


def test_from_init_to_revoke(this: Place) -> None:
    text = told(this.run("issue MESH --out OUT"))
    assert "3 issued; the authority 'O=cablectl, CN=cablectl authority " in text
    assert "DNS:cluster1-worker, DNS:rotate.cluster1-worker" in text
    assert f"over a channel that you trust: they are in {this.out}" in text
    assert sorted(path.name for path in this.out.iterdir()) == CLUSTERS
    assert "3 kept;" in told(this.run("issue MESH --out OUT"))
    text = told(this.run("renew MESH --out OUT --for cluster2 --all"))
    assert "1 renewed;" in text
    assert (this.out / "cluster2" / "cert.pem.next").exists()
    text = told(this.run("revoke cluster3-worker"))
    assert "1 revoked;" in text
    assert f"copy {this.root}/ca/crl.pem to every gateway, as the crl.pem there" in text
    assert "3 valid, 1 revoked;" in told(this.run("list"))
    text = told(this.run("renew MESH --out OUT"))
    assert "2 kept;" in text
    assert "cluster3 has no certificate to renew: cablectl ca issue" in text


def test_the_report(this: Place) -> None:
    result = this.report("issue MESH --out OUT")
    rows = result["certificates"]
    assert isinstance(rows, list)
    assert [row["cluster"] for row in rows] == CLUSTERS
    assert {row["outcome"] for row in rows} == {"issued"}
    assert {row["state"] for row in rows} == {"valid"}
    assert rows[0]["names"] == ["DNS:cluster1-worker", "DNS:rotate.cluster1-worker"]
    assert rows[0]["directory"] == f"{this.out}/cluster1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", rows[0]["not_after"])
    assert this.report("revoke " + rows[1]["serial"])["certificates"] != []
    listed = this.report("list")["certificates"]
    assert isinstance(listed, list)
    by_serial = {row["serial"]: row for row in listed}
    assert by_serial.keys() == {row["serial"] for row in rows}
    assert by_serial[rows[1]["serial"]]["state"] == "revoked"
    assert by_serial[rows[1]["serial"]]["revoked_since"]
    assert by_serial[rows[0]["serial"]]["outcome"] is None


def test_one_gateway_and_its_lifetime(this: Place) -> None:
    rows = this.report("issue MESH --out OUT --for cluster2-worker --days 29 --key-type rsa")
    certificates = rows["certificates"]
    assert isinstance(certificates, list)
    (row,) = certificates
    assert (row["cluster"], row["state"]) == ("cluster2", "ends soon")
    text = (this.out / "cluster2" / "cert.pem").read_text()
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-text"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Public-Key: (3072 bit)" in shown
    assert "DNS:cluster2-worker, DNS:rotate.cluster2-worker" in shown
    assert "1 renewed;" in told(this.run("renew MESH --out OUT --for cluster2"))


def test_a_new_authority_from_renew_to_finish(this: Place) -> None:
    this.run("issue MESH --out OUT")
    text = told(this.run("renew --authority"))
    assert "beside the old one: run `cablectl ca renew FILE --out DIR`" in text
    assert "has issued nothing yet to O=cablectl, CN=cluster1-worker" in told(this.run("finish", 2))
    text = told(this.run("renew MESH --out OUT"))
    assert "3 renewed;" in text
    assert "is taking over" in text
    assert "is the authority now: copy its ca.pem and crl.pem" in told(this.run("finish"))
    assert "3 valid;" in told(this.run("list"))
    assert not [*(this.root / "ca").glob("*.next")]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("init", 2, "ca exists already"),
        ("issue MESH", 2, "Missing option '--out'"),
        ("issue --out OUT", 2, "Missing argument 'FILE'"),
        ("issue missing.yaml --out OUT", 2, "missing.yaml: No such file"),
        ("issue MESH --out OUT --for nobody", 2, "--for 'nobody': no endpoint has"),
        ("issue MESH --out OUT --days 0", 2, "'0' is not a whole number of days from 1 to 36500"),
        ("issue MESH --out OUT --key-type dsa", 2, "'dsa' is not one of 'rsa', 'ecdsa'"),
        ("renew", 2, "missing: FILE and --out DIR, or --authority"),
        ("renew MESH", 2, "missing: FILE and --out DIR, or --authority"),
        ("renew MESH --authority", 2, "--authority goes with neither FILE, --out, --for nor --all"),
        ("renew MESH --out OUT", 2, "cluster1 has no certificate of this authority for DNS:"),
        ("revoke nobody", 2, "'nobody': no certificate that hasn't ended has this name or serial"),
        ("finish", 2, "no new authority is taking over"),
        ("issue MESH --out OUT --passphrase-file missing", 2, "--passphrase-file missing: No such"),
    ],
)
def test_what_is_wrong_is_said(settled: Place, words: str, code: int, message: str) -> None:
    done = settled.run(words, code)
    assert done.stdout == ""
    assert message in told(done)
    assert not settled.out.exists()


def test_an_error_is_json_too(settled: Place) -> None:
    done = settled.run("revoke nobody --format json", 2)
    found = json.loads(done.stdout)
    assert found["kind"] == "ca"
    assert found["error"]["exit_code"] == 2
    assert found["error"]["hint"] == "cablectl ca list"


def test_no_authority_there(tmp_path: Path) -> None:
    for words in ("list", "finish", "issue MESH --out OUT", "revoke x"):
        done = Place(tmp_path).run(words, 2)
        assert f"--ca: {tmp_path}/ca holds no authority" in told(done)
        assert "try: cablectl ca init makes one" in told(done)


def test_the_passphrase_has_to_be_strong_private_and_right(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.file.write_text("short\n")
    assert "fewer than 16 characters" in told(place.run("init", 2))
    place.file.write_text("\n")
    assert "the passphrase is empty" in told(place.run("init", 2))
    place.file.write_text(PASSPHRASE)
    place.file.chmod(0o644)
    assert "can be read by others" in told(place.run("init", 3))
    assert not (tmp_path / "ca").exists()
    place.file.chmod(0o600)
    place.run("init")
    place.file.write_text(f"not {PASSPHRASE}")
    assert "or the passphrase is wrong" in told(place.run("issue MESH --out OUT", 3))
    assert not place.out.exists()


def test_without_a_terminal_it_asks_for_the_file(settled: Place) -> None:
    done = subprocess.run(
        [PROGRAM, "ca", "issue", MESH, "--out", str(settled.out), "--ca", f"{settled.root}/ca"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "missing: --passphrase-file PATH; there is no terminal to ask on" in told(done)


def typed(tmp_path: Path, *answers: str) -> str:
    """Run init at a terminal, type answers when it asks, and return all that is on the screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(PROGRAM, [str(PROGRAM), "ca", "init", "--ca", str(tmp_path / "ca")])  # noqa: S606
    shown, left, end = b"", list(answers), time.monotonic() + 30
    while time.monotonic() < end:
        try:
            shown += os.read(terminal, 1024)
        except OSError:  # the program has ended
            break
        if left and shown.rstrip().endswith(b":"):
            os.write(terminal, f"{left.pop(0)}\n".encode())
            shown += b"|"
    os.waitpid(pid, 0)
    os.close(terminal)
    return shown.decode()


def test_a_terminal_shows_no_passphrase(tmp_path: Path) -> None:
    shown = typed(tmp_path, PASSPHRASE, PASSPHRASE)
    assert "The same passphrase again:" in shown
    assert PASSPHRASE not in shown
    assert "the authority 'O=cablectl" in shown
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    place = Place(tmp_path)
    place.run("issue MESH --out OUT")


def test_two_passphrases_that_differ(tmp_path: Path) -> None:
    shown = typed(tmp_path, PASSPHRASE, f"{PASSPHRASE}.")
    assert "the two passphrases differ" in shown
    assert PASSPHRASE not in shown
    assert not (tmp_path / "ca").exists()


def test_no_option_takes_a_secret() -> None:
    for command in ("init", "issue", "renew", "revoke"):
        text = told(run("ca", command, "--help"))
        assert set(re.findall(r"--pass[a-z-]*", text)) == {"--passphrase-file"}
        assert "Example: cablectl ca" in text


def test_the_ends_are_completed(tmp_path: Path) -> None:
    done = complete("cablectl", "ca", "issue", MESH, "--for", "cluster3")
    assert done.stdout.split() == ["cluster3", "cluster3-worker"]
