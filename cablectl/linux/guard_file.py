"""The file by which a watcher holds a guard: while the file exists, the watcher keeps the table.

teardown removes the file before the table, so the watcher doesn't load the table again.
"""

from cablectl.linux import nftables
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable

DIRECTORY = "/run/cablectl"
SUFFIX = ".guard"


def path(cable: Cable) -> str:
    """Return the path of the file; cables that share a device share the file."""
    return f"{DIRECTORY}/{cable.bundle}{SUFFIX}"


def remove(cable: Cable) -> Argv:
    """Remove the file, which tells the watcher to let the table go."""
    return ("rm", "-f", path(cable))


def remove_of(table: str) -> Argv:
    """Remove the file of a guard's table, by family and name; () for another table."""
    family, _, name = table.partition(" ")
    bundle = name.removeprefix("cablectl_")
    if family != nftables.FAMILY or bundle == name:
        return ()
    return ("rm", "-f", f"{DIRECTORY}/{bundle}{SUFFIX}")
