"""The cable's secrets file: where it is, what it holds, and the command that writes it.

The pre-shared key never passes through an argv: the command reads it from its file or variable
itself, with tools that POSIX names, and builds the line with the shell's own printf. Written in hex
(ipsec.secrets(5)) no byte of the key can end the line or the quoting.
"""

import re
from collections.abc import Iterable

from cablectl.cable import Cable
from cablectl.libreswan import REREAD_SECRETS, Argv
from cablectl.model import PskFile

DIRECTORY = "/etc/ipsec.d"
MAIN_FILE = "/etc/ipsec.secrets"
LINE_ENDS = b"\r\n"  # an editor's, no part of the key

# In both, $1 is the secrets file, $2 whom the key is for, $3 the key's file or variable.
_ENCODE = r'tr -d "\r\n" | od -An -v -tx1 | tr -d " \n"'
_WRITE = (
    '[ "$key" ] && umask 077 && printf "%s : PSK 0x%s\\n" "$2" "$key" >"$1.new"'
    ' && mv -f "$1.new" "$1" || { rm -f "$1.new"; exit 1; }'
)
_FROM_FILE = f'key=$(cat -- "$3" | {_ENCODE}); {_WRITE}'
_FROM_VARIABLE = f'key=$(printenv "$3" | {_ENCODE}); {_WRITE}'


def path(cable: Cable) -> str:
    """Return the secrets file of this cable alone; the main file includes its directory."""
    return f"{DIRECTORY}/cablectl-{cable.id}.secrets"


def ids(files: Iterable[str]) -> frozenset[str]:
    """Return what tells the cables apart whose secrets files are among these names."""
    found = (re.fullmatch(r"cablectl-(.+)\.secrets", file) for file in files)
    return frozenset(each[1] for each in found if each)


def key(raw: bytes) -> bytes:
    """Return the key that a file or a variable holds."""
    return raw.translate(None, LINE_ENDS)


def line(cable: Cable, psk: bytes) -> bytes:
    """Return the whole content of the secrets file: for these identities, no others."""
    return f"{_identities(cable)} : PSK 0x{psk.hex()}\n".encode()


def write(cable: Cable) -> Argv:
    """Write the file at once and readable by root alone."""
    psk = cable.ipsec.psk
    script, source = (
        (_FROM_FILE, psk.path) if isinstance(psk, PskFile) else (_FROM_VARIABLE, psk.variable)
    )
    return ("sh", "-c", script, "sh", path(cable), _identities(cable), source)


def remove(cable: Cable) -> tuple[Argv, Argv]:
    """Remove the file, and have pluto forget what it held."""
    return (("rm", "-f", path(cable)), REREAD_SECRETS)


def _identities(cable: Cable) -> str:
    return " ".join(cable.identities)
