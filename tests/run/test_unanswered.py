"""IKE SAs with a request that nobody answers are ended before their connections are deleted."""

import os
from pathlib import Path

import pytest

from cablectl.run import unanswered
from tests.support.states import IKE, REQUEST

OLDER = IKE.replace("#1", "#7")
# As whack 4.10: it waits for the peer's answer to the deletion.
IPSEC = """\
#!/bin/sh
echo "$*" >>"{folder}/log"
case "$*" in
    *--showstates) cat "{folder}/states" ;;
    *--deletestate*) exec sleep 60 ;;
esac
"""


def test_a_peer_that_answers_no_deletion_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "states").write_text(f"{IKE}\n{OLDER}\n{REQUEST}\n")
    (tmp_path / "ipsec").write_text(IPSEC.format(folder=tmp_path))
    (tmp_path / "ipsec").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(unanswered, "LIMIT", 0.2)
    unanswered.end({"a-0", "a-1"}, "delete")
    assert (tmp_path / "log").read_text().splitlines() == [
        "--directory",
        "whack --showstates",
        "whack --deletestate 1",
        "whack --deletestate 7",
    ]
