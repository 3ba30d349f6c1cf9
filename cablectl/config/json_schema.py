"""The JSON Schema of the file, with which an editor checks and explains the fields.

The schema accepts every value that the reader accepts, in YAML 1.1 (where `yes` is true) and in
YAML 1.2 (where `yes` is a word, as most editors read it). It doesn't contain rules between fields.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, get_args, get_origin

from msgspec import NODEFAULT, Struct, json, structs, to_builtins

from cablectl.config.field_texts import WORDS
from cablectl.config.reader import NONE_WORDS
from cablectl.config.spec import Spec
from cablectl.config.values import allowed, plain_type, word
from cablectl.model.psk import Ppk, Psk, PskFile
from cablectl.model.wishes import (
    AnyAddress,
    AnyNetwork,
    Clamp,
    Mss,
    MssBytes,
    Port,
)

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
SPELLINGS = {True: (True, "yes", "on"), False: (False, "no", "off")}  # in YAML 1.1


def schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of the file."""
    return {"$schema": DRAFT, "title": "cablectl.yaml", **_struct(Spec, "")}


def as_text() -> str:
    """Return the schema as JSON text."""
    return json.format(json.encode(schema()), indent=2).decode() + "\n"


def fields(section: Schema, above: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every field of a schema with its path, such as `endpoints[].address`."""
    for name, part in section.get("properties", {}).items():
        path = f"{above}{name}"
        yield path, part
        yield from fields(part.get("items", {}), f"{path}[].")
        for form in (part, *part.get("anyOf", ())):
            yield from fields(form, f"{path}.")


def _struct(kind: type[Any], above: str) -> Schema:
    infos = structs.fields(kind)
    return _mapping(
        {info.name: _field(info, f"{above}{info.name}") for info in infos},
        [info.name for info in infos if info.required],
    )


def _mapping(properties: Schema, required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _field(field: structs.FieldInfo, path: str) -> Schema:
    description = WORDS.get(path) or WORDS.get(f"*.{field.name}", "")
    if not _is_struct(plain_type(field.type)):
        description = f"{description} Allowed: {allowed(field.type)}.".lstrip()
    none_words = NONE_WORDS.get(field.name, ())
    value = _value(field.type, path)
    if none_words:
        value = {"anyOf": [value, _choice(*none_words)]}
    if path == "ipsec.pfs_group":  # Submariner's proposal has a list of one
        one_item = {"type": "array", "items": value, "minItems": 1, "maxItems": 1}
        value = {"anyOf": [value, one_item]}
    return {"description": description, **value, **_default(field.default, none_words)}


def _value(kind: Any, path: str) -> Schema:  # noqa: ANN401
    """Return the schema of a value of that kind, without None."""
    plain = plain_type(kind)
    if plain in (Psk, Ppk):
        forms = {"file": "^/", "env": "^[A-Za-z_][A-Za-z0-9_]*$", "directory": "^/"}
        if plain == Ppk:
            del forms["env"]
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
    if plain == Mss:
        return {"anyOf": [_value(MssBytes, path), _value(Clamp, path)]}
    if plain is bool:
        return _choice(*SPELLINGS)
    if get_origin(plain) is tuple:
        return {"type": "array", "items": _value(get_args(plain)[0], f"{path}[]"), **_length(kind)}
    if _is_struct(plain):
        return _struct(plain, f"{path}.")
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        booleans = (boolean for boolean in SPELLINGS if word(boolean, plain) != boolean)
        return _choice(*map(str, plain), *booleans)
    return _constrained(kind)


def _choice(*values: Any) -> Schema:  # noqa: ANN401
    """Return the schema of one of the values; a boolean stands for all of its spellings."""
    spellings = [spelling for value in values for spelling in SPELLINGS.get(value, (value,))]
    return {"enum": list(dict.fromkeys(spellings))}


def _length(kind: Any) -> Schema:  # noqa: ANN401
    """Return the limits of a list's length, if its type sets any."""
    metas = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    bounds = [
        bound
        for meta in metas
        for bound in (("minItems", meta.min_length), ("maxItems", meta.max_length))
    ]
    return {name: value for name, value in bounds if value is not None}


def _constrained(kind: Any) -> Schema:  # noqa: ANN401
    """Return msgspec's schema of a scalar, without None, its pattern in the syntax of ECMA-262."""
    made = json.schema(kind)
    form: Schema
    (form,) = (part for part in made.get("anyOf", [made]) if part != {"type": "null"})
    form.pop("description", None)  # the field has its own
    if "pattern" in form:
        form["pattern"] = form["pattern"].replace(r"\Z", "$")
    return form


def _default(default: object, none_words: tuple[object, ...]) -> Schema:
    """Return the default as a file writes it; empty if the field has to be left out for it."""
    if default is None:
        default = next(iter(none_words), None)
    if default in (None, NODEFAULT, ""):
        return {}
    written = {"file": default.path} if isinstance(default, PskFile) else to_builtins(default)
    return {"default": written}


def _is_struct(kind: Any) -> bool:  # noqa: ANN401
    return isinstance(kind, type) and issubclass(kind, Struct)
