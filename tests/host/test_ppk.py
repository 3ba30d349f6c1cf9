"""A PPK beside the pre-shared key: one more line for each pair of identities."""

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace

from cablectl.facts.host_facts import Credential
from cablectl.host import keys
from cablectl.libreswan import secrets_file
from cablectl.model.cable import Cable
from cablectl.model.psk import PskEnv, PskFile
from tests.support.untrusted import as_fifo, elsewhere, open_to_a_group, open_to_all

KEY = "correct horse battery staple, and more"


class Host(Struct):
    """A cable, the files of its two keys, and its secrets file."""

    cable: Cable
    psk: Path
    ppk: Path
    target: Path


@pytest.fixture
def this(tmp_path: Path, cable: Cable, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(secrets_file, "DIRECTORY", str(tmp_path / "ipsec.d"))
    for name in ("etc", "ipsec.d"):
        (tmp_path / name).mkdir(mode=0o755)
    psk, ppk = tmp_path / "etc" / "psk", tmp_path / "etc" / "ppk"
    for path, key in ((psk, KEY), (ppk, f"another {KEY}")):
        path.touch(mode=0o600)
        path.write_text(f"{key}\n")
    ipsec = replace(cable.ipsec, psk=PskFile(str(psk)), ppk=PskFile(str(ppk)))
    cable = replace(cable, ipsec=ipsec)
    return Host(cable, psk, ppk, Path(secrets_file.path(cable)))


def write(cable: Cable, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the plan's command."""
    return subprocess.run(
        secrets_file.write(cable),
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        env={"PATH": os.environ["PATH"], **environment},
    )


def test_it_is_written_beside_the_key(this: Host) -> None:
    assert write(this.cable).returncode == 0
    (pair,) = secrets_file.pairs(this.cable)
    assert this.target.read_text() == (
        f"{pair} : PSK 0x{KEY.encode().hex()}\n"
        f'{pair} : PPKS "cluster1+cluster2" 0x{this.ppk.read_bytes()[:-1].hex()}\n'
    )
    assert stat.S_IMODE(this.target.stat().st_mode) == 0o600
    assert keys.find(this.cable) == keys.Found(Credential.SAME, (), ())
    assert secrets_file.pairs_in(this.target.read_text()) == (pair,)
    assert KEY not in " ".join(secrets_file.write(this.cable))


def test_another_one_is_told_from_another_key(this: Host) -> None:
    assert write(this.cable).returncode == 0
    this.ppk.write_text("one more")
    assert keys.find(this.cable).held is Credential.OTHER_PPK
    this.psk.write_text("one more")
    assert keys.find(this.cable).held is Credential.OTHER


def test_it_is_added_and_removed(this: Host) -> None:
    with_ppk = this.cable
    without = replace(with_ppk, ipsec=replace(with_ppk.ipsec, ppk=None))
    for first, then in ((without, with_ppk), (with_ppk, without)):
        this.cable = first
        assert write(this.cable).returncode == 0
        assert keys.find(first).held is Credential.SAME
        assert keys.find(then).held is Credential.OTHER_PPK


def test_an_earlier_one_has_both_keys(this: Host) -> None:
    assert write(this.cable).returncode == 0
    this.target.write_text(this.target.read_text().replace("172.18.0.8", "172.18.0.9"))
    assert keys.find(this.cable).held is Credential.EARLIER
    this.ppk.write_text("one more")
    assert keys.find(this.cable).held is Credential.OTHER


@pytest.mark.parametrize("plant", [elsewhere, open_to_all, open_to_a_group, as_fifo])
def test_one_that_others_choose_is_refused(this: Host, plant: Callable[[Path], None]) -> None:
    plant(this.ppk)
    ((told, _),) = keys.find(this.cable).problems
    assert str(this.ppk) in told
    assert "ipsec.psk" not in told
    assert write(this.cable).returncode == 3
    assert not this.target.exists()


@pytest.mark.parametrize("text", ["", "k" * 801])
def test_one_of_a_wrong_length_is_refused(this: Host, text: str) -> None:
    this.ppk.write_text(text)
    ((told, _),) = keys.find(this.cable).problems
    assert told.startswith("ipsec.ppk: the PPK is ")
    done = write(this.cable)
    assert (done.returncode, done.stderr) == (3, "no key of 1 to 800 bytes\n")
    assert not this.target.exists()


def test_beside_a_key_in_a_variable(this: Host) -> None:
    ipsec = replace(this.cable.ipsec, psk=PskEnv("CABLE_PSK"))
    this.cable = replace(this.cable, ipsec=ipsec)
    assert write(this.cable, CABLE_PSK=KEY).returncode == 0
    expected = secrets_file.content(this.cable, KEY.encode(), this.ppk.read_bytes()[:-1])
    assert this.target.read_bytes() == expected
