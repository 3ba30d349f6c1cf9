"""The file as a JSON Schema: what an editor checks and explains while somebody writes one.

It takes all that the reader takes, as YAML 1.1 has it, where `yes` is true, and as YAML 1.2 has it,
where it is a word: most editors read that. What fields say against each other is not in it.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, get_args, get_origin

from msgspec import NODEFAULT, Struct, json, structs, to_builtins

from cablectl.config.field_texts import WORDS
from cablectl.config.reader import NONE_WORDS, allowed, plain_type, word
from cablectl.config.spec import Spec
from cablectl.model.wishes import AnyAddress, AnyNetwork, Port, PskEnv, PskFile

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
SPELLINGS = {True: (True, "yes", "on"), False: (False, "no", "off")}  # in YAML 1.1


def schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of the file."""
    return {"$schema": DRAFT, "title": "cablectl.yaml", **_struct(Spec, "")}


def as_text() -> str:
    """Return it as it is printed."""
    return json.format(json.encode(schema()), indent=2).decode() + "\n"


def fields(section: Schema, above: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every field of a schema with its path, such as `endpoints[].address`."""
    for name, each in section.get("properties", {}).items():
        path = f"{above}{name}"
        yield path, each
        yield from fields(each.get("items", {}), f"{path}[].")
        for form in (each, *each.get("anyOf", ())):
            yield from fields(form, f"{path}.")


def _struct(kind: type[Any], above: str) -> Schema:
    own = structs.fields(kind)
    return _mapping(
        {each.name: _field(each, f"{above}{each.name}") for each in own},
        [each.name for each in own if each.required],
    )


def _mapping(properties: Schema, required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _field(field: structs.FieldInfo, path: str) -> Schema:
    told = WORDS.get(path) or WORDS.get(f"*.{field.name}", "")
    if not _is_struct(plain_type(field.type)):
        told = f"{told} Allowed: {allowed(field.type)}.".lstrip()
    nothing = NONE_WORDS.get(field.name, ())
    made = _value(field.type, path)
    if nothing:
        made = {"anyOf": [made, _choice(*nothing)]}
    if path == "ipsec.pfs_group":  # Submariner's proposal has a list of one
        made = {"anyOf": [made, {"type": "array", "items": made, "minItems": 1, "maxItems": 1}]}
    return {"description": told, **made, **_default(field.default, nothing)}


def _value(kind: Any, path: str) -> Schema:  # noqa: ANN401
    """Return what a value of that kind may be, besides None."""
    plain = plain_type(kind)
    if plain == PskFile | PskEnv:
        forms = {"file": "^/", "env": "^[A-Za-z_][A-Za-z0-9_]*$"}
        return {
            "oneOf": [
                _mapping({name: {"type": "string", "pattern": pattern}}, [name])
                for name, pattern in forms.items()
            ]
        }
    if plain == AnyAddress:
        return {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
    if plain == AnyNetwork:
        return {"type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9.]+)?$"}
    if plain == Port | str:
        return {"anyOf": [_value(Port, path), {"const": "vxlan"}]}
    if plain is bool:
        return _choice(*SPELLINGS)
    if get_origin(plain) is tuple:
        return {"type": "array", "items": _value(get_args(plain)[0], f"{path}[]"), **_length(kind)}
    if _is_struct(plain):
        return _struct(plain, f"{path}.")
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        return _choice(*map(str, plain), *(each for each in SPELLINGS if word(each, plain) != each))
    return _constrained(kind)


def _choice(*values: Any) -> Schema:  # noqa: ANN401
    """Return one of the values; a boolean stands for every way to write it."""
    written = [other for each in values for other in SPELLINGS.get(each, (each,))]
    return {"enum": list(dict.fromkeys(written))}


def _length(kind: Any) -> Schema:  # noqa: ANN401
    """Return how many items a list has, if its type says so."""
    metas = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    bounds = [
        bound
        for meta in metas
        for bound in (("minItems", meta.min_length), ("maxItems", meta.max_length))
    ]
    return {name: value for name, value in bounds if value is not None}


def _constrained(kind: Any) -> Schema:  # noqa: ANN401
    """Return what msgspec makes of a scalar, without None, its pattern as ECMA-262 has them."""
    made = json.schema(kind)
    form: Schema
    (form,) = (each for each in made.get("anyOf", [made]) if each != {"type": "null"})
    form.pop("description", None)  # the field has one
    if "pattern" in form:
        form["pattern"] = form["pattern"].replace(r"\Z", "$")
    return form


def _default(default: object, nothing: tuple[object, ...]) -> Schema:
    """Return the default as a file writes it; nothing where that is to leave the field out."""
    if default is None:
        default = next(iter(nothing), None)
    if default in (None, NODEFAULT):
        return {}
    written = {"file": default.path} if isinstance(default, PskFile) else to_builtins(default)
    return {"default": written}


def _is_struct(kind: Any) -> bool:  # noqa: ANN401
    return isinstance(kind, type) and issubclass(kind, Struct)
