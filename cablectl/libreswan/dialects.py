"""What each release of Libreswan takes: dialects as data."""

import re
from enum import StrEnum

from msgspec import Struct

from cablectl.errors import UsageError
from cablectl.model.argv import Argv


class Version(Struct, frozen=True, order=True):
    """A release of Libreswan."""

    major: int
    minor: int

    def __str__(self) -> str:
        """Write it as Libreswan does."""
        return f"{self.major}.{self.minor}"


class PfsForm(StrEnum):
    """How the PFS group is told."""

    FLAG = "--pfsgroup GROUP"
    IN_ESP = "--esp 'ALG;GROUP'"


class Dialect(Struct, frozen=True, kw_only=True):
    """The flags of a range of releases, beginning with `since`."""

    since: Version
    tunnel: Argv = ("--tunnel",)
    transport: Argv = ("--transport",)
    encapsulate: Argv = ("--encaps", "yes")
    pfs: PfsForm = PfsForm.FLAG
    esn: Argv = ()  # where both are offered without a flag
    # Without a flag 4.x has the NIC do what it can, 5.x has it do nothing.
    no_offload: Argv = ()
    offload_if_it_can: Argv = ("--nic-offload", "crypto")
    offload: Argv = ("--nic-offload", "crypto")
    packet_offload: bool = True
    dpd_action: bool = False
    stack_manager: bool = True


DIALECTS = (
    Dialect(
        since=Version(4, 0),
        tunnel=(),  # --client means it
        transport=(),
        encapsulate=("--forceencaps",),
        esn=("--esn", "--no-esn"),
        no_offload=("--nic-offload", "no"),
        offload_if_it_can=(),
        offload=("--nic-offload", "yes"),
        packet_offload=False,
        dpd_action=True,
    ),
    Dialect(since=Version(5, 0)),
    Dialect(since=Version(5, 3), pfs=PfsForm.IN_ESP, stack_manager=False),
)


LATEST = DIALECTS[-1].since


EXAMPLES = (Version(4, 10), Version(5, 2), Version(5, 3))  # one of each dialect, as distributed


def parse_version(text: str) -> Version:
    """Return the release named in `text`, such as `Libreswan 4.10` or `5.2`; else UsageError."""
    found = re.search(r"(?<![\w.])v?(\d{1,3})\.(\d{1,3})(?:\.\d{1,3})?(?![\d.])", text)
    if not found:
        raise UsageError(f"{text.strip()!r} is not a Libreswan version", hint="for example 4.10")
    version = Version(int(found[1]), int(found[2]))
    if version < DIALECTS[0].since:
        raise UsageError(
            f"Libreswan {version} is too old", hint=f"{DIALECTS[0].since} is the oldest"
        )
    return version


def dialect(version: Version) -> Dialect:
    """Return what that release speaks."""
    return next(each for each in reversed(DIALECTS) if each.since <= version)
