"""The locked file by which a service keeps a part of the host."""

import os
from pathlib import Path

import pytest

from cablectl.errors import HostNotReadyError
from cablectl.run import journal
from cablectl.run.hold import Hold


def path() -> Path:
    return journal.DIRECTORY / "x.watched"


def held() -> Hold:
    return Hold(path(), "watch", "the cable x")


def test_the_second_service_is_refused_and_the_first_is_named() -> None:
    hold = held()
    with pytest.raises(HostNotReadyError) as caught:
        held()
    assert caught.value.message == f"another cablectl watch (PID {os.getpid()}) holds the cable x"
    assert caught.value.hint == f"stop it first: kill {os.getpid()}"
    assert not hold.lost


def test_a_file_that_a_killed_service_left_is_taken() -> None:
    held().close()
    assert path().exists()
    assert not held().lost


def test_a_file_that_somebody_removed_is_lost_and_not_removed_again() -> None:
    first = held()
    path().unlink()
    assert first.lost
    second = held()
    first.remove_file()
    first.close()
    assert not second.lost


def test_nothing_is_left_of_the_last_hold() -> None:
    hold = held()
    hold.remove_file()
    hold.close()
    assert not journal.DIRECTORY.exists()


def test_the_folder_stays_while_another_has_a_file_there() -> None:
    hold = held()
    (journal.DIRECTORY / "y.lock").touch()
    hold.remove_file()
    assert [file.name for file in journal.DIRECTORY.iterdir()] == ["y.lock"]
