"""What an argument or a result is, known from its type in Arrow or in SQL."""

from __future__ import annotations

import dataclasses
import datetime as dt
import types as python
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Union

import pyarrow as pa

from flexhost.values import record_types as records
from flexhost.values.flink_types import read_flink
from flexhost.values.sql_names import root_of, sql, sql_root
from flexhost.values.sql_types import Declared, read_sql
from flexhost.values.type_table import SCALARS


@dataclass(frozen=True)
class Typed:
    """What an argument or a result is.

    vector: "arrow" or "pandas" when the function takes or gives whole columns of it, else "".
    hint:   of one value, without what stands beside it.
    text:   its type in SQL as it was declared, where Arrow does not hold all of that.
    parts:  the element of a list; the key and the value of a map; the fields of a struct.
    make:   an object of a struct, of the values of its fields in order; None where it is a dict.
    """

    type: pa.DataType
    nullable: bool
    vector: str = ""
    hint: Any = None
    text: str = ""
    parts: tuple[Typed, ...] = ()
    make: Callable[..., Any] | None = dataclasses.field(default=None, compare=False)

    @property
    def sql(self) -> str:
        """In full: `DECIMAL(10, 2) NOT NULL`."""
        if not self.text:
            return sql(self.type, self.nullable)
        return self.text if self.nullable else f"{self.text} NOT NULL"

    @property
    def answer(self) -> str:
        """The bare name where no length and precision is lost by that, in full otherwise."""
        if self.type in _BARE and not self.text:
            return sql_root(self.type)
        return self.sql

    @property
    def root(self) -> str:
        return root_of(self.text) if self.text else sql_root(self.type)

    def field(self, name: str) -> pa.Field:
        """Of a schema; `of_field` finds all of it there again but the hint."""
        told = {_TEXT: self.text} if self.text else None
        return pa.field(name, self.type, self.nullable, told)


# In the metadata of a field.
_TEXT = "flexhost.sql"


# Their bare names say all that Flink has to know, or what its users take them for.
_BARE = frozenset(
    row.type for row in SCALARS if "(" not in row.sql and not pa.types.is_duration(row.type)
)


def typed_of_sql(text: str) -> Typed:
    """Raises TypeError."""
    return of_declared(read_sql(text))


def typed_of_flink(data_type: Any) -> Typed:
    """Of a PyFlink DataType, known by its shape, or of a text in SQL. Raises TypeError."""
    return of_declared(read_flink(data_type))


def of_field(field: pa.Field) -> Typed:
    """Raises TypeError when SQL has no name for its type."""
    typed = of_type(field.type, field.nullable)
    text = (field.metadata or {}).get(_TEXT.encode())
    return typed if text is None else replace(typed, text=text.decode())


def of_flink(data_type: Any) -> tuple[pa.DataType, bool]:
    """The Arrow type, and whether it may be NULL. Raises TypeError."""
    declared = read_flink(data_type)
    return declared.type, declared.nullable


def of_type(type_: pa.DataType, nullable: bool = True) -> Typed:
    """What Python makes of an Arrow type: a struct is a NamedTuple. Raises TypeError when SQL has
    no name for it."""
    sql(type_)
    kind = python_class(type_)
    parts = tuple(of_type(part.type, part.nullable) for part in inner_fields(type_))
    make: Callable[..., Any] | None = None
    hint: Any = kind
    if kind is list:
        hint = python.GenericAlias(list, parts[0].hint)
    elif kind is dict:
        hint = python.GenericAlias(dict, (parts[0].hint, parts[1].hint))
    elif kind is tuple:
        names = [part.name for part in type_]
        hint = records.unnamed(names, [part.hint for part in parts])
        make = records.maker(hint, names)
    return Typed(type_, nullable, "", or_none(hint, nullable), "", parts, make)


def of_declared(declared: Declared) -> Typed:
    typed = of_type(declared.type, declared.nullable)
    lost = declared.text != sql(declared.type)
    return replace(typed, text=declared.text) if lost else typed


def inner_fields(type_: pa.DataType) -> list[pa.Field]:
    """The fields of what a type holds."""
    if pa.types.is_list(type_):
        return [type_.value_field]
    if pa.types.is_map(type_):
        return [type_.key_field, type_.item_field]
    return list(type_) if pa.types.is_struct(type_) else []


def python_class(type_: pa.DataType) -> Any:
    """The Python class of its values."""
    number = type_.id  # which says all that is asked here
    if number not in _found:
        _found[number] = next((kind for is_kind, kind in _KINDS if is_kind(type_)), None)
    return _found[number]


_found: dict[int, Any] = {}
_KINDS: list[tuple[Callable[[pa.DataType], bool], Any]] = [
    (pa.types.is_boolean, bool),
    (pa.types.is_signed_integer, int),
    (pa.types.is_floating, float),
    (pa.types.is_string, str),
    (pa.types.is_decimal, Decimal),
    (pa.types.is_binary, bytes),
    (pa.types.is_fixed_size_binary, bytes),
    (pa.types.is_date, dt.date),
    (pa.types.is_time, dt.time),
    (pa.types.is_timestamp, dt.datetime),
    (pa.types.is_duration, dt.timedelta),
    (pa.types.is_list, list),
    (pa.types.is_map, dict),
    (pa.types.is_struct, tuple),
]


def or_none(hint: Any, nullable: bool) -> Any:
    return Union[hint, None] if nullable and hint is not None else hint  # noqa: UP007
