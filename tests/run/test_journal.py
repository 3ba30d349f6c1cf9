"""The journal: a note before each step, one program at a time, nothing left at the end."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from cablectl.errors import CablectlError, HostNotReadyError, TimeLimitError
from cablectl.model.cable import Cable
from cablectl.plan.steps import Action, Phase, Plan, Step
from cablectl.run import journal
from cablectl.run.journal import Entry, held
from tests.support.executor import Commands, Told, apply
from tests.support.plans import BLANK

ENTRY = Entry("connect", 7, 24, "add", ("ipsec", "whack", "--psk"), (("ipsec", "whack"),))
# Another cablectl in miniature: it has begun a step, which says so and lasts two seconds.
OTHER = """
import sys
from pathlib import Path
from cablectl.run import execute, journal
journal.DIRECTORY = Path(sys.argv[1])
script = 'echo >"$1"; sleep 2; echo >>"$1"'
with journal.held(sys.argv[3:], 1, print) as held:
    held.write(journal.Entry("connect", 2, 3, "add", ("sleep",)))
    execute.run(("sh", "-c", script, "sh", sys.argv[2]), 100, "add", held.locks)
"""


def nobody(text: str) -> None:
    raise AssertionError(text)


@contextmanager
def other(file: Path, *cables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run another cablectl, whose step is under way: `file` has one line, and two when it ends."""
    argv = (sys.executable, "-c", OTHER, str(journal.DIRECTORY), str(file), *(cables or "x"))
    with subprocess.Popen(argv) as process:
        while not file.exists():
            assert process.poll() is None
            time.sleep(0.01)
        yield process
        process.kill()


def test_nothing_is_left_at_the_end() -> None:
    with held(["x"], 1, nobody) as log:
        assert log.unfinished is None
        log.write(ENTRY)
        (file,) = journal.DIRECTORY.glob("*.journal")
        assert file.stat().st_mode & 0o777 == 0o600
        assert journal.DIRECTORY.stat().st_mode & 0o777 == 0o700
        log.end()
    assert not journal.DIRECTORY.exists()


def test_a_run_that_did_not_end_is_found_with_its_last_whole_entry() -> None:
    with held(["x"], 1, nobody) as log:
        log.write(ENTRY)
        path = journal.DIRECTORY / "x.journal"
        path.write_bytes(path.read_bytes() + b'{"action":"connect","numb')  # the power went
    with held(["x"], 1, nobody) as log:
        assert log.unfinished == ENTRY
        log.end()
    with held(["x"], 1, nobody) as log:
        assert log.unfinished is None


def test_another_cable_is_not_kept_waiting() -> None:
    with held(["x"], 1, nobody), held(["y"], 1, nobody):
        assert len(list(journal.DIRECTORY.glob("*.lock"))) == 2
    assert not journal.DIRECTORY.exists()


def test_who_holds_the_lock_is_named_when_the_time_is_up(tmp_path: Path) -> None:
    told: list[str] = []
    with other(tmp_path / "file") as process:
        with pytest.raises(TimeLimitError, match=f"PID {process.pid}") as caught:
            held(["x"], 0.5, told.append).__enter__()
        assert caught.value.exit_code == 4
        assert told == [
            f"waiting for another cablectl (PID {process.pid}), which is at work on this cable"
        ]


def test_the_command_of_a_killed_run_is_waited_for(tmp_path: Path) -> None:
    """It may still change the host: whoever comes next reads nothing before it has ended."""
    file = tmp_path / "file"
    with other(file) as process:
        process.kill()
        process.wait()
        assert file.read_text() == "\n"
        with held(["x"], 30, lambda _: None) as log:
            assert file.read_text() == "\n\n"
            assert log.unfinished == Entry("connect", 2, 3, "add", ("sleep",))
            log.end()
    assert not journal.DIRECTORY.exists()


def locks() -> list[str]:
    return sorted(path.name for path in journal.DIRECTORY.glob("*.lock"))


class TestSeveralCables:
    """A run holds the locks of all of its cables."""

    def test_runs_with_a_cable_in_common_exclude_each_other(self) -> None:
        with held(["a", "b"], 1, nobody):
            assert locks() == ["a.lock", "b.lock"]
            for names in (["a"], ["b"], ["b", "c"], ["c", "b", "a"]):
                with pytest.raises(TimeLimitError, match=f"PID {os.getpid()}"):
                    held(names, 0, lambda _: None).__enter__()
                assert locks() == ["a.lock", "b.lock"]  # the locks that it took are free again
            with held(["c", "d"], 0, nobody):
                assert [run.held for run in journal.runs()] == [True] * 4
        assert not journal.DIRECTORY.exists()

    def test_they_are_taken_in_one_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else two runs could wait for each other."""
        lock, taken = journal._lock, list[str]()

        def noted(path: Path, deadline: float, waiting: Callable[[str], None]) -> int:
            taken.append(path.stem)
            return lock(path, deadline, waiting)

        monkeypatch.setattr(journal, "_lock", noted)
        for names in (["b", "a", "c"], ["c", "b", "a", "b"]):
            with held(names, 1, nobody):
                pass
        assert taken == ["a", "b", "c"] * 2

    def test_an_entry_is_in_the_journal_of_its_cable(self) -> None:
        shared, own = replace(ENTRY, number=1), replace(ENTRY, number=2)
        with held(["a", "b"], 1, nobody) as log:
            log.write(shared)
            log.write(own, "b")
            entries = {run.cable: run.entry for run in journal.runs()}
            assert entries == {"a": shared, "b": own}
        for name, entry in (("b", own), ("a", shared)):
            with held([name], 1, nobody) as log:
                assert log.unfinished == entry
        with held(["a", "b"], 1, nobody) as log:
            log.end()
        assert not journal.DIRECTORY.exists()

    def test_a_run_of_one_waits_for_a_run_of_all(self, tmp_path: Path) -> None:
        """Also for the command of the other run, if that is killed."""
        file = tmp_path / "file"
        with other(file, "a", "x", "z") as process:
            process.kill()
            process.wait()
            for name in ("z", "a"):
                with held([name], 30, lambda _: None):
                    assert file.read_text() == "\n\n"

    def test_more_locks_than_files_that_may_be_open(self, tmp_path: Path) -> None:
        """The usual soft limit is 1024. select(2) still works for files opened later."""
        script = """
import resource, select, subprocess, sys
from pathlib import Path
from cablectl.run import command, journal
journal.DIRECTORY = Path(sys.argv[1])
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
with journal.held(map(str, range(1500)), 1, print) as log:
    assert len(log.locks) == 1500
    shell = command.Shell(log.locks)
    print(shell.run(("echo", "works"), 20, "add").strip())
    shell.close()
"""
        argv = (sys.executable, "-c", script, str(tmp_path / "run"))
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("works\n", "")


@pytest.mark.parametrize("name", ["x.lock", "x.journal"])
def test_a_link_is_not_followed(tmp_path: Path, name: str) -> None:
    journal.DIRECTORY.mkdir()
    (journal.DIRECTORY / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostNotReadyError, match=name), held(["x"], 1, nobody) as log:
        log.write(ENTRY)
    assert not (tmp_path / "elsewhere").exists()


def test_without_room_no_step_is_begun(cable: Cable, commands: Commands) -> None:
    step = Step(phase=Phase.ADD, argv=("rm", "it"), why="", undo=(("rm", "undone"),))
    plan = Plan(action=Action.CONNECT, cables=(cable,), facts=(BLANK,), steps=(step, step))
    room = iter((True, False))

    def sync(file: int) -> None:
        if not next(room):
            raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        with pytest.raises(HostNotReadyError, match="No space left on device"):
            apply(cable, lambda: plan, Told())
    assert commands.log == ["rm it", "rm undone"]
    assert not journal.DIRECTORY.exists()


def test_what_was_cut_off_is_told_and_then_forgotten(cable: Cable, commands: Commands) -> None:
    with held([cable.bundle], 1, nobody) as log:
        log.write(ENTRY)
    step = Step(phase=Phase.DELETE, argv=("rm", "it"), why="")
    plans = [
        Plan(action=Action.TEARDOWN, cables=(cable,), facts=(BLANK,), steps=s)
        for s in ((step,), ())
    ]
    told = Told()
    apply(cable, lambda: plans.pop(0), told)
    assert told.notes == [
        "an earlier connect was cut off at step 7 of 24 (add); continuing from the host's state"
    ]
    assert not journal.DIRECTORY.exists()


def test_what_could_not_be_undone_stays_on_record(cable: Cable, commands: Commands) -> None:
    steps = (
        Step(phase=Phase.ADD, argv=("rm", "it"), why="", undo=(("/bin/false",),)),
        Step(phase=Phase.ADD, argv=("/bin/false",), why=""),
    )
    plan = Plan(action=Action.CONNECT, cables=(cable,), facts=(BLANK,), steps=steps)
    with pytest.raises(CablectlError):
        apply(cable, lambda: plan, Told())
    assert (journal.DIRECTORY / f"{cable.bundle}.journal").exists()
    with held([cable.bundle], 1, nobody) as log:
        assert log.unfinished
        assert log.unfinished.argv == ("/bin/false",)


def test_a_teardown_that_failed_stays_on_record(cable: Cable, commands: Commands) -> None:
    """Whoever comes next is told that this host was left half torn down."""
    steps = (Step(phase=Phase.DELETE, argv=("/bin/false",), why=""),)
    plan = Plan(action=Action.TEARDOWN, cables=(cable,), facts=(BLANK,), steps=steps)
    with pytest.raises(CablectlError, match="exit code 1"):
        apply(cable, lambda: plan, Told())
    told = Told()
    apply(cable, lambda: replace(plan, steps=()), told)
    assert told.notes == [
        "an earlier teardown was cut off at step 1 of 1 (delete); continuing from the host's state"
    ]
    assert not journal.DIRECTORY.exists()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_whose_file_went_with_its_holder_is_none(
    monkeypatch: pytest.MonkeyPatch, *, replaced: bool
) -> None:
    """Its holder ends between our open and our lock: whoever comes then makes another file."""
    lock = fcntl.flock
    ends = iter([True])

    def ending(file: int, how: int) -> None:
        if next(ends, False):
            (journal.DIRECTORY / "x.lock").unlink()
            if replaced:
                (journal.DIRECTORY / "x.lock").touch()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", ending)
    told: list[str] = []
    with held(["x"], 1, told.append):
        with pytest.raises(TimeLimitError, match=f"PID {os.getpid()}"):
            held(["x"], 0, told.append).__enter__()
        assert (journal.DIRECTORY / "x.lock").read_text() == str(os.getpid())


class TestFound:
    """What somebody else sees of it, without taking anything."""

    def test_nothing(self) -> None:
        assert list(journal.runs()) == []

    def test_one_that_is_at_work(self, tmp_path: Path) -> None:
        with other(tmp_path / "began") as process:
            (left,) = journal.runs()
            assert (left.cable, left.pid, left.held) == ("x", process.pid, True)
            assert left.entry
            assert left.entry.cut_off == "connect was cut off at step 2 of 3 (add)"

    def test_what_killed_ones_left(self) -> None:
        journal.DIRECTORY.mkdir()
        (journal.DIRECTORY / "a.lock").write_text("4711")
        (journal.DIRECTORY / "b.lock").write_bytes(b"\xff\n")
        (journal.DIRECTORY / "c.journal").write_text("not an entry\n")
        found = [(each.cable, each.pid, each.held, each.entry) for each in journal.runs()]
        assert found == [
            ("a", 4711, False, None),
            ("b", None, False, None),
            ("c", None, False, None),
        ]
        assert sorted(file.name for file in journal.DIRECTORY.iterdir()) == [
            *("a.lock", "b.lock", "c.journal")
        ]

    def test_looking_doesnt_keep_anybody_out(self) -> None:
        with held(["x"], 1, nobody):
            assert [each.held for each in journal.runs()] == [True]
        with held(["x"], 0, nobody):
            pass
