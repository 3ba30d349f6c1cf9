"""`cablectl guard`: keep the guard loaded."""

import sys

from cablectl.cli import options, source
from cablectl.host import privilege
from cablectl.model.wishes import Mode


def guard(files: options.Files, local: options.Local = None) -> None:
    """Keep the guard loaded, from now until teardown or a signal.

    The guard is loaded again within a second if another program deletes or changes it. At a signal
    guard ends, and the guard stays loaded. The unit cablectl-guard@.service runs this command.
    """
    privilege.refuse_others_than_root()
    network = source.wished(files)
    end = source.named_end(network, local) if local else None
    from cablectl.run import service, watcher  # no other command needs them

    if not network.guard or network.mode is Mode.NONE:
        service.tell_ready()
        print("the file wants no guard")
        return
    watcher.Watcher(network, end, _tell).run(service.tell_ready)


def _tell(line: str) -> None:
    print(f"cablectl guard: {line}", file=sys.stderr, flush=True)
