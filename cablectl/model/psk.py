"""Where a pre-shared key or a PPK is: as a file says it, and as one cable needs it."""

from typing import Annotated

from msgspec import Meta, Struct

SEPARATOR = "+"  # between the two clusters in the name of a pair's key, see pair_name
NEXT = ".next"  # the ending of the file with the key that replaces the one in use


class PskFile(Struct, frozen=True):
    """The pre-shared key is the content of a file, without line ends."""

    path: str


class PskEnv(Struct, frozen=True):
    """The pre-shared key is the value of an environment variable."""

    variable: str


class PskDirectory(Struct, frozen=True):
    """A directory has a file with a pre-shared key for each pair of gateways."""

    path: str


class PskPair(Struct, frozen=True):
    """The pre-shared key of one pair is the content of its file in a directory."""

    directory: str
    name: str

    @property
    def path(self) -> str:
        """The path of the file."""
        return f"{self.directory.rstrip('/')}/{self.name}"


Psk = PskFile | PskEnv | PskDirectory
CablePsk = PskFile | PskEnv | PskPair
Ppk = PskFile | PskDirectory
CablePpk = PskFile | PskPair

WrittenPsk = Annotated[
    Psk,
    Meta(description="{file: /PATH}, {env: NAME} or {directory: /PATH}, never the key itself"),
]
WrittenPpk = Annotated[
    Annotated[Ppk, Meta()] | None,
    Meta(description="{file: /PATH} or {directory: /PATH}, never the key itself"),
]


def pair_name(one: str, other: str) -> str:
    """Return the name of the file with the key of two clusters, the same at both ends.

    They are sorted by their characters' codes, so the order is the same in every language. The
    name of a cluster may have `-`, `.` and `_`, also several in a row: with `--` between the two,
    `a` and `b--c` would have the same file as `a--b` and `c`. No name has a `+` (`names.Name`), and
    no shell gives it a meaning.
    """
    return SEPARATOR.join(sorted((one, other)))
