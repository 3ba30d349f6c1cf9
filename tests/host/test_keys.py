"""The key and its secrets file: what is trusted, what is made, and that nobody sees the key.

`keys` looks beforehand and the command looks again, so each case is shown to both.
"""

import base64
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError
from cablectl.facts.host_facts import Credential
from cablectl.host import keys
from cablectl.libreswan import secrets_file
from cablectl.model.cable import Cable
from cablectl.model.psk import PskEnv, PskFile
from tests.support.program import run
from tests.support.untrusted import as_fifo, elsewhere, open_to_a_group, open_to_all

KEY = "correct horse battery staple, and more"
Plant = Callable[[Path], None]


class Host:
    """A directory in the place of a host's: `up/etc/psk`, and `ipsec.d` for the secrets file."""

    def __init__(self, root: Path, cable: Cable) -> None:
        self.root = root
        for name in ("up", "up/etc", "ipsec.d"):
            (root / name).mkdir(mode=0o755)
        self.psk, self.directory = root / "up" / "etc" / "psk", root / "ipsec.d"
        self.psk.touch(mode=0o600)
        self.psk.write_text(f"{KEY}\n")
        self.cable = replace(cable, ipsec=replace(cable.ipsec, psk=PskFile(str(self.psk))))
        self.target = Path(secrets_file.path(self.cable))

    def write(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the plan's command."""
        return subprocess.run(
            secrets_file.write(self.cable),
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
            env={"PATH": os.environ["PATH"], **environment},
        )


@pytest.fixture
def this(tmp_path: Path, cable: Cable, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(secrets_file, "DIRECTORY", str(tmp_path / "ipsec.d"))
    return Host(tmp_path, cable)


def sticky(path: Path) -> None:
    path.chmod(0o1777)


EVERYBODY, GROUP = "can be written by everybody", "can be written by its group, "


@pytest.mark.parametrize(
    ("where", "plant", "message"),
    [
        ("up/etc/psk", elsewhere, "is a symlink"),
        ("up/etc/psk", open_to_all, EVERYBODY),
        ("up/etc/psk", open_to_a_group, GROUP),
        ("up/etc/psk", as_fifo, "not a regular file"),
        ("up/etc", elsewhere, "is a symlink"),
        ("up/etc", open_to_all, EVERYBODY),
        ("up/etc", open_to_a_group, GROUP),
        ("up/etc", sticky, EVERYBODY),
        ("up", elsewhere, "is a symlink"),
        ("up", open_to_all, EVERYBODY),
        ("up", open_to_a_group, GROUP),
        ("ipsec.d", elsewhere, "is a symlink"),
        ("ipsec.d", open_to_all, EVERYBODY),
        ("ipsec.d", open_to_a_group, GROUP),
    ],
)
def test_where_somebody_else_may_have_a_say(
    this: Host, where: str, plant: Plant, message: str
) -> None:
    plant(this.root / where)
    ((told, _),) = keys.find(this.cable).problems
    assert f"{this.root / where}: {message}" in told or told.startswith(
        f"{this.root / where} {message}"
    )
    done = this.write()
    assert done.returncode == 3
    assert f"{this.root / where}\n" in done.stderr
    assert not this.target.exists()
    assert keys.find(this.cable).held is Credential.ABSENT


@pytest.mark.parametrize(("where", "mode"), [("up", 0o1777), ("up/etc", 0o755), ("up", 0o1775)])
def test_where_nobody_else_has_a_say(this: Host, where: str, mode: int) -> None:
    """A sticky directory further up, such as /tmp, keeps what is root's."""
    (this.root / where).chmod(mode)
    assert keys.find(this.cable).problems == ()
    assert this.write().returncode == 0


@pytest.mark.parametrize("where", ["up/etc/psk", "up/etc", "up", "ipsec.d"])
def test_what_is_somebody_elses(this: Host, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root gives it away; who isn't root becomes another user, for whom nothing is their own."""
    there = this.root / where
    if os.getuid() == 0:
        os.chown(there, 4711, -1)
    else:
        owner = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
        fakes = this.root / "fakes"
        fakes.mkdir()
        (fakes / "id").write_text(f"#!/bin/sh\necho {owner + 1}\n")
        (fakes / "id").chmod(0o755)
        monkeypatch.setenv("PATH", f"{fakes}:{os.environ['PATH']}")
    told = [message for message, _ in keys.find(this.cable).problems]
    assert f"{there} belongs to user {there.stat().st_uid}, not to root" in told
    done = this.write()
    assert done.returncode == 3
    assert f"{there}\n" in done.stderr
    assert not this.target.exists()


class TestSecretsFile:
    """What may wait in the place of the secrets file."""

    def test_a_symlink_is_refused(self, this: Host) -> None:
        victim = this.root / "victim"
        victim.write_text("mine")
        this.target.symlink_to(victim)
        found = keys.find(this.cable)
        assert found.problems == (
            (f"{this.target} is a symlink", "replace the symlink by the file or directory itself"),
        )
        assert found.held is Credential.OTHER  # so a teardown takes it away
        done = this.write()
        assert (done.returncode, victim.read_text()) == (3, "mine")
        assert this.target.is_symlink()

    def test_a_directory_is_refused(self, this: Host) -> None:
        this.target.mkdir()
        assert this.write().returncode == 3
        assert not list(this.target.iterdir())

    @pytest.mark.parametrize("kind", ["symlink", "dangling", "file", "fifo", "hard link"])
    def test_nothing_in_the_place_of_the_new_one_is_written_to(self, this: Host, kind: str) -> None:
        victim, new = this.root / "victim", Path(f"{this.target}.new")
        victim.write_text("mine")
        match kind:
            case "symlink":
                new.symlink_to(victim)
            case "dangling":
                new.symlink_to(this.root / "nothing")
            case "file":
                new.touch(mode=0o666)
                new.chmod(0o666)
            case "fifo":
                os.mkfifo(new)
            case "hard link":
                new.hardlink_to(victim)
        assert this.write().returncode == 0
        assert this.target.read_bytes() == secrets_file.content(this.cable, KEY.encode())
        assert stat.S_IMODE(this.target.stat().st_mode) == 0o600
        assert (victim.read_text(), victim.stat().st_nlink) == ("mine", 1)
        assert sorted(each.name for each in this.root.iterdir()) == ["ipsec.d", "up", "victim"]
        assert list(this.directory.iterdir()) == [this.target]

    def test_a_directory_in_the_place_of_the_new_one(self, this: Host) -> None:
        Path(f"{this.target}.new").mkdir()
        assert this.write().returncode == 1
        assert not this.target.exists()

    def test_again_is_the_same(self, this: Host) -> None:
        for _ in range(2):
            assert this.write().returncode == 0
            assert keys.find(this.cable).held is Credential.SAME

    def test_a_full_disk_leaves_nothing(self, this: Host) -> None:
        """A file of more than one block of 512 bytes is one too many."""
        this.psk.write_text("k" * 800)
        limited = ("sh", "-c", 'trap "" XFSZ; ulimit -f 1; exec "$@"', "sh")
        done = subprocess.run(
            [*limited, *secrets_file.write(this.cable)], capture_output=True, check=False
        )
        assert done.returncode == 1
        assert not list(this.directory.iterdir())


class TestKey:
    @pytest.mark.parametrize(("length", "weak"), [(1, True), (31, True), (32, False)])
    def test_a_weak_one_warns_and_shows_nothing(self, this: Host, length: int, weak: bool) -> None:
        this.psk.write_text("k" * length + "\r\n")
        found = keys.find(this.cable)
        assert found.problems == ()
        assert [each.partition(":")[2] for each in found.warnings] == (
            [
                " the pre-shared key is weak, under 32 bytes:"
                " `cablectl secret new FILE` makes a strong one"
            ]
            if weak
            else []
        )

    @pytest.mark.parametrize("length", [900, 901])
    def test_the_longest_that_pluto_takes(self, this: Host, length: int) -> None:
        """4.10 writes a longer one to its log."""
        this.psk.write_text("k" * length + "\n")
        problems = [each for each, _ in keys.find(this.cable).problems]
        done = this.write()
        if length == 900:
            assert (problems, done.returncode) == ([], 0)
        else:
            assert problems == ["ipsec.psk: the pre-shared key is longer than 900 bytes"]
            assert (done.returncode, done.stderr) == (3, "no key of 1 to 900 bytes\n")
            assert not this.target.exists()

    def test_that_others_can_read_it_is_a_warning(self, this: Host) -> None:
        this.psk.chmod(0o640)
        found = keys.find(this.cable)
        assert found.problems == ()
        assert found.warnings == (
            f"{this.psk} can be read by others than root: chmod 600 {this.psk}",
        )
        assert this.write().returncode == 0

    def test_in_a_variable(self, this: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        this.cable = replace(this.cable, ipsec=replace(this.cable.ipsec, psk=PskEnv("CABLE_PSK")))
        monkeypatch.setenv("CABLE_PSK", KEY)
        assert keys.find(this.cable) == keys.Found(Credential.ABSENT, (), ())
        open_to_all(this.directory)
        assert [each for each, _ in keys.find(this.cable).problems] == [
            f"{this.directory} can be written by everybody"
        ]
        assert this.write(CABLE_PSK=KEY).returncode == 3

    @pytest.mark.parametrize("kind", ["file", "variable"])
    def test_is_in_no_argv_and_in_no_output(self, this: Host, kind: str) -> None:
        """Each program that the command runs is one that notes its arguments first."""
        tools, log = this.root / "tools", this.root / "argvs"
        tools.mkdir()
        for name in (
            "cat",
            "echo",
            "find",
            "id",
            "mv",
            "od",
            "printenv",
            "printf",
            "rm",
            "sed",
            "tr",
            "wc",
        ):
            real = next(each for each in ("/usr/bin", "/bin") if Path(each, name).exists())
            (tools / name).write_text(
                f'#!/bin/sh\necho "{name} $*" >>{log}\nexec {real}/{name} "$@"\n'
            )
            (tools / name).chmod(0o755)
        if kind == "variable":
            psk = PskEnv("CABLE_PSK")
            this.cable = replace(this.cable, ipsec=replace(this.cable.ipsec, psk=psk))
        done = this.write(PATH=f"{tools}:{os.environ['PATH']}", CABLE_PSK=KEY)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        argvs = log.read_text()
        assert f"mv -f {this.target}.new {this.target}\n" in argvs
        for form in (KEY, KEY.split()[0], KEY.encode().hex()[:12]):
            assert form not in argvs + " ".join(secrets_file.write(this.cable))


class TestKeep:
    """A key that was found in documents."""

    def test_readable_by_its_owner_alone(self, tmp_path: Path) -> None:
        os.umask(0o022)
        path = tmp_path / "cablectl" / "psk"
        assert keys.keep(str(path), KEY)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.read_text() == f"{KEY}\n"
        assert list(path.parent.iterdir()) == [path]
        assert not keys.keep(str(path), KEY)

    def test_another_key_stays(self, tmp_path: Path) -> None:
        (tmp_path / "psk").write_text("another")
        with pytest.raises(HostNotReadyError, match="holds another key") as caught:
            keys.keep(str(tmp_path / "psk"), KEY)
        assert "correct" not in str(caught.value) + caught.value.hint
        assert (tmp_path / "psk").read_text() == "another"

    @pytest.mark.parametrize("there", ["nothing", "the same key"])
    def test_a_link_is_not_followed(self, tmp_path: Path, there: str) -> None:
        (tmp_path / "psk").symlink_to(tmp_path / "elsewhere")
        if there == "the same key":
            (tmp_path / "elsewhere").write_text(KEY)
        with pytest.raises(HostNotReadyError):
            keys.keep(str(tmp_path / "psk"), KEY)
        assert (tmp_path / "elsewhere").exists() is (there == "the same key")


class TestNew:
    """`cablectl secret new`."""

    def test_32_random_bytes_for_their_owner_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "cablectl" / "psk"
        done = run("secret", "new", str(path))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == (
            f"the key is in {path}, mode 0600: copy it to the peer over a channel that you trust\n"
        )
        assert len(base64.b64decode(path.read_text().strip(), validate=True)) == 32
        assert path.read_text().count("\n") == 1
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        run("secret", "new", str(tmp_path / "other"))
        assert path.read_text() != (tmp_path / "other").read_text()

    @pytest.mark.parametrize("kind", ["file", "symlink", "directory"])
    def test_never_over_one_that_is_there(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "psk"
        match kind:
            case "file":
                path.write_text("mine")
            case "symlink":
                path.symlink_to("nothing")
            case "directory":
                path.mkdir()
        before = sorted(tmp_path.rglob("*"))
        done = run("secret", "new", str(path))
        assert done.returncode == 2
        assert done.stderr.startswith(f"cablectl: {path} exists already\n")
        assert sorted(tmp_path.rglob("*")) == before
        assert kind != "file" or path.read_text() == "mine"

    @pytest.mark.parametrize(
        ("plant", "message"),
        [(elsewhere, "is a symlink"), (open_to_all, "can be written by everybody")],
    )
    def test_not_where_somebody_else_may_have_a_say(
        self, tmp_path: Path, plant: Plant, message: str
    ) -> None:
        (tmp_path / "etc").mkdir(mode=0o700)
        plant(tmp_path / "etc")
        done = run("secret", "new", str(tmp_path / "etc" / "psk"))
        assert done.returncode == 3
        assert done.stderr.startswith(f"cablectl: {tmp_path}/etc {message}\n  try: ")
        assert not (tmp_path / "etc" / "psk").exists()

    @pytest.mark.parametrize("args", [(), ("-",), ("--help-me",), ("",)])
    def test_a_file_is_needed(self, args: tuple[str, ...]) -> None:
        done = run("secret", "new", *args)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr

    def test_an_empty_name_is_told_as_such(self) -> None:
        assert run("secret", "new", "").stderr.startswith("cablectl: the name of the key's file is")

    def test_where_nothing_can_be_made(self) -> None:
        done = run("secret", "new", "/proc/cablectl/psk")
        assert done.returncode == 3
        assert done.stderr.startswith("cablectl: /proc/cablectl/psk: ")


def test_the_key_for_who_has_to_hide_it(this: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys.read(this.cable.psk).raw == KEY.encode()
    this.psk.unlink()
    assert keys.read(this.cable.psk).raw == b""
    monkeypatch.setenv("CABLE_PSK", f"{KEY}\n")
    assert keys.read(PskEnv("CABLE_PSK")).raw == KEY.encode()
