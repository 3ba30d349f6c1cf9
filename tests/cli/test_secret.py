"""`cablectl secret new --pairs`: the keys of all pairs, and the copies for one gateway."""

import base64
import stat
from pathlib import Path

import pytest

from tests.support.places import EXAMPLES
from tests.support.program import complete, run

MESH = str(EXAMPLES / "mesh.yaml")
NAMES = ["cluster1+cluster2", "cluster1+cluster3", "cluster2+cluster3"]


def contents(directory: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in directory.iterdir()}


def make(out: Path, file: str = MESH) -> str:
    done = run("secret", "new", "--pairs", file, "--out", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert not any(key.strip() in done.stdout for key in contents(out).values())
    return done.stdout


@pytest.fixture
def every(tmp_path: Path) -> Path:
    make(tmp_path / "all")
    return tmp_path / "all"


def test_each_pair_gets_a_key_of_its_own(every: Path) -> None:
    made = contents(every)
    assert sorted(made) == NAMES
    assert {len(base64.b64decode(key, validate=False)) for key in made.values()} == {32}
    assert len(set(made.values())) == 3
    assert stat.S_IMODE(every.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in every.iterdir()} == {0o600}


def test_the_next_keys_have_names_of_their_own(every: Path, tmp_path: Path) -> None:
    before = contents(every)
    done = run("secret", "new", "--pairs", MESH, "--out", str(every), "--next")
    assert done.stdout.startswith("3 new, 0 there already"), done.stderr
    after = contents(every)
    assert set(after) == {*before, *(f"{name}.next" for name in before)}
    assert {name: after[name] for name in before} == before
    copied = tmp_path / "copied"
    args = ("--out", str(copied), "--for", "cluster1", "--from", str(every), "--next")
    assert run("secret", "new", "--pairs", MESH, *args).returncode == 0
    assert set(contents(copied)) == {"cluster1+cluster2.next", "cluster1+cluster3.next"}


def test_no_key_is_replaced(every: Path) -> None:
    (every / NAMES[1]).unlink()
    before = contents(every)
    assert make(every).startswith(f"1 new, 2 there already, in {every}, mode 0600: ")
    assert before.items() <= contents(every).items()
    assert sorted(contents(every)) == NAMES


@pytest.mark.parametrize("name", ["cluster2", "cluster2-worker", "172.18.0.7"])
def test_one_gateway_gets_copies_of_its_own(every: Path, tmp_path: Path, name: str) -> None:
    own = tmp_path / "own"
    args = ("secret", "new", "--pairs", MESH, "--out", str(own), "--for", name)
    for told in ("2 new, 0 there already", "0 new, 2 there already"):
        done = run(*args, "--from", str(every))
        assert done.stdout.startswith(f"{told}, in {own}, mode 0600: ")
        assert sorted(contents(own)) == [NAMES[0], NAMES[2]]
        assert contents(own).items() <= contents(every).items()
        assert {stat.S_IMODE(file.stat().st_mode) for file in own.iterdir()} == {0o600}


def test_a_gateways_other_key_is_left_and_told(every: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    make(own)
    before = contents(own)
    args = ("--pairs", MESH, "--out", str(own), "--for", "cluster1", "--from", str(every))
    done = run("secret", "new", *args)
    assert done.returncode == 3
    assert f"{own}/cluster1+cluster2 holds another key" in done.stderr
    assert contents(own) == before


def test_nothing_is_copied_if_one_is_missing(every: Path, tmp_path: Path) -> None:
    (every / NAMES[2]).unlink()
    own = tmp_path / "own"
    args = ("--pairs", MESH, "--out", str(own), "--for", "cluster3", "--from", str(every))
    done = run("secret", "new", *args)
    assert done.returncode == 3
    assert f"{every}/cluster2+cluster3 doesn't exist" in done.stderr
    assert not own.exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("", "missing: FILE, or --pairs FILE --out DIR"),
        ("--out OUT", "--out, --for, --from and --next need --pairs FILE"),
        ("psk --for cluster1", "--out, --for, --from and --next need --pairs FILE"),
        ("--pairs MESH", "--pairs needs --out DIR"),
        ("--pairs MESH --out", "Option '--out' requires an argument"),
        ("psk --pairs MESH --out OUT", "psk doesn't go with --pairs"),
        ("--pairs MESH --out OUT --for cluster1", "--for and --from go together"),
        ("--pairs MESH --out OUT --from OUT", "--for and --from go together"),
        ("--pairs MESH --out OUT --for nobody --from OUT", "--for 'nobody': no endpoint has"),
        ("--pairs MISSING --out OUT", "MISSING"),
    ],
)
def test_wrong_options(tmp_path: Path, args: str, message: str) -> None:
    out = tmp_path / "out"
    words = [{"MESH": MESH, "OUT": str(out)}.get(word, word) for word in args.split()]
    done = run("secret", "new", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.split())
    assert not out.exists()


def test_an_unsafe_directory_gets_no_key(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    done = run("secret", "new", "--pairs", MESH, "--out", str(tmp_path / "open"))
    assert done.returncode == 3
    assert contents(tmp_path / "open") == {}


def test_the_ends_are_completed() -> None:
    done = complete("cablectl", "secret", "new", "--pairs", MESH, "--for", "cluster3")
    assert done.stdout.split() == ["cluster3", "cluster3-worker"]
