"""Strict decoding of documents, with the field's path and a suggestion for a misspelt one.

In: bytes or JSON values from outside. Out: frozen values, or InvalidInputError that names the field
and, where a name is unknown or a choice is not offered, says which one was probably meant.
"""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar, dataclass_transform

import msgspec
from msgspec import inspect

from sconto.base.canonical import (
    DIGITS_AS_ZERO,
    JSON_DEPTH_MAX,
    JSON_VALUES_MAX,
    PLAIN_DECODER,
    parse_json,
)
from sconto.base.errors import InvalidInputError

T = TypeVar("T")

#: What a document is bounded by where its kind states no other bound.
DOCUMENT_BYTES_MAX = 2**20

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<key>key in )?\$?(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+|\.\.\.)\]")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Document(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    # A document is a tree: nothing in it refers back, so the collector need not walk millions.
    gc=False,
):
    """A value that is written down: immutable, strict, fields by name, defaults left out."""


def decode(
    body: bytes,
    kind: type[T],
    *,
    max_bytes: int = DOCUMENT_BYTES_MAX,
    what: str = "body",
    usual: type[T] | None = None,
) -> T:
    """The document in `body`; InvalidInputError for everything that is not exactly one.

    `usual` is the part of `kind` that most bodies are, where only that can be decoded quickly.
    """
    if len(body) <= max_bytes:
        found = decode_quickly(body, usual or kind)
        if found is not None:
            return found
    return from_builtins(parse_json(body, max_bytes=max_bytes, what=what), kind, what=what)


def decode_quickly(body: bytes, kind: type[T]) -> T | None:
    """What `decode` gives, in half the time; None: not found out here, ask the strict parser.

    1. The body, read and written again, is the same but for white space: so no key stands twice,
       and every text and number is spelt in the usual way, without a NUL or lone surrogate.
    2. No number has 16 digits, none is a float: all are within 2^53.
    3. No document of this kind is deeper than `JSON_DEPTH_MAX`, or this one has few brackets.
    """
    asked: Any = kind
    decoder, is_deep = _quick_decoder(asked)
    if (
        decoder is None
        or (is_deep and body.count(b"{") + body.count(b"[") > JSON_DEPTH_MAX)
        or b"\\u" in body
        or has_long_number(body)
        or body.count(b",") > JSON_VALUES_MAX
    ):
        return None
    try:
        again = _ENCODER.encode(PLAIN_DECODER.decode(body))
        if again != body and again.translate(None, _SPACES) != body.translate(None, _SPACES):
            return None
        found: T = decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found


def has_long_number(body: bytes) -> bool:
    """Whether some run of digits is sixteen long or more; all shorter numbers are within 2^53."""
    return _SIXTEEN_DIGITS in body.translate(DIGITS_AS_ZERO)


_ENCODER = msgspec.json.Encoder()
_SPACES = b" \t\r\n"
_SIXTEEN_DIGITS = b"0" * 16


@cache
def _quick_decoder(kind: Any) -> "tuple[msgspec.json.Decoder[Any] | None, bool]":
    """A decoder of a kind that can be read quickly: without floats or `Any`; None for others.

    And whether a document of the kind may be too deep.
    """
    depth = _depth(_type_info(kind), ())
    if depth is None:
        return None, False
    return msgspec.json.Decoder(kind), depth > JSON_DEPTH_MAX


#: The depth of a kind that may stand in itself.
_ENDLESS = 10**6


#: Kinds of scalars that JSON and `convert` read alike.
_SCALARS = (
    inspect.IntType,
    inspect.StrType,
    inspect.BoolType,
    inspect.NoneType,
    inspect.LiteralType,
    inspect.EnumType,
    inspect.DateTimeType,
)


def _depth(found: inspect.Type, outer: tuple[Any, ...]) -> int | None:
    """How many arrays and objects of this type stand in each other at most; None: not readable."""
    inner: Sequence[inspect.Type]
    if isinstance(found, _SCALARS):
        return 0
    if isinstance(found, inspect.Metadata):
        return _depth(found.type, outer)
    if isinstance(found, inspect.UnionType):
        depths = [_depth(one, outer) for one in found.types]
        return None if None in depths else max(depth or 0 for depth in depths)
    if isinstance(found, inspect.StructType):
        if found.cls in outer:
            return _ENDLESS
        outer = (*outer, found.cls)
        inner = [one.type for one in found.fields]
    elif isinstance(found, inspect.CollectionType):
        inner = [found.item_type]
    elif isinstance(found, inspect.TupleType):
        inner = found.item_types
    elif isinstance(found, inspect.DictType) and isinstance(
        _without_metadata(found.key_type), inspect.StrType
    ):
        inner = [found.value_type]
    else:
        return None
    depths = [_depth(one, outer) for one in inner]
    return None if None in depths else 1 + max((depth or 0 for depth in depths), default=0)


def _without_metadata(found: inspect.Type) -> inspect.Type:
    return found.type if isinstance(found, inspect.Metadata) else found


def from_builtins(value: Any, kind: type[T], *, what: str = "body", field: str = "") -> T:
    """The document in a JSON value that was parsed strictly; `field` is where the value stood."""
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        raise _explained(str(error), value, kind, what, field) from None


def to_builtins(document: Any) -> Any:
    """JSON value of a document: sets are sorted by code point, defaults are left out."""
    return msgspec.to_builtins(document, order="deterministic")


def _explained(message: str, value: Any, kind: Any, what: str, field: str) -> InvalidInputError:
    found = _AT.match(message)
    said, path = (found["what"], found["path"] or "") if found else (message, "")
    remedy = None
    if unknown := re.search(r"unknown field `([^`]*)`", said):
        names = _field_names(value, kind, path)
        said = f"{what} has no field {unknown[1]!r} here"
        remedy = _suggestion(unknown[1], names)
        path = f"{path}.{unknown[1]}"
    elif missing := re.search(r"missing required field `([^`]*)`", said):
        said = f"{what} lacks the required field {missing[1]!r}"
        path = f"{path}.{missing[1]}"
    elif choice := re.match(r"Invalid (?:enum )?value '([^']*)'", said):
        names = _choices(value, kind, path)
        said = f"{what} has the value {choice[1]!r} where it is not one of the choices"
        remedy = _suggestion(choice[1], names)
    else:
        said = f"{what}: {said[:1].lower()}{said[1:]}"
    path = path.lstrip(".")
    if field and path:
        path = f"{field}{path}" if path.startswith("[") else f"{field}.{path}"
    return InvalidInputError(said, field=path or field or None, remedy=remedy)


def _suggestion(word: str, names: list[str]) -> str | None:
    if not names:
        return None
    near = get_close_matches(word, names, n=1)
    near = near or [name for name in names if name.startswith(word) or word.startswith(name)][:1]
    if near:
        return f"did you mean {near[0]!r}?"
    return f"use one of: {', '.join(names)}"


def _field_names(value: Any, kind: Any, path: str) -> list[str]:
    """Names that the object at `path` may have."""
    structs = [t for t in _types_at(value, kind, path) if isinstance(t, inspect.StructType)]
    return sorted({f.encode_name for t in structs for f in t.fields} | _tag_fields(structs))


def _choices(value: Any, kind: Any, path: str) -> list[str]:
    """Values that the text at `path` may have: of a literal, or the tags of a union."""
    names: set[str] = set()
    for found in _types_at(value, kind, path):
        if isinstance(found, inspect.LiteralType):
            names.update(str(v) for v in found.values)
        elif isinstance(found, inspect.EnumType):
            names.update(str(member.value) for member in found.cls)
    parent, _, last = path.rpartition(".")
    for found in _types_at(value, kind, parent, any_tag=True):
        if isinstance(found, inspect.StructType) and found.tag_field == last:
            names.add(str(found.tag))
    return sorted(names)


def _tag_fields(structs: list[inspect.StructType]) -> set[str]:
    return {t.tag_field for t in structs if t.tag_field}


@cache
def _type_info(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _types_at(value: Any, kind: Any, path: str, *, any_tag: bool = False) -> list[inspect.Type]:
    """The types that could stand at a path, led by the tags that the value itself has."""
    steps = list(_STEP.finditer(path))
    types = _alternatives(_type_info(kind), value, any_tag and not steps)
    for number, step in enumerate(steps):
        last = any_tag and number == len(steps) - 1
        inner: Any = None
        if step["name"] and isinstance(value, dict):
            inner = value.get(step["name"])
        elif step["index"] not in (None, "...") and isinstance(value, list):
            inner = value[int(step["index"])]
        below = [t for outer in types for t in _below(outer, step["name"], step["index"])]
        types = [t for found in below for t in _alternatives(found, inner, last)]
        value = inner
    return types


def _below(outer: inspect.Type, name: str | None, index: str | None) -> list[inspect.Type]:
    if isinstance(outer, inspect.StructType) and name:
        return [f.type for f in outer.fields if f.encode_name == name]
    if isinstance(outer, inspect.CollectionType) and index:
        return [outer.item_type]
    if isinstance(outer, inspect.TupleType) and index and index.isdigit():
        return list(outer.item_types[int(index) : int(index) + 1])
    if isinstance(outer, inspect.DictType):
        return [outer.value_type]
    return []


def _alternatives(found: inspect.Type, value: Any, any_tag: bool) -> list[inspect.Type]:
    """Members of a union; of tagged ones only the one that the value names."""
    if isinstance(found, inspect.Metadata):
        return _alternatives(found.type, value, any_tag)
    members = list(found.types) if isinstance(found, inspect.UnionType) else [found]
    if any_tag or not isinstance(value, dict):
        return members
    return [
        t
        for t in members
        if not isinstance(t, inspect.StructType)
        or t.tag_field is None
        or value.get(t.tag_field) == t.tag
    ]
