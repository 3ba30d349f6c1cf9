"""Which files are documents of Submariner: those with an object's key, wherever the word stands."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from cablectl.cli import source
from cablectl.config.submariner.documents import has_objects
from cablectl.errors import UsageError
from cablectl.host import devices
from cablectl.libreswan import secrets_file
from tests.support.documents import shaped
from tests.support.places import EXAMPLES

QUICKSTART = (EXAMPLES / "quickstart.yaml").read_text(encoding="utf-8")
ENDPOINTS = EXAMPLES / "submariner" / "endpoints.yaml"


def described(folder: Path, *texts: str) -> Any:  # noqa: ANN401
    """Return the clusters of files with these texts."""
    names = []
    for number, text in enumerate(texts):
        (folder / f"{number}.yaml").write_text(text, encoding="utf-8")
        names.append(str(folder / f"{number}.yaml"))
    return [end.cluster for end in source.described(names).endpoints]


@pytest.mark.parametrize(
    "text",
    [
        f"# apiVersion: v1 of the documents that this file was made from\n{QUICKSTART}",
        f"{QUICKSTART}# apiVersion\n",
        QUICKSTART.replace("cluster1-worker", '"apiVersion"'),
        QUICKSTART.replace("cluster1-worker", "'apiVersion'"),
        QUICKSTART.replace("cluster1-worker", "apiVersion"),
    ],
)
def test_a_file_of_cablectl_that_has_the_word(text: str, tmp_path: Path) -> None:
    assert "apiVersion" in text
    assert described(tmp_path, text) == ["cluster1", "cluster2"]


def test_a_cluster_of_that_name(tmp_path: Path) -> None:
    text = QUICKSTART.replace("cluster: cluster1\n", "cluster: apiVersion\n")
    assert described(tmp_path, text) == ["apiVersion", "cluster2"]


def test_two_files_of_cablectl_that_have_the_word(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 files were given, and none of them is a document"):
        described(tmp_path, f"# apiVersion\n{QUICKSTART}", QUICKSTART)


def test_documents_beside_a_text_that_has_none(tmp_path: Path) -> None:
    assert described(tmp_path, "# nothing\n", ENDPOINTS.read_text()) == ["cluster1", "cluster2"]


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (ENDPOINTS.read_text(), f"# apiVersion\n{QUICKSTART}"):
        stream = io.TextIOWrapper(io.BytesIO(text.encode()))
        monkeypatch.setattr(sys, "stdin", stream)
        assert [end.cluster for end in source.described(["-"]).endpoints] == [
            "cluster1",
            "cluster2",
        ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1  # apiVersion\nmode: [\n", r"0\.yaml:3: .*did not find expected node"),
        ("version: 1\nmode: [x\napiVersion: v1\n", r"0\.yaml:3: .*did not find expected"),
        ("apiVersion: v1\nkind: [\n", r"0\.yaml:3: .*did not find expected node"),
        ("version: 1  # apiVersion\x00\n", r"0\.yaml:1: this is not YAML"),
        ("- apiVersion: v1\n", r"0\.yaml:1: not a mapping; allowed: a mapping with version"),
        (f"{QUICKSTART}---\n# apiVersion\n", "a second document is not allowed"),
    ],
)
def test_a_mistake_has_its_place(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        described(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apiVersion: v1\n", True),
        ('"apiVersion": v1\n', True),
        ("? apiVersion\n: v1\n", True),
        ('{"kind": "List", "apiVersion": "v1"}', True),
        ("kind: List\nitems: [{a: [1]}]\napiVersion: v1\n", True),
        ("a: 1\n---\nkind: Secret\napiVersion: v1\n", True),
        ("[a]\n---\napiVersion: v1\n", True),
        ("a\n---\napiVersion: v1\n", True),
        ("apiVersion: v1\nkind: [\n", True),
        ("", False),
        ("---\n...\n", False),
        ("apiVersion\n", False),
        ("[apiVersion, v1]\n", False),
        ("a: apiVersion\n", False),
        ("a: [1]\nb: apiVersion\n", False),
        ("a: {apiVersion: v1}\n", False),
        ("a:\n  apiVersion: v1\n", False),
        ("a: |\n  apiVersion: v1\n", False),
        ("[a, apiVersion]: v1\n", False),
        ("a: [\n", False),
    ],
)
def test_the_key_stands_at_the_top_of_a_document(text: str, expected: bool) -> None:
    assert has_objects(text) is expected


class TestThisHost:
    """Which endpoint a host without --local is."""

    def chosen(self, monkeypatch: pytest.MonkeyPatch, *held: str, own: str = "10.0.0.4") -> str:
        monkeypatch.setattr(devices, "addresses", lambda: frozenset(held))
        monkeypatch.setattr(devices, "links", dict)
        monkeypatch.setattr(devices, "source_towards", lambda _: own)
        return (
            source.chosen([str(EXAMPLES / "quickstart.yaml")], None, None).cables[0].local.cluster
        )

    def test_its_address_says_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.chosen(monkeypatch, "172.18.0.7") == "cluster2"

    def test_a_cloud_vm_whose_file_has_its_public_address(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(UsageError, match="this host has the address of no endpoint") as caught:
            self.chosen(monkeypatch, "10.0.0.4")
        assert "--local: cluster1 (cluster1-worker, 172.18.0.8), " in caught.value.hint
        assert caught.value.hint.endswith("as public_address, and 10.0.0.4 as address")

    def test_without_a_route(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UsageError) as caught:
            self.chosen(monkeypatch, own="")
        assert caught.value.hint.endswith("and the address of an interface as address")

    def test_both_addresses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UsageError, match="address of more than one endpoint") as caught:
            self.chosen(monkeypatch, "172.18.0.7", "172.18.0.8")
        assert "public_address" not in caught.value.hint

    def test_the_cable_that_it_made_says_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(secrets_file, "DIRECTORY", str(tmp_path))
        cable = shaped("transport vxlan v4", "cluster2")
        Path(secrets_file.path(cable)).write_bytes(secrets_file.content(cable, b"a key"))
        assert self.chosen(monkeypatch, "172.18.0.18") == "cluster2"
