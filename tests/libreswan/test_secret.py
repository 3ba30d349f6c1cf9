"""The command that writes the secrets file, run by a real shell."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cablectl.config.reader import SHELL_VARIABLES
from cablectl.libreswan import secrets_file
from cablectl.model.cable import Cable
from cablectl.model.psk import PskEnv, PskFile
from tests.support.documents import SHAPES, shaped


def write(cable: Cable, target: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    argv = [
        str(target) if word == secrets_file.path(cable) else word
        for word in secrets_file.write(cable)
    ]
    return subprocess.run(
        argv, capture_output=True, check=False, env={"PATH": os.defpath, **environment}
    )


def from_file(cable: Cable, path: Path) -> Cable:
    return replace(cable, ipsec=replace(cable.ipsec, psk=PskFile(str(path))))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.binary(min_size=1, max_size=300).filter(secrets_file.key))
def test_the_shell_and_the_comparison_agree_on_every_key(
    cable: Cable, tmp_path: Path, key: bytes
) -> None:
    source, target = tmp_path / "psk", tmp_path / "cable.secrets"
    source.write_bytes(key)
    assert write(from_file(cable, source), target).returncode == 0
    assert target.read_bytes() == secrets_file.content(cable, secrets_file.key(key))


def test_the_file_is_whole_private_and_for_two_addresses(cable: Cable, tmp_path: Path) -> None:
    source, target = tmp_path / "psk", tmp_path / "cable.secrets"
    source.write_text('two words, a "quote"\n')
    before = os.umask(0)
    try:
        assert write(from_file(cable, source), target).returncode == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.read_text().startswith("172.18.0.8 172.18.0.7 : PSK 0x")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["cable.secrets", "psk"]


def test_from_the_environment(cable: Cable, tmp_path: Path) -> None:
    this = replace(cable, ipsec=replace(cable.ipsec, psk=PskEnv("CABLE_PSK")))
    target = tmp_path / "cable.secrets"
    assert write(this, target, CABLE_PSK="correct horse").returncode == 0
    assert target.read_bytes() == secrets_file.content(this, b"correct horse")


def names_in(program: str) -> set[str]:
    """Return the names that a shell program sets or reads."""
    return {name for found in NAMES.findall(program) for name in found if name}


NAMES = re.compile(r"\b([A-Za-z_]\w*)=|\$\{?#?([A-Za-z_]\w*)|\bfor (\w+)")


@pytest.mark.parametrize("shell", ["dash", "bash", "bash --posix"])
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_no_variable_of_the_program_hides_the_key(
    cable: Cable, tmp_path: Path, shell: str, several: bool
) -> None:
    """Nor does a variable that the shell itself sets."""
    make = (lambda this: secrets_file.write_all((this,))) if several else secrets_file.write
    program = make(replace(cable, ipsec=replace(cable.ipsec, psk=PskEnv("KEY"))))[2]
    names = names_in(program)
    assert {"to", "from", "key", "left" if several else "who"} <= names
    assert not names & set(SHELL_VARIABLES)
    for name in (*sorted(names), "IFS", "PWD", "OLDPWD", "SHLVL", "PPID", "UID", "HOME", "PS4"):
        this = replace(cable, ipsec=replace(cable.ipsec, psk=PskEnv(name)))
        target, key = tmp_path / f"{name}.secrets", b"correct \xff horse"
        words = [str(target) if word == secrets_file.path(cable) else word for word in make(this)]
        done = subprocess.run(
            [*shell.split(), *words[1:]],
            capture_output=True,
            check=False,
            env={b"PATH": os.defpath.encode(), b"OTHER": f"{name}=x".encode(), name.encode(): key},
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), name
        assert target.read_bytes() == secrets_file.content(this, key), name


@pytest.mark.parametrize("content", [None, b"", b"\r\n"], ids=["missing", "empty", "blank"])
def test_no_key_no_file(cable: Cable, tmp_path: Path, content: bytes | None) -> None:
    source, target = tmp_path / "psk", tmp_path / "cable.secrets"
    if content is not None:
        source.write_bytes(content)
    assert write(from_file(cable, source), target).returncode != 0
    assert not target.exists()
    assert not Path(f"{target}.new").exists()


def test_a_directory_that_takes_no_file(cable: Cable, tmp_path: Path) -> None:
    source = tmp_path / "psk"
    source.write_text("correct horse battery")
    done = write(from_file(cable, source), tmp_path / "missing" / "cable.secrets")
    assert done.returncode != 0
    assert b"correct" not in done.stdout + done.stderr
    assert b"636f7272656374" not in done.stdout + done.stderr  # "correct" in hex


@pytest.mark.parametrize("shape", SHAPES)
def test_no_line_is_longer_than_pluto_reads(shape: str) -> None:
    """It would be in pluto's log, the key with it; a server's tunnels have ids of their own."""
    cable = shaped(shape)
    lines = secrets_file.content(cable, b"k" * secrets_file.MAX_KEY).splitlines(keepends=True)
    assert len(lines) == len(cable.identities)
    assert all(len(line) < 2048 for line in lines)


def test_a_path_is_no_option(cable: Cable) -> None:
    odd = from_file(cable, Path("/-n; echo $(id)"))
    assert secrets_file.write(odd)[-2] == "/-n; echo $(id)"


def test_a_key_is_masked_in_every_form() -> None:
    key = b"correct horse"
    text = f"a {key.decode()} b 0x{key.hex()} c"
    assert secrets_file.masked(text, key) == "a *** b 0x*** c"
    assert secrets_file.masked("a word", b"a") == "a word"  # or nothing could be read any more
    assert secrets_file.masked("a word", b"") == "a word"


def test_plutos_log_is_masked_where_a_key_could_be() -> None:
    log = (
        '"x" #1: {ESPinUDP=>0xd5ef3171 <0x279bb8e9 xfrm=AES_GCM}\n'
        'line 3: PSK "correct horse" is malformed\n'
        "| PSK 0x00ff secret\n"
        "policy: IKEv2+PSK+ENCRYPT;\n"
        f'"/etc/ipsec.secrets" line 4: malformed: {b"correct horse".hex() * 2}\n'
        f"| {b'correct horse'.hex() * 2} is the rest of it\n"
        "initiator SPI f00dfacef00dface\n"
        "UPSKILL"
    )
    assert secrets_file.masked_log(log) == (
        '"x" #1: {ESPinUDP=>0x*** <0x*** xfrm=AES_GCM}\n'
        "line 3: ***\n"
        "| PSK ***\n"
        "policy: IKEv2+PSK ***\n"
        '"/etc/ipsec.secrets" line 4: ***\n'
        "| *** is the rest of it\n"
        "initiator SPI f00dfacef00dface\n"
        "UPSKILL"
    )
