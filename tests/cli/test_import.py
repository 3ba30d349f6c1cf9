"""`cablectl import`, and documents on standard input, by real processes."""

import json
import os
import shlex
import stat
import subprocess
from pathlib import Path

import yaml

from tests.support.places import BIN, CASES, EXAMPLES, PROGRAM, ROOT

FOLDER = EXAMPLES / "submariner"
FILES = tuple(str(FOLDER / f"{name}.yaml") for name in ("submariner", "endpoints"))


def run(*args: str, given: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run cablectl; `given` is standard input."""
    environment = {**os.environ, "COLUMNS": "80", **more}
    return subprocess.run(
        [PROGRAM, *args], input=given, capture_output=True, text=True, check=False, env=environment
    )


def test_file_and_key_are_written_apart(tmp_path: Path) -> None:
    psk, file = tmp_path / "psk", tmp_path / "cable.yaml"
    done = run("import", *FILES, "--psk-file", str(psk), "-o", str(file))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert stat.S_IMODE(psk.stat().st_mode) == 0o600
    assert psk.read_text().strip() not in file.read_text() + done.stderr
    assert f"the key is in {psk}" in done.stderr
    ours, theirs = (
        run("plan", *names, "--dry-run", "--local", "cluster1", "--libreswan", "4.10").stdout
        for names in ((str(file),), FILES)
    )
    (differ,) = set(ours.splitlines()) - set(theirs.splitlines())
    (other,) = set(theirs.splitlines()) - set(ours.splitlines())
    target, variable, *pairs = shlex.split(other)[4:]
    assert variable == "CE_IPSEC_PSK"
    assert shlex.split(differ)[4:] == [target, str(psk), *pairs]


def test_documents_go_straight_to_plan() -> None:
    done = run("plan", *FILES, "--dry-run", "--local", "172.18.0.7", "--libreswan", "4.10")
    assert done.returncode == 0
    assert "--name submariner-cable-cluster1-172-18-0-8-0" in done.stdout
    assert "ZXhhbXBsZ" not in done.stdout + done.stderr


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "cable.yaml").write_text("mine")
    psk = ("--psk-file", str(tmp_path / "psk"))
    done = run("import", *FILES, *psk, "-o", str(tmp_path / "cable.yaml"))
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert not (tmp_path / "psk").exists()


def test_two_files_of_ours_are_one_too_many() -> None:
    name = str(EXAMPLES / "quickstart.yaml")
    done = run("plan", name, str(EXAMPLES / "proposal.yaml"), "--dry-run")
    assert done.returncode == 2
    assert "none of them is a document of Submariner" in done.stderr


def test_our_own_file_is_nothing_to_import() -> None:
    done = run("import", str(EXAMPLES / "quickstart.yaml"))
    assert done.returncode == 2
    assert "kind: missing; allowed: Endpoint, Gateway, Submariner" in done.stderr


ENDPOINTS, CONFIGMAP = (
    (FOLDER / f"{name}.yaml").read_text() for name in ("endpoints", "configmap")
)
PLAN = ("plan", "-", "--dry-run", "--local", "cluster1", "--libreswan", "4.10")


def test_a_pipe_from_kubectl_is_enough() -> None:
    """The documents may be one List, several with a line --- between them, or JSON."""
    names = [str(FOLDER / f"{name}.yaml") for name in ("configmap", "endpoints")]
    expected = run("plan", *names, *PLAN[2:]).stdout
    assert "--name submariner-cable-cluster2-172-18-0-7-0" in expected
    objects = [yaml.safe_load(CONFIGMAP), *yaml.safe_load(ENDPOINTS)["items"]]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=4)
    for given in (listed, yaml.safe_dump(json.loads(listed)), f"{CONFIGMAP}---\n{ENDPOINTS}"):
        done = run(*PLAN, given=given)
        assert (done.returncode, done.stdout) == (0, expected), done.stderr
    done = run("plan", names[0], *PLAN[1:], given=ENDPOINTS)
    assert done.stdout == expected


def test_two_documents_without_a_line_between_them() -> None:
    items = yaml.safe_load(ENDPOINTS)["items"]
    for given in (CONFIGMAP + ENDPOINTS, "\n".join(json.dumps(item, indent=4) for item in items)):
        done = run(*PLAN, given=given)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.endswith("; put a line --- between two documents")


def test_standard_output_is_the_default_and_has_a_name(tmp_path: Path) -> None:
    psk = ("--psk-file", str(tmp_path / "psk"))
    texts = [run("import", "-", *more, *psk, given=ENDPOINTS).stdout for more in ((), ("-o", "-"))]
    assert texts[0] == texts[1]
    assert texts[0].startswith("# Made from -\nversion: 1\n")
    report = json.loads(
        run("import", "-", "-o", "-", "--format", "json", *psk, given=ENDPOINTS).stdout
    )
    assert (report["result"]["output"], report["result"]["yaml"]) == (None, texts[0])
    assert not Path("-").exists()


def test_notes_are_not_in_the_file(tmp_path: Path) -> None:
    """What is piped on is the file alone, and the notes are on standard error."""
    given = (CASES / "submariner" / "shared_public_ip.yaml").read_text()
    imported = run("import", "-", "-o", "-", "--psk-file", str(tmp_path / "psk"), given=given)
    assert "note: onprem-c and onprem-d reach each other" in imported.stderr
    expected = {
        "cloud-a": {("203.0.113.1", "4501"), ("203.0.113.1", "4502")},
        "onprem-c": {("198.51.100.1", "4500"), ("192.168.128.4", "4502")},
    }
    for end, reached in expected.items():
        planned = run("plan", "-", "--dry-run", "--local", end, given=imported.stdout)
        words = [
            line.split(" --to ")[1].split()
            for line in planned.stdout.splitlines()
            if " --to " in line
        ]
        assert {
            (peer[peer.index("--host") + 1], peer[peer.index("--ikeport") + 1]) for peer in words
        } == reached


def test_a_long_hostname_fits_in_errors() -> None:
    given = (CASES / "submariner" / "long_hostname.yaml").read_text()
    hostname = yaml.safe_load(given.partition("---")[0])["spec"]["hostname"]
    assert len(hostname) > 63
    done = run("plan", "-", "--dry-run", "--local", "zz", given=given)
    assert done.returncode == 2
    assert "gcp (managed-cluster-gcp1-x7k2p-submariner..., 10.0.128.4)" in done.stderr
    assert run("plan", "-", "--dry-run", "--local", hostname, given=given).returncode == 0


def test_the_commands_of_the_documentation(tmp_path: Path) -> None:
    """A stand-in for kubectl prints Endpoints, and Gateways as well if they are asked for."""
    text = (ROOT / "docs" / "submariner.md").read_text().partition("\n| document |")[0]
    script = "\n".join(line for line in text.splitlines() if line.startswith("    "))
    for name in ("configmap", "endpoints"):
        (tmp_path / f"{name}.yaml").write_text((FOLDER / f"{name}.yaml").read_text())
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        "#!/bin/sh\n"
        "case $* in *gateways*) name=fleet ;; *) name=endpoints ;; esac\n"
        f"cat '{FOLDER}'/$name.yaml\n"
    )
    kubectl.chmod(0o755)
    done = subprocess.run(
        ["sh", "-euc", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cablectl: connect cluster1 to cluster2") == 2
    of_one, of_two = ((tmp_path / name).read_text() for name in ("cable.yaml", "fleet.yaml"))
    assert "site: site-203-0-113-1" in of_one
    assert of_one == of_two
