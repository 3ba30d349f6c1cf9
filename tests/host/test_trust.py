"""The file of a command line: who else can change it, and what the commands do about it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cablectl.host import trust
from tests.support.places import EXAMPLES
from tests.support.program import run

QUICKSTART = (EXAMPLES / "quickstart.yaml").read_text(encoding="utf-8")
PRIVATE = "use a directory that only root can write, such as /etc/cablectl"
OTHER = 4711


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "up" / "files" / "cable.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(QUICKSTART)
    for part in (path, *path.parents[:2]):
        part.chmod(0o755)
    return path


def others(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> int:
    """Have paths belong to another user: as root by giving them away, or by being another user."""
    if os.getuid() == 0:
        for path in paths:
            os.chown(path, OTHER, -1, follow_symlinks=False)
        return OTHER
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    return owner


def problems(path: Path) -> list[tuple[str, str]]:
    return list(trust.of_input(path))


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o444])
def test_a_file_that_only_its_owner_writes(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert problems(file) == []


def group_of_others(path: Path) -> None:
    if os.getuid() == 0:
        os.chown(path, -1, OTHER)


@pytest.mark.parametrize("mode", [0o646, 0o664, 0o666])
def test_a_file_that_others_write(file: Path, mode: int) -> None:
    group_of_others(file)
    file.chmod(mode)
    ((message, hint),) = problems(file)
    assert message.startswith(f"{file} can be written by ")
    assert hint == f"chmod go-w {file}"


@pytest.mark.parametrize("above", [0, 1])
@pytest.mark.parametrize("mode", [0o757, 0o775])
def test_a_directory_on_the_way_that_others_write(file: Path, above: int, mode: int) -> None:
    group_of_others(file.parents[above])
    file.parents[above].chmod(mode)
    ((message, hint),) = problems(file)
    assert message.startswith(f"{file.parents[above]} can be written by ")
    assert hint == PRIVATE


@pytest.mark.parametrize("above", [0, 1])
def test_a_sticky_directory_keeps_what_is_roots(file: Path, above: int) -> None:
    file.parents[above].chmod(0o1777)
    assert problems(file) == []


def test_a_file_of_another_user(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = others(monkeypatch, file)
    assert problems(file)[-1] == (
        f"{file} belongs to user {owner}, not to root",
        f"make sure that you want what it says, then: chown root {file}",
    )


def test_a_directory_of_another_user(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = others(monkeypatch, file.parents[1])
    assert (f"{file.parents[1]} belongs to user {owner}, not to root", PRIVATE) in problems(file)


def test_a_symlink_is_followed(file: Path) -> None:
    link, beside = file.parents[2] / "link", file.parents[2] / "beside"
    link.symlink_to("beside")
    beside.symlink_to(file.parent)
    assert problems(link / file.name) == []
    assert problems(file.parent / ".." / "files" / file.name) == []
    file.parents[1].chmod(0o757)
    ((message, _),) = problems(link / file.name)
    assert message.startswith(f"{file.parents[1]} can be written by everybody")
    file.parents[1].chmod(0o755)
    (file.parent / "loop").symlink_to("loop")
    assert problems(file.parent / "loop") == []  # opening it tells the error


def test_a_symlink_of_another_user(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = file.parents[2] / "link"
    link.symlink_to(file)
    owner = others(monkeypatch, link)
    assert f"{link} belongs to user {owner}, not to root" in dict(problems(link))


def test_the_user_who_called_sudo(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That user can give sudo any other file as well."""
    for part in (file, file.parent):
        lstat_as(monkeypatch, part, OTHER)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", str(OTHER))
    assert not [text for text, _ in problems(file) if f"user {OTHER}" in text]
    for unusable in ("", "x", "4712"):
        monkeypatch.setenv("SUDO_UID", unusable)
        assert f"{file} belongs to user {OTHER}, not to root" in dict(problems(file))
    assert f"{file} belongs to user {OTHER}, not to root" in dict(trust.of_key(file))


def lstat_as(monkeypatch: pytest.MonkeyPatch, path: Path, owner: int) -> None:
    """Have a path belong to a user."""
    real: Callable[[Path], os.stat_result] = Path.lstat

    def lstat(this: Path) -> os.stat_result:
        status = list(real(this))
        status[4] = owner if this == path else status[4]
        return os.stat_result(status)

    monkeypatch.setattr(Path, "lstat", lstat)


class TestCommands:
    """What changes the host refuses the file; what only reads warns."""

    @pytest.mark.parametrize("command", ["connect", "teardown"])
    def test_that_change_the_host(self, file: Path, command: str) -> None:
        file.chmod(0o646)
        done = run(command, str(file), "--local", "cluster1")
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == (
            f"cablectl: {file} isn't trusted: {file} can be written by everybody\n"
            f"  try: chmod go-w {file}\n"
        )

    @pytest.mark.parametrize("command", ["connect", "teardown", "plan"])
    def test_that_only_show(self, file: Path, command: str) -> None:
        file.chmod(0o646)
        done = run(command, str(file), "--local", "cluster1", "--dry-run")
        assert done.returncode == 0
        assert done.stderr.splitlines()[0] == (
            f"cablectl: warning: connect refuses {file}: {file} can be written by everybody"
        )

    def test_documents_of_submariner_too(self, tmp_path: Path) -> None:
        names = []
        for name in ("configmap", "endpoints"):
            text = (EXAMPLES / "submariner" / f"{name}.yaml").read_text(encoding="utf-8")
            (tmp_path / name).write_text(text, encoding="utf-8")
            names.append(str(tmp_path / name))
        (tmp_path / "endpoints").chmod(0o646)
        done = run("connect", *names, "--local", "cluster1")
        assert done.returncode == 3
        assert f"{tmp_path}/endpoints isn't trusted" in done.stderr
