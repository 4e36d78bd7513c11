"""The types of functions: Python hint ↔ Arrow ↔ SQL, the one table.

A width, a length or a precision stands beside its hint: `Annotated[int, "SMALLINT"]`, by its name
in SQL, by its name in Arrow (`"int16"`), or as `pyarrow.int16()`.
"""

from __future__ import annotations

import types as python
from dataclasses import replace
from typing import Annotated, Any, NewType, Union, get_args, get_origin

import pyarrow as pa

from flexhost.values import record_types as records
from flexhost.values.sql_names import quoted, sql, sql_root
from flexhost.values.sql_types import Declared, of_sql, read_sql
from flexhost.values.type_table import SCALARS, TABLE, Row
from flexhost.values.typed import (
    Typed,
    inner_fields,
    of_declared,
    of_field,
    of_flink,
    of_type,
    or_none,
    python_class,
    typed_of_flink,
    typed_of_sql,
)

__all__ = [
    "TABLE",
    "Row",
    "Typed",
    "hint_of",
    "is_row",
    "of_field",
    "of_flink",
    "of_hint",
    "of_sql",
    "of_type",
    "sql",
    "sql_root",
    "typed_of_flink",
    "typed_of_sql",
]


_OF_PLAIN = {row.hint: row.type for row in SCALARS if isinstance(row.hint, type)}
_NAMES = ", ".join(hint.__name__ for hint in _OF_PLAIN)
_EXPECTED = f"expected {_NAMES}, list[T], dict[K, V] or a class with hinted fields"
_DEEPEST = 50


def of_hint(hint: Any) -> Typed:
    """What the hint of an argument or a result means. Raises TypeError that says why not."""
    return _of_hint(hint, (), True)


def hint_of(type_: pa.DataType, nullable: bool = True) -> Any:
    """What an author writes for an Arrow type. Raises TypeError when SQL has no name for it."""
    kind, parts = python_class(type_), inner_fields(type_)
    held = [hint_of(part.type, part.nullable) for part in parts]
    if kind is list or kind is dict:
        hint: Any = kind[tuple(held)]
    elif kind is tuple:
        hint = records.unnamed([part.name for part in parts], held)
    else:
        hint = kind if _OF_PLAIN.get(kind) == type_ else Annotated[kind, sql(type_)]
    return or_none(hint, nullable)


def is_row(hint: Any) -> bool:
    """Whether it is a dataclass, a TypedDict or a NamedTuple, whatever its fields are."""
    return records.is_record(hint)


def _of_hint(hint: Any, within: tuple[Any, ...], top: bool) -> Typed:
    """within: the classes around it, so that one that holds itself is found."""
    if len(within) > _DEEPEST:
        raise TypeError(f"a type is nested more than {_DEEPEST} deep")
    hint, marks = _bare(hint)
    if get_origin(hint) in (Union, python.UnionType):
        return _of_union(hint, marks, within, top)
    if vector := _vector(hint):
        if not top:
            raise TypeError(f"{_written(hint)} stands for a whole column, so nothing can hold it")
        return _of_vector(hint, vector, marks)
    if marks:
        return _of_marks(hint, marks)
    if isinstance(hint, type) and hint in _OF_PLAIN:
        return Typed(_OF_PLAIN[hint], False, "", hint)
    if (kind := get_origin(hint) or hint) in (list, dict):
        if len(get_args(hint)) != (1 if kind is list else 2):
            says = "list[int]" if kind is list else "dict[str, int]"
            raise TypeError(f"{_written(hint)} does not say of what, expected such as {says}")
        return _of_generic(hint, within)
    if records.is_record(hint):
        return _of_record(hint, within)
    raise TypeError(f"{_written(hint)} is no type of a column, {_EXPECTED}")


def _bare(hint: Any) -> tuple[Any, list[Any]]:
    """Without names and marks, and the marks that are types."""
    marks: list[Any] = []
    while True:
        if get_origin(hint) is Annotated:
            hint, *more = get_args(hint)
            marks += [mark for mark in more if _is_mark(mark)]
        elif isinstance(hint, NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":  # `type Price = ...`, from Python 3.12
            hint = hint.__value__
        else:
            return hint, marks


def _is_mark(mark: Any) -> bool:
    """What other libraries write beside a hint is theirs."""
    return isinstance(mark, str | pa.DataType | type | python.GenericAlias | python.UnionType) or (
        get_origin(mark) is not None
    )


def _of_union(hint: Any, marks: list[Any], within: tuple[Any, ...], top: bool) -> Typed:
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    if len(kinds) != 1 or len(kinds) == len(get_args(hint)):
        raise TypeError(f"{_written(hint)} is more than one type, expected T or T | None")
    inner = kinds[0]
    for mark in marks:  # Annotated[int | None, "INT"]
        inner = Annotated[inner, mark]
    typed = _of_hint(inner, within, top)
    return replace(typed, nullable=True, hint=or_none(typed.hint, not typed.vector))


def _vector(hint: Any) -> str:
    """The style of what stands for a whole column. pandas need not be there."""
    if not isinstance(hint, type):
        return ""
    if issubclass(hint, pa.Array):
        return "arrow"
    pandas = hint.__module__.partition(".")[0] == "pandas" and hint.__name__ == "Series"
    return "pandas" if pandas else ""


def _of_vector(hint: Any, vector: str, marks: list[Any]) -> Typed:
    name = "pa.Array" if vector == "arrow" else "pd.Series"
    if hint in _ARRAYS and not marks:
        return replace(of_type(_ARRAYS[hint]), vector=vector)
    if len(marks) != 1:
        raise TypeError(f"{name} does not say of what, expected such as Annotated[{name}, int]")
    [mark] = marks
    if isinstance(mark, pa.DataType):
        typed = of_type(mark)
    elif isinstance(mark, str):
        typed = of_declared(_read_mark(mark))
    else:
        typed = _of_hint(mark, (), False)
    return replace(typed, vector=vector)


_ARRAYS = {
    pa.BooleanArray: pa.bool_(),
    pa.Int8Array: pa.int8(),
    pa.Int16Array: pa.int16(),
    pa.Int32Array: pa.int32(),
    pa.Int64Array: pa.int64(),
    pa.FloatArray: pa.float32(),
    pa.DoubleArray: pa.float64(),
    pa.StringArray: pa.utf8(),
    pa.BinaryArray: pa.binary(),
    pa.Date32Array: pa.date32(),
}


def _of_marks(hint: Any, marks: list[Any]) -> Typed:
    [mark, *more] = marks
    if more:
        raise TypeError(f"{_written(hint)} has two types beside it: {mark} and {more[0]}")
    if isinstance(mark, str):
        declared = _read_mark(mark)
    elif isinstance(mark, pa.DataType):
        declared = Declared(mark, True, sql(mark))
    else:
        raise TypeError(f"{_written(mark)} beside {_written(hint)} is no type of SQL or Arrow")
    kind = python_class(declared.type)
    if kind is not hint or hint not in _OF_PLAIN:
        others = [row.sql for row in SCALARS if python_class(row.type) is hint]
        expected = f"expected such as {', '.join(others)}" if others else "write it at the element"
        raise TypeError(f"{_written(hint)} cannot be {mark}, {expected}")
    lost = declared.text != sql(declared.type)
    return Typed(declared.type, False, "", hint, declared.text if lost else "")


def _read_mark(mark: str) -> Declared:
    """By the name that Arrow has for it, which is in small letters, or by that of SQL."""
    try:
        type_ = pa.type_for_alias(mark)
    except ValueError:
        return read_sql(mark)
    return Declared(type_, True, sql(type_))


def _of_generic(hint: Any, within: tuple[Any, ...]) -> Typed:
    origin = get_origin(hint)
    parts = tuple(_of_hint(part, (*within, origin), False) for part in get_args(hint))
    fields = [
        pa.field(name, part.type, part.nullable)
        for name, part in zip(("item",) if origin is list else ("key", "value"), parts, strict=True)
    ]
    if origin is dict and parts[0].nullable:
        raise TypeError(f"{_written(hint)} has keys that may be None")
    type_ = pa.list_(fields[0]) if origin is list else pa.map_(fields[0].type, fields[1])
    text = f"ARRAY<{parts[0].sql}>" if origin is list else f"MAP<{parts[0].sql}, {parts[1].sql}>"
    plain = origin[tuple(part.hint for part in parts)]
    return Typed(type_, False, "", plain, text if text != sql(type_) else "", parts)


def _of_record(cls: Any, within: tuple[Any, ...]) -> Typed:
    if cls in within:
        raise TypeError(f"{cls.__name__} holds itself, a column cannot")
    parts, fields, texts = [], [], []
    for name, hint in records.fields_of(cls).items():
        try:
            part = _of_hint(hint, (*within, cls), False)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}.{name}: {error}") from None
        parts.append(part)
        fields.append(pa.field(name, part.type, part.nullable))
        texts.append(f"{quoted(name)} {part.sql}")
    type_ = pa.struct(fields)
    text = f"ROW<{', '.join(texts)}>"
    make = records.maker(cls, type_.names)
    return Typed(type_, False, "", cls, text if text != sql(type_) else "", tuple(parts), make)


def _written(hint: Any) -> str:
    if isinstance(hint, type) and not get_args(hint):
        return hint.__name__
    return repr(hint)
