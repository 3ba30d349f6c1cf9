"""The JSON Schema takes what the reader takes, and refuses what is wrong by its shape."""

import json
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cablectl.config import json_schema
from cablectl.config.field_texts import WORDS
from cablectl.config.reader import Reader, documents
from cablectl.config.spec import Spec
from cablectl.errors import UsageError
from tests.support.documents import SHAPES, document
from tests.support.places import CASES, EXAMPLES, PROGRAM, ROOT

FILE = ROOT / "docs" / "cablectl.schema.json"
OURS = [each for each in EXAMPLES.rglob("*.yaml") if "\nversion: 1\n" in each.read_text()]
FILES = sorted((CASES / "file").glob("*.yaml"))
VALIDATOR = Draft202012Validator(
    json.loads(FILE.read_text()), format_checker=Draft202012Validator.FORMAT_CHECKER
)
# By shape alone they are right: an address of no host, a network with bits of a host, a key again,
# a variable of the shell, networks of no cluster.
RIGHT_BY_SHAPE = {
    "keys_in_a_directory_with_a_line_break",
    *("no_host_address", "wrong_link_local", "subnet_with_host_bits", "given_twice"),
    *("psk_in_a_variable_of_the_shell", "special_networks"),
}
# The reader tells how many are too many when it compares them.
WRONG_IN_NUMBER = {"no_endpoints", "three_endpoints"}


class Yaml12(yaml.SafeLoader):
    """Reads yes, no, on and off as words, as most editors do."""


Yaml12.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in each if not tag.endswith(":bool")]
    for first, each in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Yaml12.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))


def taken(text: str) -> bool:
    """Tell whether the schema takes a text, which it then does however its YAML is read."""
    read = [yaml.load(text, loader) for loader in (yaml.SafeLoader, Yaml12)]  # noqa: S506
    first, second = (VALIDATOR.is_valid(each) for each in read)
    assert second or not first
    return first


def looked_at(text: str) -> tuple[bool, bool]:
    """Tell whether the schema and the reader take a text's shape; UsageError if it has none."""
    (read,), twice = documents(text, "cable.yaml")
    reader = Reader(read)
    reader.struct(Spec, read.value, ())
    return VALIDATOR.is_valid(read.value), not (twice or reader.problems)


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(json.loads(FILE.read_text()))


def test_the_command_prints_it() -> None:
    done = subprocess.run([PROGRAM, "schema"], capture_output=True, text=True, check=True)
    assert done.stdout == FILE.read_text()
    assert done.stderr == ""


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_every_example_names_it_and_is_taken(path: Path) -> None:
    text = path.read_text()
    first, *_ = text.splitlines()
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found
    assert (path.parent / found[1]).resolve() == FILE
    assert taken(text)


def test_there_are_examples() -> None:
    assert {"quickstart", "proposal", "by-hand"} <= {each.stem for each in OURS}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_taken(shape: str) -> None:
    assert taken(document(shape))


SPELLINGS = [
    "allow_cleartext: {}",
    "guard: {}",
    "ipsec: {{encapsulation: {}}}",
    "health: {}",
    "health: {{interval: {}}}",
    "ipsec: {{esn: {}}}",
    "ipsec: {{offload: {}}}",
    "ipsec: {{dpd: {}}}",
    "ipsec: {{dpd: {{delay: 5, action: {}}}}}",
    "ipsec: {{psk: {}}}",
    "ipsec: {{pfs_group: {}}}",
    "ipsec: {{ike_port: {}}}",
    "ipsec: {{ike: {}}}",
    "ipsec: {{ike: [{}]}}",
    "ipsec: {{replay_window: {}}}",
    "ipsec: {{ike_lifetime: {}}}",
    "ipsec: {{max_bytes: {}}}",
    "ipsec: {}",
    "vxlan: {{mtu: {}}}",
    "vxlan: {{port: {}}}",
    "vtep: {{network: {}}}",
]
VALUES = [
    *("yes", "no", "on", "off", "true", "false", "auto", "null", "required", "hold", "vxlan"),
    *(
        "4500",
        "70000",
        "1300",
        "1048576",
        "x",
        "aes256-sha2;dh19",
        "aes;dh19;dh20",
        "-x",
        "modp2048",
        "[modp2048]",
        "[modp2048, dh19]",
        "[]",
        "{}",
    ),
    *("{file: /etc/psk}", "{file: psk}", "{env: PSK}", "{env: 1PSK}", "{file: /a, env: A}"),
    *("10.0.0.0/8", "fd00::/64", "10.0.0.0/255.0.0.0"),
]


@pytest.mark.parametrize("field", SPELLINGS)
def test_each_spelling_is_taken_by_both_or_by_neither(field: str) -> None:
    for value in VALUES:
        text = document("transport vxlan v4") + field.format(value)
        assert (taken(text),) * 2 == looked_at(text), value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_wrong_by_its_shape_is_refused(path: Path) -> None:
    try:
        schema, reader = looked_at(path.read_text())
    except UsageError:
        return  # no document that a schema could look at
    if path.stem in RIGHT_BY_SHAPE:
        assert (schema, reader) == (True, False)
    elif path.stem in WRONG_IN_NUMBER:
        assert (schema, reader) == (False, True)
    else:
        assert schema == reader


def test_most_cases_that_are_wrong_by_their_shape_are_looked_at() -> None:
    refused = 0
    for path in FILES:
        with suppress(UsageError):
            refused += not looked_at(path.read_text())[0]
    assert refused >= 15


PLACES = [
    path
    for path, _ in json_schema.fields(json_schema.schema())
    if path not in ("ipsec.dpd", "endpoints")  # where 0 is off, and how many are counted later
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@given(st.sampled_from(PLACES), JSON)
def test_whatever_the_reader_takes_is_taken(place: str, value: object) -> None:
    whole = yaml.safe_load(document("transport vxlan v4"))
    at, names = whole, place.replace("[]", ".0").split(".")
    for name in names[:-1]:
        at = at[int(name)] if name == "0" else at.setdefault(name, {})
    at[names[-1]] = value
    text = yaml.safe_dump(whole)
    schema, reader = looked_at(text)
    assert schema or not reader


def test_every_field_has_words_and_there_are_no_others() -> None:
    fields = [path for path, _ in json_schema.fields(json_schema.schema())]
    found = {path: path if path in WORDS else f"*.{path.rpartition('.')[2]}" for path in fields}
    missing = [path for path, key in found.items() if key not in WORDS]
    assert not missing, "say in cablectl/config/field_texts.py what it is, and run `make docs`"
    assert set(found.values()) == set(WORDS)


def test_every_field_is_in_the_table_of_the_docs() -> None:
    table = (ROOT / "docs" / "file.md").read_text()
    fields = list(json_schema.fields(json_schema.schema()))
    assert len(fields) > 40
    for path, _ in fields:
        section, _, name = path.rpartition(".")
        rows = [f"`{path}`", f"`{path}.", *([f"`….{name}`", f"| `{section}` "] if section else [])]
        assert any(each in table for each in rows), f"docs/file.md has no line for {path}"
