"""10,000 documents, most of them hostile: none makes a traceback, a line of its own or an option.

They are made by changing good ones, in values and in text: that is cheap, and they are the same
every time. What parses is planned for both ends and each dialect.
"""

import copy
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from itertools import chain
from pathlib import PurePath
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cablectl.config import native
from cablectl.config.submariner import documents
from cablectl.errors import CablectlError, UsageError
from cablectl.facts.host_facts import Facts, connected
from cablectl.host import files
from cablectl.libreswan.dialects import DIALECTS
from cablectl.model.network import Network
from cablectl.model.psk import PskFile
from cablectl.model.wishes import OVERLAYS
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Action, Phase, Plan
from cablectl.render import draft, plans
from tests.support.documents import MESHES, SHAPES, document
from tests.support.hostile import ANYWHERE, BLOCKS, FIELDS, GOOD, KINDS, PIECES, Path, values
from tests.support.places import EXAMPLES

# Not traced: coverage takes more processor time for them than for all other tests of config.
pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

RELEASES = tuple(row.since for row in DIALECTS)
# Every word of a plan that may begin with a hyphen: the options of sh, rm, ip, modprobe and whack.
OPTIONS = frozenset(
    "-6 -c -f --asynchronous --client --clientprotoport --delete --dpdaction --dpddelay"
    " --dpdtimeout --encaps --encrypt --esn --esp --forceencaps --host --id --ikeport"
    " --ike --ikelifetime --ipsec-lifetime --ipsec-max-bytes --ipseclifetime --replay-window"
    " --initiate --ipv6 --listen --name --nic-offload --no-esn --pfs --psk --rereadsecrets"
    " --route --terminate --to --transport --tunnel --unroute --updown --all".split()
)
# What other words are made of, but for shell programs and the path of a key.
PLAIN = re.compile(r"[A-Za-z0-9@/:;,._ +-]+|%any|%disabled")
# nft's words are a program: rules of these forms, in the cable's own tables alone.
RULES = re.compile(
    r"delete table inet cablectl[_-][\w.-]+"
    r"|table (inet cablectl[_-][\w.-]+); delete table \1; table \1 \{"
    r"(?: set [a-z]+ \{ type ipv[46]_addr;(?: flags interval;)? elements = \{ [\w.:/, ]+ \}; \};)*"
    r"(?: chain [a-z]+ \{(?: type filter hook [a-z]+ priority -?\d+;)?"
    r'(?: [\w @:/.,{}!=&|"-]+ comment "cablectl [\da-f]{8} [a-z]+";)+ \};)+ \}'
)
DRAWN = st.text(max_size=9) | st.integers() | st.floats() | st.just(...)  # which takes away

DOCUMENTS = [yaml.safe_load(document(shape)) for shape in (*SHAPES, *MESHES)]
OBJECTS: dict[str, Any] = {
    name: list(yaml.safe_load_all((EXAMPLES / "submariner" / f"{name}.yaml").read_text()))
    for name in ("configmap", "endpoints", "submariner", "fleet")
}
TEXTS = [
    document("tunnel v4 server").encode(),
    (EXAMPLES / "quickstart.yaml").read_bytes(),
    *((EXAMPLES / "submariner" / f"{name}.yaml").read_bytes() for name in OBJECTS),
]
FIRST = ("configmap", "endpoints", "submariner")  # what goes together
OBJECTS["submariner"][0]["spec"] |= {
    "cableDriverCustomConfig": {"configMapName": "cabledriver-config"}
}


def examples(number: int) -> settings:
    return settings(
        max_examples=number,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def places(value: object, path: Path = ()) -> Iterator[Path]:
    """Yield where something can stand instead of what is there."""
    inside: Any = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    for name, each in inside:
        yield (*path, name)
        yield from places(each, (*path, name))


def put(document: Any, path: Path, value: object) -> None:  # noqa: ANN401
    """Change a document in one place, unless an earlier change took the place away."""
    target, last = document, path[-1]
    try:
        for step in path[:-1]:
            target = target.setdefault(step, {}) if isinstance(target, dict) else target[step]
        if value is ...:
            del target[last]
        else:
            target[last] = copy.deepcopy(value)
    except (TypeError, LookupError):
        return


def as_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # which is YAML


def outcome(parse: Callable[[], Network]) -> str:
    """Parse, plan and compare; say how far it came."""
    try:
        network = parse()
    except UsageError as error:
        assert_shown(error)
        return "refused"
    assert_planned(network)
    return "planned"


def imported(text: str) -> Network:
    """Return what documents of Submariner describe, which the file made from them does as well."""
    found = documents.parse({"a.yaml": text}, "/etc/cablectl/psk")
    assert all(each.isprintable() for each in (*found.notes, found.key))
    assert native.parse(draft.as_file(found.value, ["a.yaml"]), "cable.yaml") == found.network
    return found.network


def assert_shown(error: CablectlError) -> None:
    """See that each line of an error is one line, and nothing that a terminal obeys."""
    for line in (error.message, error.hint, *error.details):
        assert line.isprintable()


@cache  # many a change is of something that isn't used, and planning is pure
def assert_planned(network: Network) -> None:
    """See what both ends plan on each release; what a release or a path can't do has no plan."""
    for end in network.endpoints:
        cables = network.cables(end)
        for release in RELEASES:
            facts = Facts(libreswan=release)
            try:
                assert_exact(connect_plan.plan(cables, (facts,) * len(cables)))
            except CablectlError as error:
                assert_shown(error)
            made = tuple(connected(cable, facts, 1300) for cable in cables)
            assert_exact(teardown_plan.plan(cables, made))


def assert_exact(plan: Plan) -> None:
    """See that the script's lines are the argvs, and that none of their options is a value."""
    script = plans.as_script(plan)
    assert script.replace("\n", "").isprintable()
    beginning, _, commands = script.partition("\n\n")
    assert plan.action is Action.TEARDOWN or "\nset -eu " in beginning
    lines = [words for words in map(split, commands.split("\n")) if words]
    at = {(f"at={phase.label}",) for phase in Phase}
    assert [words for words in lines if words not in at] == [step.argv for step in plan.needed]
    psk = plan.cables[0].ipsec.psk
    path = psk.path if isinstance(psk, PskFile) else ""
    for argv in chain.from_iterable((step.argv, *step.undo) for step in plan.steps):
        program = {"sh": argv[2:3], "nft": argv[1:]}.get(argv[0], ())
        assert argv[0] != "nft" or RULES.fullmatch(" ".join(program))
        for word in argv:
            assert word in OPTIONS or not word.startswith("-")
            assert PLAIN.fullmatch(word) or word in (*program, path, str(PurePath(path).parent))


@cache
def split(line: str) -> tuple[str, ...]:
    return tuple(shlex.split(line, comments=True))


HOSTILE = [(path, value) for path in FIELDS for value in values(path)]


def changed(good: object, changes: list[tuple[Path, object]]) -> str:
    """Return a document with changes, as text."""
    document = copy.deepcopy(good)
    for path, value in changes:
        put(document, path, value)
    return as_text(document)


def test_each_hostile_value_in_each_field() -> None:
    """Each alone, in a file that uses the field."""
    seen: Counter[str] = Counter()
    shapes = {kind.value: [f"transport {kind} v6"] for kind in OVERLAYS if kind != "vxlan"}
    for path, value in HOSTILE:
        for shape in shapes.get(str(path[0]), ["transport vxlan v4", "tunnel v6 server"]):
            text = changed(DOCUMENTS[SHAPES.index(shape)], [(path, value)])
            seen[outcome(partial(native.parse, text, "cable.yaml"))] += 1
    assert seen["planned"] > 100


def test_files_with_changed_values() -> None:
    seen: Counter[str] = Counter()
    allowed = [(path, value) for path in FIELDS for value in GOOD.get(path[-1], ())]
    drawn = st.tuples(st.sampled_from(FIELDS), DRAWN)

    @examples(1500)
    @given(
        st.sampled_from(DOCUMENTS),
        st.lists(st.sampled_from(allowed), max_size=2),
        st.lists(st.sampled_from(HOSTILE) | drawn, max_size=1),
    )
    def check(good: object, some: list[Any], more: list[Any]) -> None:
        text = changed(good, some + more)
        seen[outcome(lambda: native.parse(text, "cable.yaml"))] += 1

    check()
    assert seen.total() == 1500
    assert min(seen["planned"], seen["refused"]) > 150


PLACES = [(name, path) for name, found in OBJECTS.items() for path in places(found)]


def changed_objects(names: Iterable[str], changes: list[tuple[tuple[str, Path], object]]) -> str:
    """Return Submariner's documents with changes, as text."""
    given = {name: copy.deepcopy(OBJECTS[name]) for name in names}
    for (name, path), value in changes:
        put(given.get(name), path, value)
    return "\n---\n".join(map(as_text, chain.from_iterable(given.values())))


def test_each_kind_of_value_in_each_place_of_submariners_documents() -> None:
    seen: Counter[str] = Counter()
    for place in PLACES:
        for value in KINDS:
            text = changed_objects(FIRST if place[0] in FIRST else ["fleet"], [(place, value)])
            seen[outcome(partial(imported, text))] += 1
    assert min(seen["planned"], seen["refused"]) > 100


def test_submariners_documents_with_changed_values() -> None:
    seen: Counter[str] = Counter()
    hostile = [(place, value) for place in PLACES for value in (*ANYWHERE, *BLOCKS[::7])]

    @examples(2000)
    @given(
        st.sampled_from(
            [("configmap", "endpoints"), ("submariner", "endpoints"), ("fleet",), FIRST]
        ),
        st.lists(st.sampled_from(hostile) | st.tuples(st.sampled_from(PLACES), DRAWN), max_size=2),
    )
    def check(names: tuple[str, ...], changes: list[tuple[tuple[str, Path], object]]) -> None:
        seen[outcome(partial(imported, changed_objects(names, changes)))] += 1

    check()
    assert seen.total() == 2000
    assert min(seen["planned"], seen["refused"]) > 250


def test_changed_texts() -> None:
    seen: Counter[str] = Counter()
    words = [re.split(rb"(\s+|[\[\],:])", text) for text in TEXTS]
    pieces = st.sampled_from(PIECES).map(str.encode) | st.binary(max_size=3)

    @examples(4000)
    @given(
        st.sampled_from(words),
        st.lists(st.tuples(st.integers(0, 150), pieces, st.booleans()), max_size=2),
    )
    def check(text: list[bytes], changes: list[tuple[int, bytes, bool]]) -> None:
        given = text.copy()
        for place, piece, before in changes:
            place %= len(text)
            given[place] = piece + given[place] if before else piece
        seen[outcome(lambda: described(b"".join(given)))] += 1

    def described(content: bytes) -> Network:
        text = files._text(content, "cable.yaml")
        return imported(text) if "apiVersion" in text else native.parse(text, "cable.yaml")

    check()
    assert seen.total() == 4000
    assert min(seen["planned"], seen["refused"]) > 100
