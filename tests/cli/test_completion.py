"""TAB: what the three shells show in a terminal, and that nothing else is ever said."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from cablectl.libreswan import dialects
from cablectl.libreswan.dialects import DIALECTS, dialect
from tests.support.documents import document
from tests.support.places import BIN, CASES, EXAMPLES, ROOT
from tests.support.program import complete
from tests.support.terminal import Terminal

PROMPT = "ready>"
COMPLETIONS = shlex.quote(str(ROOT / "completions"))
QUICKSTART = str(EXAMPLES / "quickstart.yaml")
NAMES = ["cluster1", "cluster1-worker", "cluster2", "cluster2-worker"]
ADDRESSES = {"v4": ["172.18.0.8", "172.18.0.7"], "v6": ["2001:db8::8", "2001:db8::7"]}
# As the shells find them when they are installed: zsh and fish load them at the first TAB.
SETUP = {
    "bash": (".bashrc", f"PS1='{PROMPT} '\nsource {COMPLETIONS}/cablectl.bash\n"),
    "zsh": (
        ".zshrc",
        f"PS1='{PROMPT} '\nfpath=({COMPLETIONS} $fpath)\nautoload -Uz compinit\ncompinit -u -D\n",
    ),
    "fish": (
        ".config/fish/config.fish",
        f"set fish_greeting\nfunction fish_prompt\n  echo '{PROMPT} '\nend\n"
        f"set -p fish_complete_path {COMPLETIONS}\n",
    ),
}
LISTS = {"bash": ["Tab", "Tab"], "zsh": ["Tab"], "fish": ["Tab"]}


@pytest.fixture(params=SETUP)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def terminal(shell: str, tmp_path: Path) -> Iterator[Terminal]:
    name, text = SETUP[shell]
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    # or fish begins to make completions of all man pages
    (tmp_path / ".local/share/fish/generated_completions").mkdir(parents=True)
    for family in ADDRESSES:
        (tmp_path / f"{family}.yaml").write_text(document(f"transport vxlan {family}"))
    (tmp_path / "broken.yaml").write_text("version: [")
    environment = {
        "HOME": str(tmp_path),
        "ZDOTDIR": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / ".config"),
        "XDG_DATA_HOME": str(tmp_path / ".local/share"),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
    }
    terminal = Terminal(tmp_path, shell, environment)
    try:
        terminal.wait(lambda screen: screen == PROMPT, "a prompt")
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("cablectl pl", "cablectl plan"),
        ("cablectl plan --dry", "cablectl plan --dry-run"),
        ("cablectl plan v4.yaml --local cluster2-", "--local cluster2-worker"),
        ("cablectl connect ~/v4.yaml --no-wait --local 172.18.0.7", "--local 172.18.0.7 fin"),
        ("cablectl teardown --local cluster1 ~/br", "broken.yaml"),
        ("cablectl plan bro", "cablectl plan broken.yaml"),
        ("cablectl plan v4.yaml --libreswan 4.1", "--libreswan 4.10"),
        ("cablectl offload v6.yaml --format j", "--format json"),
    ],
)
def test_a_tab_completes(terminal: Terminal, typed: str, completed: str) -> None:
    terminal.type(typed, "Tab", "fin")
    terminal.wait(lambda screen: completed in screen and "fin" in screen, completed)


@pytest.mark.parametrize("family", ADDRESSES)
def test_a_tab_offers_the_ends(terminal: Terminal, shell: str, family: str) -> None:
    terminal.type(f"cablectl plan {family}.yaml --local ", *LISTS[shell])
    terminal.wait(
        lambda screen: {*NAMES, *ADDRESSES[family]} <= set(screen.split()), "clusters and addresses"
    )


def test_a_tab_offers_releases(terminal: Terminal, shell: str) -> None:
    terminal.type("cablectl plan v4.yaml --libreswan ", *LISTS[shell])
    terminal.wait(lambda screen: {"4.10", "5.2", "5.4"} <= set(screen.split()), "releases")


def test_a_tab_offers_commands(terminal: Terminal, shell: str) -> None:
    terminal.type("cablectl ", *LISTS[shell])
    terminal.wait(lambda screen: {"plan", "connect", "init"} <= set(screen.split()), "commands")


@pytest.mark.parametrize("file", ["broken.yaml", "missing.yaml", "-", "."])
def test_a_tab_about_no_good_file_says_nothing(terminal: Terminal, file: str) -> None:
    typed = f"cablectl plan {file} --local zz"
    terminal.type(typed, "Tab", " fin")
    screen = terminal.wait(lambda screen: "fin" in screen, "the end")
    assert screen.split() == [PROMPT, *typed.split(), "fin"]


def test_a_callback_is_silent_whatever_the_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    (tmp_path / "bomb").write_text("[" * 5000)
    (tmp_path / "large").write_text("x" * (1 << 21))
    (tmp_path / "empty").write_text("")
    (tmp_path / "wrong").write_text("version: 2\nendpoints: 7\n")
    (tmp_path / "foreign").write_text("apiVersion: v1\nkind: Secret\ndata: {psk: '!'}\n")
    for file in [*tmp_path.iterdir(), tmp_path, tmp_path / "missing", "-", "~nobody/x", "''"]:
        done = complete("cablectl", "plan", str(file), "--local", "")
        assert (done.returncode, done.stdout, done.stderr) == (0, "\n", ""), file


def test_a_callback_takes_documents_of_submariner_and_keeps_its_notes() -> None:
    folder = EXAMPLES / "submariner"
    files = [str(folder / name) for name in ("configmap.yaml", "endpoints.yaml")]
    done = complete("cablectl", "plan", *files, "--local", "c")
    assert done.stdout.split() == NAMES
    assert done.stderr == ""


def test_a_long_hostname_is_offered_whole() -> None:
    file = CASES / "submariner" / "long_hostname.yaml"
    done = complete("cablectl", "plan", str(file), "--local", "managed")
    (offered,) = done.stdout.split()
    assert f"hostname: {offered}\n" in file.read_text()


def test_a_tab_imports_neither_rich_nor_sh() -> None:
    for words in (("cablectl", "pl"), ("cablectl", "plan", QUICKSTART, "--local", "")):
        typed = " ".join(shlex.quote(word) if word else "" for word in words)
        for how in ("complete_bash", "complete_zsh", "complete_fish"):
            done = complete(
                *words,
                _CABLECTL_COMPLETE=how,
                _TYPER_COMPLETE_ARGS=typed,
                _TYPER_COMPLETE_FISH_ACTION="get-args",
                PYTHONPROFILEIMPORTTIME="1",
            )
            imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
            assert "cablectl.cli" in imported
            assert not imported & {"rich", "sh", "cablectl.run.execute"}
            assert ("plan" if words[-1] else "cluster1") in done.stdout


def test_the_releases_offered_are_one_of_each_dialect() -> None:
    assert tuple(map(dialect, dialects.EXAMPLES)) == DIALECTS
