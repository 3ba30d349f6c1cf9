"""All endpoints of a file: which are the peers of one of them, and by which names."""

import pytest

from cablectl.cli import source
from cablectl.errors import UsageError
from tests.support.meshes import big
from tests.support.places import EXAMPLES


class TestPeers:
    def named(self, *names: str) -> list[str]:
        chosen = source.chosen([str(EXAMPLES / "mesh.yaml")], "cluster1", list(names))
        return [cable.remote.cluster for cable in chosen.cables]

    def test_by_cluster_hostname_or_address(self) -> None:
        assert self.named() == ["cluster2", "cluster3"]
        for name in ("cluster3", "cluster3-worker", "172.18.0.6"):
            assert self.named(name) == ["cluster3"]
        assert self.named("cluster3", "cluster2", "172.18.0.7") == ["cluster2", "cluster3"]

    def test_nobody_and_oneself_are_none(self) -> None:
        with pytest.raises(UsageError, match="--peer 'x': no endpoint has that"):
            self.named("x")
        with pytest.raises(UsageError, match=r"--peer 'cluster1-worker' is the local end"):
            self.named("cluster2", "cluster1-worker")


def test_an_error_names_a_few_of_a_thousand() -> None:
    with pytest.raises(UsageError) as caught:
        big(1000).named("x")
    assert caught.value.hint.endswith(" and 992 more")
    assert len(caught.value.hint) < 600
