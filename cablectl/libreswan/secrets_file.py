"""The cable's secrets file: where it is, what it holds, and the command that writes it.

The pre-shared key never passes through an argv: the command reads it from its file or variable
itself, with tools that POSIX names, and `echo` is part of every shell. Written in hex
(ipsec.secrets(5)) no byte of the key can end the line or the quoting. The file that is written is
whole, new and of mode 0600: nothing that waits in its place is written to. What `keys` distrusts
the command refuses as well, since the script of a plan runs without it.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from cablectl.libreswan.whack import REREAD_SECRETS
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import PskFile

DIRECTORY = "/etc/ipsec.d"
MAIN_FILE = "/etc/ipsec.secrets"
MASK = "***"
SHORTEST = 4  # bytes; what is shorter may as well be any word
LINE_ENDS = b"\r\n"  # an editor's, no part of the key
MAX_KEY = 900  # bytes: pluto takes lines of up to 2047, and logs the rest (docs/libreswan.md)

# $1 is the secrets file, $2 the key's file or variable, $3 the directory of the key's file, if it
# is a file. Then come those whom the key is for, a pair a word, and a line for each.
_FROM_FILE = "to=$1 from=$2 dir=$3; shift 3; "
_FROM_VARIABLE = "to=$1 from=$2; shift 2; "
_TRUST = (
    'odd=$(find "${to%/*}" PLACES -prune "(" ! -type f ! -type d -o -perm -002'
    ' -o ! -user 0 ! -user "$(id -u)" ")"); if [ -L "$to" ] || [ -d "$to" ]; then odd=$to; fi;'
    ' [ ! "$odd" ] || { echo "a link, not of root, or writable by all: $odd" >&2; exit 3; }; '
)
_READ = (
    'key=$(READ "$from" | tr -d "\\r\\n" | od -An -v -tx1 | tr -d " \\n"); [ "$key" ] &&'
    f" [ ${{#key}} -le {2 * MAX_KEY} ] ||"
    f' {{ echo "no key of 1 to {MAX_KEY} bytes" >&2; exit 3; }}; '
)
_WRITE = (
    'set -eC; umask 077; trap "rm -f \\"\\$to.new\\"" EXIT; rm -f "$to.new";'
    ' for who; do echo "$who : PSK 0x$key"; done >"$to.new"; mv -f "$to.new" "$to"'
)

# Of several cables: for each its secrets file, how many pairs, and the pairs.
_WRITE_ALL = (
    'set -eC; umask 077; trap "rm -f \\"\\$to.new\\"" EXIT;'
    " while [ $# -gt 0 ]; do to=$1 left=$2; shift 2;"
    ' if [ -L "$to" ] || [ -d "$to" ]; then echo "no file: $to" >&2; exit 3; fi;'
    ' if [ -e "$to.new" ] || [ -L "$to.new" ]; then rm -f "$to.new"; fi;'
    ' while [ "$left" -gt 0 ]; do echo "$1 : PSK 0x$key"; shift; left=$((left - 1)); done'
    ' >"$to.new"; mv -f "$to.new" "$to"; done'
)


def path(cable: Cable) -> str:
    """Return the secrets file of this cable alone; the main file includes its directory."""
    return _path(cable.id)


def _path(cable_id: str) -> str:
    return f"{DIRECTORY}/cablectl-{cable_id}.secrets"


def ids(files: Iterable[str]) -> frozenset[str]:
    """Return what tells the cables apart whose secrets files are among these names."""
    found = (re.fullmatch(r"cablectl-(.+)\.secrets", file) for file in files)
    return frozenset(each[1] for each in found if each)


def key(raw: bytes) -> bytes:
    """Return the key that a file or a variable holds."""
    return raw.translate(None, LINE_ENDS)


def masked(text: str, key: bytes) -> str:
    """Return a text without a key, as its file or pluto's have it; one too short is no key."""
    written = (key.decode(errors="replace"), key.hex())
    for each in written if len(key) >= SHORTEST else ():
        text = text.replace(each, MASK)
    return text


# What of pluto's log may be a key: what it says of a line of its secrets, or of PSK; hex, also
# without its beginning, as in the rest of a line that was too long (docs/libreswan.md).
_MAYBE_KEYS = re.compile(r"(\bline \d+:|\bPSK\b).*|(\b0[xX])[\da-fA-F]+|\b[\da-fA-F]{32,}\b")


def masked_log(text: str) -> str:
    """Return pluto's log without what may be a key."""
    return _MAYBE_KEYS.sub(_mask, text)


def _mask(found: re.Match[str]) -> str:
    begin, hexadecimal = found.groups()
    return f"{begin} {MASK}" if begin else f"{hexadecimal or ''}{MASK}"


def content(cable: Cable, psk: bytes) -> bytes:
    """Return the whole content of the secrets file: for these identities, no others."""
    return "".join(f"{who} : PSK 0x{psk.hex()}\n" for who in _pairs(cable)).encode()


def write(cable: Cable) -> Argv:
    """Write the file at once and readable by root alone."""
    program, source = _key_of(cable)
    return ("sh", "-c", program + _WRITE, "sh", path(cable), *source, *_pairs(cable))


def write_all(cables: Sequence[Cable]) -> Argv:
    """Write the files of several cables of one key, each as `write` does; the key is read once."""
    program, source = _key_of(cables[0])
    pairs = [(path(cable), _pairs(cable)) for cable in cables]
    words = (word for to, whom in pairs for word in (to, str(len(whom)), *whom))
    return ("sh", "-c", program + _WRITE_ALL, "sh", path(cables[0]), *source, *words)


def _key_of(cable: Cable) -> tuple[str, Argv]:
    """Return the program that reads the key, if it may be trusted, and where it is."""
    psk = cable.ipsec.psk
    if isinstance(psk, PskFile):
        source: Argv = (psk.path, str(PurePosixPath(psk.path).parent))
        first, places, read = _FROM_FILE, '"$dir" "$from"', "cat --"
    else:
        source = (psk.variable,)
        first, places, read = _FROM_VARIABLE, "", "printenv"
    trust = _TRUST.replace("PLACES ", f"{places} ".lstrip())
    return first + trust + _READ.replace("READ", read), source


def remove(cable: Cable) -> tuple[Argv, Argv]:
    """Remove the file, also one that is half written, and have pluto forget what it held."""
    return remove_of(cable.id)


def remove_of(cable_id: str) -> tuple[Argv, Argv]:
    """Do the same for a cable of which only its id is known."""
    file = _path(cable_id)
    return (("rm", "-f", file, f"{file}.new"), REREAD_SECRETS)


def _pairs(cable: Cable) -> tuple[str, ...]:
    return tuple(map(" ".join, cable.identities))
