"""All that is wrong with a value, where msgspec tells of the first thing alone."""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
import reprlib
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from flexhost.errors import meant

# How far down is looked; below that msgspec's own word is taken.
_DEEPEST = 50
# Parts of one list or object that are tried by themselves.
_MOST_PARTS = 1000

Fault = msgspec.ValidationError


def convert(value: Any, kind: Any) -> Any:
    """Raises Fault, which tells of the first thing that is wrong."""
    return msgspec.convert(value, kind, str_keys=True)


class Field(NamedTuple):
    """Of an object: its name on the wire and its type."""

    name: str
    kind: Any
    required: bool


def fields_of(kind: Any) -> tuple[Field, ...] | None:
    """Of a Struct or a dataclass; None for any other type."""
    cls = get_origin(kind) or kind
    of_ours = isinstance(cls, type) and (
        issubclass(cls, msgspec.Struct) or dataclasses.is_dataclass(cls)
    )
    return _fields_of(kind, cls) if of_ours else None


@functools.lru_cache(maxsize=512)
def _fields_of(kind: Any, cls: type[Any]) -> tuple[Field, ...] | None:
    if issubclass(cls, msgspec.Struct):
        if cls.__struct_config__.array_like:
            return None
        fields = msgspec.structs.fields(kind)
        return tuple(Field(one.encode_name, one.type, one.required) for one in fields)
    hints, nothing = get_type_hints(cls, include_extras=True), dataclasses.MISSING
    return tuple(
        Field(one.name, hints[one.name], one.default is one.default_factory is nothing)
        for one in dataclasses.fields(cls)
    )


def with_ints(kind: Any, value: Any, depth: int = 0) -> Any:
    """The value with an int for each integral float where an int is meant and a float is not: JSON
    has one type of number."""
    if isinstance(value, float):
        small = value.is_integer() and abs(value) < 1 << 63
        return int(value) if small and _means_int(kind) else value
    if depth < _DEEPEST and isinstance(value, (dict, list)):
        inner = {key: with_ints(of, part, depth + 1) for key, of, part in _parts(kind, value)}
        if isinstance(value, dict):
            return {**value, **inner}
        return [inner.get(i, part) for i, part in enumerate(value)]
    return value


def problems(kind: Any, value: Any, path: str = "", depth: int = 0) -> Iterator[str]:
    """Each with the path of its field, the value that came and what is expected there.

    Raises what the author's own `__post_init__` raises, ValueError and TypeError aside.
    """
    try:
        convert(value, kind)
        return
    except Fault as error:
        said = error
    inner = _inner(kind, value, path, depth) if depth < _DEEPEST else iter(())
    first = next(inner, None)
    if first is None:
        yield _told(kind, value, path, said)
    else:
        yield first
        yield from inner


def unknown(name: object, known: Iterable[str]) -> str:
    """What a caller is told of a field that there is not."""
    return f"there is no parameter {shown(name)}, {meant(name, known)}"


def shown(value: object) -> str:
    """A value in an error, of a bounded length."""
    try:
        return _SHORT.repr(value)
    except Exception:  # an int of more digits than Python writes
        return f"a {type(value).__name__}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 50
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 2, 4, 4


def _inner(kind: Any, value: Any, path: str, depth: int) -> Iterator[str]:
    """What is wrong with the parts of an object or a list."""
    chosen = _chosen(kind, value)
    if isinstance(value, dict) and (fields := fields_of(chosen)) is not None:
        for field in fields:
            if field.required and field.name not in value:
                yield f"{_below(path, field.name)} is missing, expected {_named(field.kind)}"
        if getattr(chosen, "__struct_config__", None) and _forbids(chosen):
            names = [field.name for field in fields]
            tag = chosen.__struct_config__.tag_field
            for name in value:
                if name not in names and name != tag:
                    yield f"{path}: {unknown(name, names)}"
    for key, of, part in _parts(kind, value)[:_MOST_PARTS]:
        yield from problems(of, part, _below(path, key), depth + 1)


def _forbids(kind: Any) -> bool:
    return bool(kind.__struct_config__.forbid_unknown_fields)


def _parts(kind: Any, value: Any) -> list[tuple[Any, Any, Any]]:
    """The parts of an object or a list: key, type and value of each, where types are known."""
    chosen = _chosen(kind, value)
    origin, of = get_origin(chosen), get_args(chosen)
    if isinstance(value, dict):
        if (fields := fields_of(chosen)) is not None:
            return [(f.name, f.kind, value[f.name]) for f in fields if f.name in value]
        if _is_mapping(origin) and len(of) == 2:
            return [(key, of[1], part) for key, part in value.items()]
    elif isinstance(value, list) and _is_list(origin) and of:
        if origin is tuple and of[1:] != (...,):
            together = zip(of, value, strict=False) if len(of) == len(value) else ()
            return [(i, one, part) for i, (one, part) in enumerate(together)]
        return [(i, of[0], part) for i, part in enumerate(value)]
    return []


def _chosen(kind: Any, value: Any) -> Any:
    """The member of a union that an object or a list is meant for, if that is clear."""
    kind = _bare(kind)
    if not _is_union(kind):
        return kind
    members = [_bare(one) for one in get_args(kind)]
    if isinstance(value, dict):
        objects = [m for m in members if fields_of(m) is not None or _is_mapping(get_origin(m))]
        if len(objects) > 1:
            objects = [one for one in objects if _has_tag(one, value)]
    else:
        objects = [m for m in members if _is_list(get_origin(m))]
    return objects[0] if len(objects) == 1 else None


def _has_tag(kind: Any, value: dict[str, Any]) -> bool:
    config = getattr(kind, "__struct_config__", None)
    return (
        config is not None and config.tag is not None and value.get(config.tag_field) == config.tag
    )


def _bare(kind: Any) -> Any:
    """Without what stands around a type: Annotated, NewType, a name for it."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif isinstance(kind, NewType):
            kind = kind.__supertype__
        elif type(kind).__name__ == "TypeAliasType":
            kind = kind.__value__
        else:
            return kind


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _is_list(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Iterable) and not _is_mapping(origin)


def _means_int(kind: Any) -> bool:
    kind = _bare(kind)
    members = [_bare(one) for one in get_args(kind)] if _is_union(kind) else [kind]
    return any(map(_is_int, members)) and float not in members and Any not in members


def _is_int(kind: Any) -> bool:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return any(isinstance(one.value, int) for one in kind)
    if get_origin(kind) is Literal:
        return any(isinstance(one, int) for one in get_args(kind))
    return kind is int


def _told(kind: Any, value: Any, path: str, said: Fault) -> str:
    """msgspec's words in ours."""
    text, _, at = str(said).partition(" - at `$")
    path += at.rstrip("`")[-100:]
    if said.__cause__ is not None or at:  # the author's own words; or of a part of the value
        return f"{path}: {text}" if path else text
    return f"{path} is {shown(value)}, expected {_expected(kind, text)}"


def _expected(kind: Any, text: str) -> str:
    if options := _options(kind):
        return f"one of {', '.join(options[:10])}{', ...' * (len(options) > 10)}"
    if text.startswith("Expected "):
        text = text.removeprefix("Expected ").split(", got ")[0]
    else:
        text = re.sub("^Invalid ", "a valid ", text)
    return text.replace("`", "").replace(" | ", " or ")


def _options(kind: Any) -> list[str]:
    kind = _bare(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [repr(one.value) for one in kind]
    return [repr(one) for one in get_args(kind)] if get_origin(kind) is Literal else []


def _named(kind: Any) -> str:
    """A type as msgspec names it."""
    try:
        convert(_NOTHING, kind)
    except Fault as error:
        return _expected(kind, str(error))
    return "a value"


class _Nothing:
    """No value of any type."""


_NOTHING = _Nothing()


def _below(path: str, key: Any) -> str:
    if len(path) > 100:  # or the end of it would not reach the caller
        path = f"{path[:40]}...{path[-40:]}"
    if isinstance(key, int):
        return f"{path}[{key}]"
    text = key if len(key) < 50 and key.isidentifier() else shown(key)
    return f"{path}.{text}" if path else str(text)
