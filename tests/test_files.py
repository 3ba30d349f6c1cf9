"""Files that a person names."""

import io
import os
import stat
import sys
from pathlib import Path

import pytest

from cablectl import files
from cablectl.errors import HostNotReadyError, UsageError


class TestFiles:
    def refused(self, path: Path) -> str:
        with pytest.raises(UsageError) as caught:
            files.read(str(path))
        return caught.value.message

    def test_what_is_no_small_text_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
        with (tmp_path / "huge").open("wb") as huge:
            huge.truncate(100 << 20)
        assert self.refused(tmp_path / "missing").endswith("No such file or directory")
        assert self.refused(tmp_path).endswith("not a regular file")
        assert self.refused(tmp_path / "fifo").endswith("not a regular file")
        assert self.refused(tmp_path / "binary").endswith("not text in UTF-8")
        assert self.refused(tmp_path / "huge").endswith("larger than 1048576 bytes")

    def test_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"version: 1\n")))
        assert files.read("-") == "version: 1\n"


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    files.write(str(tmp_path / "new"), "text")
    with pytest.raises(UsageError, match="there is one already"):
        files.write(str(tmp_path / "new"), "other")
    assert (tmp_path / "new").read_text() == "text"
    with pytest.raises(UsageError, match="No such file"):
        files.write(str(tmp_path / "no" / "new"), "text")


class TestKeys:
    def test_readable_by_its_owner_alone(self, tmp_path: Path) -> None:
        os.umask(0o022)
        path = tmp_path / "cablectl" / "psk"
        assert files.write_key(str(path), "correct horse")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.read_text() == "correct horse\n"
        assert not files.write_key(str(path), "correct horse")

    def test_another_key_stays(self, tmp_path: Path) -> None:
        (tmp_path / "psk").write_text("another")
        with pytest.raises(HostNotReadyError, match="holds something else") as caught:
            files.write_key(str(tmp_path / "psk"), "correct horse")
        assert "correct" not in str(caught.value) + caught.value.hint
        assert (tmp_path / "psk").read_text() == "another"

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "psk").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(HostNotReadyError):
            files.write_key(str(tmp_path / "psk"), "correct horse")
        assert not (tmp_path / "elsewhere").exists()
