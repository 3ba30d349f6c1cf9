"""The file by which a watch keeps a cable: while the file exists, the watch repairs the cable.

teardown removes the file first of all, so the watch doesn't make again what teardown removes.
"""

from cablectl.linux import guard_file
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable

SUFFIX = ".watched"


def path(cable: Cable) -> str:
    """Return the path of the file; each cable has its own."""
    return f"{guard_file.DIRECTORY}/{cable.id}{SUFFIX}"


def remove(cable: Cable) -> Argv:
    """Remove the file, which tells the watch to let the cable go."""
    return ("rm", "-f", path(cable))
