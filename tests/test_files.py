"""Files that a person names."""

import io
import os
import sys
from pathlib import Path

import pytest

from cablectl import files
from cablectl.errors import UsageError


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

    def test_standard_input_that_is_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", None)
        assert files.read("-") == ""

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
