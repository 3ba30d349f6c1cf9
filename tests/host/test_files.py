"""Files that a person names."""

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from cablectl.errors import UsageError
from cablectl.host import files


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
    with pytest.raises(UsageError, match="exists already"):
        files.write(str(tmp_path / "new"), "other")
    assert (tmp_path / "new").read_text() == "text"
    with pytest.raises(UsageError, match="No such file"):
        files.write(str(tmp_path / "no" / "new"), "text")


class TestArchive:
    def test_it_is_whole_and_its_owners_alone(self, tmp_path: Path) -> None:
        old = os.umask(0)
        try:
            files.write_archive(str(tmp_path / "report.tar.gz"), {"a.txt": "ä\n", "b.json": "{}"})
        finally:
            os.umask(old)
        assert (tmp_path / "report.tar.gz").stat().st_mode & 0o777 == 0o600
        with tarfile.open(tmp_path / "report.tar.gz") as archive:
            assert archive.getnames() == ["report/a.txt", "report/b.json"]
            member = archive.extractfile("report/a.txt")
            assert member
            assert member.read().decode() == "ä\n"

    def test_never_over_one_that_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "there").write_text("old")
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        for name in ("there", "link"):
            with pytest.raises(UsageError, match=f"{name} exists already"):
                files.write_archive(str(tmp_path / name), {"a": "b"})
        assert (tmp_path / "there").read_text() == "old"
        assert not (tmp_path / "elsewhere").exists()
        with pytest.raises(UsageError, match="No such file"):
            files.write_archive(str(tmp_path / "no" / "new"), {"a": "b"})
