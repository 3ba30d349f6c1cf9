"""The cable's secrets file: its path, its content, and the shell command that writes it.

The keys never appear in an argv: the command reads each key from its file or variable.
The command uses Debian's essential tools only, since a plan's script runs without cablectl.
The key is written in hex (ipsec.secrets(5)), so no byte of the key can end the line or the quoting.
The command creates a new file of mode 0600 and renames it; it never writes to an existing file.
The command refuses the same untrusted files and directories as the module `host.trust`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import assert_never

from cablectl.libreswan.pluto_commands import REREAD_SECRETS
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.psk import PskDirectory, PskEnv, PskFile, PskPair

DIRECTORY = "/etc/ipsec.d"
MAIN_FILE = "/etc/ipsec.secrets"
MASK = "***"
SHORTEST = 4  # bytes; a shorter text may be any word, so it isn't masked
LINE_ENDS = b"\r\n"  # an editor adds them; they aren't part of the key
_BEFORE_KEY, _BEFORE_PPK = " : PSK ", " : PPKS "
MAX_KEY = 900  # bytes; pluto reads lines of up to 2047 and logs the rest (docs/libreswan.md)
MAX_PPK = 800  # bytes; its line also has the PPK_ID, of up to 129 characters with its quotes


# `odd FILE` prints what `host.trust` distrusts at a path of a key. No part may be a symlink, belong
# to another user, or be writable by others; a directory further up may be sticky, such as /tmp.
_OTHERS = '! -user 0 ! -user "$(id -u)"'
_SHARED = '"(" -perm -002 -o -perm -020 ! -group 0 ")"'
ODD = (
    "odd() { file=$1 dir=${1%/*}; at=$dir; set -- /;"
    ' while at=${at%/*}; [ "$at" ]; do set -- "$@" "$at"; done;'
    f' find "$@" -prune "(" ! -type d -o {_OTHERS} -o ! -perm -1000 {_SHARED} ")";'
    ' set -- "${dir:-/}"; if [ -e "$file" ] || [ -L "$file" ]; then set -- "$@" "$file"; fi;'
    f' find "$@" -prune "(" ! -type f ! -type d -o {_OTHERS} -o {_SHARED} ")"; }}; '
)
REFUSE_ODD = (
    ' [ ! "$found" ] ||'
    ' { echo "a link, not of root, or writable by others: $found" >&2; exit 3; }; '
)
_TO_HEX = 'od -An -v -tx1 | tr -d " \\n"'


def _refuse_key(most: int) -> str:
    """Return the part of the program that refuses an empty key, or one over `most` bytes."""
    return (
        f' [ "$key" ] && [ ${{#key}} -le {2 * most} ] ||'
        f' {{ echo "no key of 1 to {most} bytes" >&2; exit 3; }}; '
    )


def _key_reader(paths: str, read: str) -> str:
    """Return the part of the program that checks whom it may trust and reads the key into $key.

    `paths` is the command that checks the paths besides that of the secrets file.
    `read` is the command that prints the key. $to is the secrets file, $from the key's source.
    """
    return (
        f'{ODD}to=$1 from=$2; shift 2; found=$(odd "$to"{paths}); [ ! -d "$to" ] || found=$to;'
        f"{REFUSE_ODD}key=$({read} | {_TO_HEX});{_refuse_key(MAX_KEY)}"
    )


def _writer(lines: str) -> str:
    """Return the part of the program that writes a new secrets file, by these commands."""
    return f'{_BEGIN} rm -f "$to.new"; for who; do {lines}; done >"$to.new"; mv -f "$to.new" "$to"'


# $1 is the secrets file, $2 the key's file or variable.
# The remaining arguments are pairs of identities, one pair a word; each becomes a line.
_READ = 'cat -- "$from" | tr -d "\\r\\n"'
_FROM_FILE = _key_reader('; odd "$from"', _READ)
# A variable of the program may have the name of the key's variable, so the key is read from the
# environment that the shell was started with.
_FROM_VARIABLE = _key_reader("", 'sed -zn "s/^$from=//p" "/proc/$$/environ" | tr -d "\\r\\n\\0"')
_BEGIN = 'set -eC; umask 077; trap "rm -f \\"\\$to.new\\"" EXIT;'
_PSK_LINE = 'echo "$who : PSK 0x$key"'
_WRITE = _writer(_PSK_LINE)
# With a PPK, two more arguments come before the pairs: the file of the PPK, and the PPK_ID.
_AND_PPK = (
    f'psk=$key from=$1 id=$2; shift 2; found=$(odd "$from");{REFUSE_ODD}'
    f"key=$({_READ} | {_TO_HEX});{_refuse_key(MAX_PPK)}ppk=$key key=$psk; "
    + _writer(_PSK_LINE + '; echo "$who : PPKS \\"$id\\" 0x$ppk"')
)

# For several cables the arguments are, for each cable: its secrets file, how many pairs, the pairs.
_LINES = (
    ' if [ -L "$to" ] || [ -d "$to" ]; then echo "no file: $to" >&2; exit 3; fi;'
    ' if [ -e "$to.new" ] || [ -L "$to.new" ]; then rm -f "$to.new"; fi;'
    ' while [ "$left" -gt 0 ]; do echo "$1 : PSK 0x$key"; shift; left=$((left - 1)); done'
    ' >"$to.new"; mv -f "$to.new" "$to"; done'
)
_WRITE_ALL = _BEGIN + " while [ $# -gt 0 ]; do to=$1 left=$2; shift 2;" + _LINES

# With a key for each pair, $2 is the directory of the keys, and $1 in the directory of the secrets
# files. The remaining arguments are, for each cable: its secrets file, the name of its key's file,
# how many pairs of identities, the pairs. The directories are checked once, each key's file alone.
# `odd` itself sets $file, $dir and $at.
_WRITE_EACH = (
    f'{ODD}to=$1 all=$2; shift 2; found=$(odd "$to"; odd "$all/.");{REFUSE_ODD}'
    f"{_BEGIN} while [ $# -gt 0 ]; do to=$1 from=$all/$2 left=$3; shift 3;"
    f' found=$(find "$from" -prune "(" ! -type f -o {_OTHERS} -o {_SHARED} ")");{REFUSE_ODD}'
    f'key=$(tr -d "\\r\\n" <"$from" | {_TO_HEX});{_refuse_key(MAX_KEY)}{_LINES}'
)


def path(cable: Cable) -> str:
    """Return the path of the cable's secrets file; the main secrets file includes its directory."""
    return path_of(cable.id)


def path_of(cable_id: str) -> str:
    """Return the path of the secrets file of the cable with this id."""
    return f"{DIRECTORY}/cablectl-{cable_id}.secrets"


def cable_ids(files: Iterable[str]) -> frozenset[str]:
    """Return the ids of the cables whose secrets files are among these file names."""
    matches = (re.fullmatch(r"cablectl-(.+)\.secrets", file) for file in files)
    return frozenset(match[1] for match in matches if match)


def key(raw: bytes) -> bytes:
    """Return the key from the raw content of a file or a variable."""
    return raw.translate(None, LINE_ENDS)


def masked(text: str, key: bytes) -> str:
    """Return a text with the key masked, as text and as hex; a key under SHORTEST is left."""
    spellings = (key.decode(errors="replace"), key.hex()) if len(key) >= SHORTEST else ()
    for spelling in spellings:
        text = text.replace(spelling, MASK)
    return text


# Parts of pluto's log that may be a key: the rest of a line about a line of the secrets file or
# about PSK or PPKS; hex digits, also without 0x, as in the rest of a line that was too long
# (docs/libreswan.md).
_MAYBE_KEYS = re.compile(
    r"(\bline \d+:|\bPSK\b|\bPPKS\b).*|(\b0[xX])[\da-fA-F]+|\b[\da-fA-F]{32,}\b"
)


def masked_log(text: str) -> str:
    """Return pluto's log with everything masked that may be a key."""
    return _MAYBE_KEYS.sub(_mask, text)


def _mask(match: re.Match[str]) -> str:
    introduction, hex_prefix = match.groups()
    return f"{introduction} {MASK}" if introduction else f"{hex_prefix or ''}{MASK}"


def content(cable: Cable, psk: bytes, ppk: bytes | None = None) -> bytes:
    """Return the whole content of the secrets file: a line for each pair of identities and key."""
    keys = [f"{_BEFORE_KEY}0x{psk.hex()}\n"]
    if ppk is not None:
        keys.append(f'{_BEFORE_PPK}"{cable.pair}" 0x{ppk.hex()}\n')
    return "".join(f"{pair}{key}" for pair in pairs(cable) for key in keys).encode()


def without_ppk(text: bytes) -> bytes:
    """Return the content of a secrets file without the lines of a PPK."""
    lines = text.splitlines(keepends=True)
    return b"".join(line for line in lines if _BEFORE_PPK.encode() not in line)


def has_keys(text: bytes, psk: bytes, ppk: bytes | None = None) -> bool:
    """Tell whether the lines of a secrets file have these keys, whatever the identities."""
    ends = (line.rpartition(b" : ")[2].split() for line in text.splitlines())
    found = {(words[0], words[-1]) for words in ends if words}
    keys = {b"PSK": psk} if ppk is None else {b"PSK": psk, b"PPKS": ppk}
    return found == {(kind, f"0x{key.hex()}".encode()) for kind, key in keys.items()}


def write(cable: Cable) -> Argv:
    """Return the command that writes the secrets file atomically, readable by root only."""
    program, source = _key_program(cable)
    if cable.ppk:
        program, source = program + _AND_PPK, (*source, cable.ppk.path, cable.pair)
    else:
        program += _WRITE
    return ("sh", "-c", program, "sh", path(cable), *source, *pairs(cable))


def write_all(cables: Sequence[Cable]) -> Argv:
    """Return the command that writes the secrets files of several cables of one file.

    It reads the key once, or each pair's own. The cables have no PPK.
    """
    psk = cables[0].ipsec.psk
    match psk:
        case PskFile() | PskEnv():
            program, source = _key_program(cables[0])
            program += _WRITE_ALL
        case PskDirectory():
            program, source = _WRITE_EACH, (psk.path,)
        case _:
            assert_never(psk)
    words: list[str] = []
    for cable in cables:
        lines = pairs(cable)
        name = (cable.psk.name,) if isinstance(cable.psk, PskPair) else ()
        words += [path(cable), *name, str(len(lines)), *lines]
    return ("sh", "-c", program, "sh", path(cables[0]), *source, *words)


def _key_program(cable: Cable) -> tuple[str, Argv]:
    """Return the part of the program that reads the key, and its arguments."""
    psk = cable.psk
    match psk:
        case PskFile() | PskPair():
            return _FROM_FILE, (psk.path,)
        case PskEnv():
            return _FROM_VARIABLE, (psk.variable,)
        case _:
            assert_never(psk)


def remove(cable_id: str) -> tuple[Argv, Argv]:
    """Return the commands that remove a cable's secrets file and have pluto reload its secrets.

    A file left by an interrupted write is removed too.
    """
    file = path_of(cable_id)
    return (("rm", "-f", file, f"{file}.new"), REREAD_SECRETS)


def pairs(cable: Cable) -> tuple[str, ...]:
    """Return the lines of the secrets file without the key: two identities each."""
    return tuple(map(" ".join, cable.identities))


def pairs_in(text: str) -> tuple[str, ...]:
    """Return what `pairs` returns, from the content of a secrets file."""
    lines = (line.partition(_BEFORE_KEY) for line in text.splitlines())
    return tuple(pair for pair, before_key, _ in lines if before_key)
