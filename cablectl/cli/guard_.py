"""`cablectl guard`: keep the guard loaded."""

import sys

from cablectl.cli import options, source
from cablectl.errors import CablectlError
from cablectl.host import privilege
from cablectl.model.network import Network
from cablectl.model.wishes import Mode


def guard(files: options.Files, local: options.Local = None) -> None:
    """Keep the guard loaded, from now until teardown or a signal.

    The guard is loaded again within a second if another program deletes or changes it. At a signal
    guard ends, and the guard stays loaded. The unit cablectl-guard@.service runs this command.
    """
    privilege.refuse_others_than_root()
    described = Described(files)
    network = source.wished(files, trusted=True)
    end = source.named_end(network, local) if local else None
    from cablectl.run import service, watcher  # no other command needs them

    if not network.guard or network.mode is Mode.NONE:
        service.tell_ready()
        print("the file wants no guard")
        return
    watcher.Watcher(network, end, described.if_changed, _tell).run(service.tell_ready)


class Described:
    """What the files describe, read again when a file was changed."""

    def __init__(self, names: list[str]) -> None:
        self._names, self._states = names, source.FileStates(names)

    def if_changed(self) -> Network | None:
        """Return what the files describe now; None if they are as before, or have an error."""
        if not self._states.changed():
            return None
        try:
            return source.wished(self._names, trusted=True)
        except CablectlError as error:
            _tell(f"the guard stays as it is: {error.message}")
            return None


def _tell(line: str) -> None:
    print(f"cablectl guard: {line}", file=sys.stderr, flush=True)
