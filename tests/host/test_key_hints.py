"""What a hint about the key's file says: it can be done as it stands, and harms nobody else."""

import os
import stat
from pathlib import Path

import pytest

from cablectl.host import keys, trust
from cablectl.model.psk import PskFile

KEY = "correct horse battery staple, and more"


@pytest.fixture
def psk(tmp_path: Path) -> Path:
    file = tmp_path / "keys" / "psk"
    file.parent.mkdir(mode=0o700)
    file.write_text(KEY)
    file.chmod(0o600)
    return file


def hint(psk: Path) -> str:
    """Return the only hint about a key's file."""
    ((_, found),) = keys.read(PskFile(str(psk))).problems
    return found


def others_group(path: Path) -> None:
    """Give a file to a group that isn't root's; only root can and has to."""
    if os.getuid() == 0:
        os.chown(path, -1, 4711)


def test_a_good_key_needs_none(psk: Path) -> None:
    assert keys.read(PskFile(str(psk))).problems == ()


def test_a_missing_key_is_made(psk: Path) -> None:
    psk.unlink()
    assert hint(psk) == f"cablectl secret new {psk}, and copy it to the peer"


@pytest.mark.parametrize("text", ["", "x" * 901])
def test_a_key_that_cannot_be_used_is_removed_first(psk: Path, text: str) -> None:
    """`secret new` alone would refuse the file that exists."""
    psk.write_text(text)
    assert hint(psk) == f"rm {psk}; cablectl secret new {psk}, and copy it to the peer"


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o662])
def test_a_file_that_others_can_write(psk: Path, mode: int) -> None:
    others_group(psk)
    psk.chmod(mode)
    assert hint(psk) == f"chmod go-w {psk}"


@pytest.mark.parametrize("mode", [0o702, 0o720, 0o777])
def test_a_directory_that_others_can_write(psk: Path, mode: int) -> None:
    """Another program may need it as it is."""
    others_group(psk.parent)
    psk.parent.chmod(mode)
    assert hint(psk) == "use a directory that only root can write, such as /etc/cablectl"


def test_cablectls_own_directory_is_not_told_to_use_itself(
    psk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "ROOTS", (str(psk.parent),))
    psk.parent.chmod(0o777)
    assert hint(psk) == f"chmod go-w {psk.parent}"


def test_a_directory_that_all_are_meant_to_write(psk: Path) -> None:
    """Such as /tmp, which others need as it is."""
    psk.parent.chmod(0o777 | stat.S_ISVTX)
    assert hint(psk) == "use a directory that only root can write, such as /etc/cablectl"


def test_a_directory_of_another_user(psk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a home, which stays its user's."""
    if os.getuid() == 0:
        os.chown(psk.parent, 4711, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: psk.parent.stat().st_uid + 1)
    hints = [text for _, text in keys.read(PskFile(str(psk))).problems]
    assert hints[0] == "use a directory that only root can write, such as /etc/cablectl"


def test_a_path_that_leads_through_a_file(psk: Path) -> None:
    below = psk / "psk"
    assert hint(below) == f"check the path in ipsec.psk.file and its permissions: ls -ld {below}"


def test_a_directory_in_the_place_of_the_file(psk: Path) -> None:
    psk.unlink()
    psk.mkdir(mode=0o700)
    assert hint(psk) == "name a regular file there"
