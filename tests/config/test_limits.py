"""What one document may cost, by what is counted; `make hostile` measures time and memory."""

from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import hostile
from cablectl.config import native, reader
from cablectl.config.contradictions import MAX_CONNECTIONS
from cablectl.config.reader import MAX_DEPTH, MAX_NODES
from cablectl.config.submariner import documents, objects
from cablectl.errors import UsageError
from cablectl.host.files import MAX_FILE
from cablectl.model.wishes import MAX_ENDPOINTS


def refused(text: str) -> UsageError:
    def parse() -> None:
        if "apiVersion" in text:
            documents.parse({"cable.yaml": text})
        else:
            native.parse(text, "cable.yaml")

    with pytest.raises(UsageError) as caught:
        parse()
    return caught.value


def nodes(text: str) -> int:
    return sum(isinstance(event, yaml.NodeEvent) for event in yaml.parse(text, reader._LOADER))


def test_every_document_of_the_benchmark_is_as_large_as_a_file_may_be() -> None:
    sizes = [len(text.encode()) for _, text in hostile.documents()]
    assert max(sizes) == MAX_FILE
    assert len(sizes) > 60


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("name", ["quoted", "numbers"])
def test_the_number_of_values(more: int, name: str) -> None:
    """The mapping, its key and its list are three."""
    item = {"quoted": "''", "numbers": "1"}[name]
    text = f"a: [{','.join([item] * (MAX_NODES - 3 + more))}]\n"
    assert nodes(text) == MAX_NODES + more
    message = refused(text).message
    if more:
        assert message == (
            "cable.yaml:1: too many values; allowed: 100000 keys and values in one file"
        )
    else:
        assert message.startswith("cable.yaml:1: a: unknown field; ")


def test_the_largest_mesh_with_every_field_is_allowed() -> None:
    fields = "public_address: null, preferred_server: false, ike_port: 4500"
    end = f"  - {{cluster: c, hostname: h, address: 1.1.1.1, {fields}, subnets: [10.0.0.0/8]}}\n"
    assert nodes(hostile.VXLAN + end * MAX_ENDPOINTS) < MAX_NODES


def test_no_event_is_read_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of 1 MiB has up to half a million values."""
    read = 0
    parse = yaml.parse

    def counting(*args: object, **options: object) -> Iterator[yaml.Event]:
        nonlocal read
        for event in parse(*args, **options):  # type: ignore[arg-type]
            read += 1
            yield event

    monkeypatch.setattr(yaml, "parse", counting)
    assert "too many values" in refused(f"a: [{'a,' * 500_000}]\n").message
    assert read < MAX_NODES + 10


def test_a_file_is_read_once_however_many_configmaps_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lines above a block aren't read with it."""
    read: list[int] = []
    parse = reader.documents

    def counting(text: str, *args: object, **options: object) -> object:
        read.append(len(text))
        return parse(text, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(objects, "documents", counting)
    text = hostile.GATEWAYS + (hostile.BLOCK + "    ceIPSecMode: tunnel\n") * 500 + "#\n" * 10_000
    documents.parse({"cable.yaml": text})
    assert len(read) == 501
    assert sum(read) < 2 * len(text)


@pytest.mark.parametrize(
    ("ends", "subnets", "connections"), [(2, 100, 10_000), (60, 100, 590_000), (5, 51, 10_404)]
)
def test_the_number_of_connections(ends: int, subnets: int, connections: int) -> None:
    """One for each pair of subnets of a gateway and of its peers."""
    text = hostile.mesh(hostile.TUNNEL, ends, subnets)
    if connections <= MAX_CONNECTIONS:
        network = native.parse(text, "cable.yaml")
        cables = network.cables(network.endpoints[0])
        assert sum(len(cable.connections) for cable in cables) == connections
        return
    assert refused(text).message == (
        f"cable.yaml:3: endpoints[0].subnets: {connections} connections, one for each pair of a"
        " subnet here and a subnet elsewhere; allowed: at most 10000; give fewer, larger subnets,"
        " or write mode: transport with overlay: vxlan"
    )
    native.parse(hostile.mesh(hostile.VXLAN, ends, subnets), "cable.yaml")


def test_the_connections_of_the_gateway_that_has_most() -> None:
    """A hub has 100 subnets, and each of 101 others has one."""
    hub = hostile.END.format(200, hostile.address(200), hostile.subnets(200, 100))
    text = hostile.mesh(hostile.TUNNEL, 101, 1) + hub
    assert refused(text).message.startswith(
        "cable.yaml:104: endpoints[101].subnets: 10100 connections, "
    )
    own_address = hub.replace("10.200.0.0/24", f"{hostile.address(200)}/32")
    native.parse(hostile.mesh(hostile.TUNNEL, 101, 1) + own_address, "cable.yaml")


PIECES = [
    "a: ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "  ",
    "'",
    '"',
    "|\n",
    "&a ",
    "*a",
    "!x ",
    "? ",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8), st.booleans())
def test_no_text_that_repeats_itself_says_much(pieces: list[str], of_submariner: bool) -> None:
    text = "apiVersion: v1\n" * of_submariner + "".join(pieces) * 2000
    error = refused(text)
    assert len(error.details) <= native.MAX_PROBLEMS
    assert all(len(line) < 400 for line in (error.message, *error.details))


def test_nesting() -> None:
    for open_, close in (("[", "]"), ("{a: ", "}")):
        deepest = "a: " + open_ * (MAX_DEPTH - 1) + close * (MAX_DEPTH - 1)
        assert "unknown field" in refused(deepest).message
        deeper = "a: " + open_ * MAX_DEPTH + close * MAX_DEPTH
        assert refused(deeper).message == "cable.yaml:1: nested too deep; allowed: 24 levels"
