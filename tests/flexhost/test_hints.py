"""What a Python hint means as a type of a column."""

from __future__ import annotations

import datetime as dt
import typing
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, NewType, NotRequired, Optional, TypedDict

import msgspec
import pandas as pd
import pyarrow as pa
import pytest

from flexhost.values import types
from flexhost.values.types import TABLE, hint_of, of_hint, of_sql, of_type

INT64 = pa.int64()


@dataclass
class Place:
    name: str
    height: Annotated[int, "SMALLINT"] | None


class Named(NamedTuple):
    name: str
    height: int


class Typed(TypedDict):
    name: str
    height: int


class Loose(TypedDict):
    name: NotRequired[str]


@dataclass
class Node:
    next: Node | None


@dataclass
class Holder:
    odd: set[int]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.sql)
def test_each_row_of_the_table_is_read_both_ways(row):
    typed = of_hint(row.hint)

    assert (typed.type, typed.nullable, typed.vector) == (row.type, False, "")
    assert of_sql(row.sql) == (row.type, True)
    assert of_sql(typed.sql) == (row.type, False)
    assert of_hint(hint_of(row.type)).type == row.type
    assert hint_of(row.type, False) == row.hint or pa.types.is_struct(row.type)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.sql)
def test_the_plain_hint_of_each_row_can_be_read_by_msgspec(row):
    msgspec.json.Decoder(of_hint(row.hint).hint)
    msgspec.json.Decoder(of_type(row.type).hint)


@pytest.mark.parametrize("hint", [int | None, Optional[int], Annotated[int | None, "BIGINT"]])  # noqa: UP045
def test_none_makes_it_nullable(hint):
    typed = of_hint(hint)

    assert (typed.type, typed.nullable, typed.sql) == (INT64, True, "BIGINT")
    assert typed.hint == int | None


@pytest.mark.parametrize("mark", ["SMALLINT", "smallint", "int16", pa.int16()])
def test_a_width_is_named_in_sql_or_arrow(mark):
    assert of_hint(Annotated[int, mark]).type == pa.int16()


def test_names_in_small_letters_are_those_of_arrow():
    assert of_hint(Annotated[bytes, "binary"]).type == pa.binary()
    assert of_hint(Annotated[bytes, "BINARY(3)"]).type == pa.binary(3)


def test_a_length_is_kept_for_sql_where_arrow_has_none():
    typed = of_hint(Annotated[str, "varchar(20)"])

    assert (typed.type, typed.sql, typed.root) == (pa.utf8(), "VARCHAR(20) NOT NULL", "VARCHAR")
    assert typed.answer == "VARCHAR(20) NOT NULL"
    assert of_hint(list[Annotated[str, "CHAR(2)"]]).sql == "ARRAY<CHAR(2) NOT NULL> NOT NULL"


def test_an_answer_is_bare_where_nothing_is_lost_by_that():
    assert [of_hint(hint).answer for hint in (int, float | None, str, bytes, dt.date)] == [
        "BIGINT",
        "DOUBLE",
        "VARCHAR",
        "VARBINARY",
        "DATE",
    ]
    assert [of_hint(hint).answer for hint in (Decimal, dt.datetime | None, list[int])] == [
        "DECIMAL(38, 18) NOT NULL",
        "TIMESTAMP(6)",
        "ARRAY<BIGINT NOT NULL> NOT NULL",
    ]


def test_a_field_of_a_schema_keeps_what_arrow_does_not_hold():
    fields = [of_hint(hint).field("f") for hint in (Annotated[str, "CHAR(2)"], int | None)]

    assert [types.of_field(one).sql for one in fields] == ["CHAR(2) NOT NULL", "BIGINT"]
    assert fields[0].equals(pa.field("f", pa.utf8(), False))


@pytest.mark.parametrize("cls", [Named, Typed])
def test_a_class_with_fields_is_a_struct(cls):
    typed = of_hint(cls)

    assert typed.type == pa.struct(
        [pa.field("name", pa.utf8(), False), pa.field("height", INT64, False)]
    )
    assert typed.hint is cls
    assert types.is_row(cls)
    assert not types.is_row(int)


def test_fields_may_have_widths_and_none():
    assert of_hint(Place).sql == (
        "ROW<`name` VARCHAR(2147483647) NOT NULL, `height` SMALLINT> NOT NULL"
    )


@pytest.mark.parametrize("zone", ["UTC", "+00:00"])
def test_aware_times_are_those_of_utc(zone):
    typed = of_hint(Annotated[dt.datetime, pa.timestamp("us", zone)])

    assert typed.type == pa.timestamp("us", zone)
    assert (typed.sql, typed.root) == ("TIMESTAMP_LTZ(6) NOT NULL", "LOCALZONEDTIMESTAMP")


def test_a_name_for_a_type_is_that_type():
    assert of_hint(NewType("Metres", float)).type == pa.float64()


def test_what_others_write_beside_a_hint_is_theirs():
    assert of_hint(Annotated[int, 42, object()]).type == INT64


@pytest.mark.parametrize(
    ("hint", "vector", "nullable"),
    [
        (Annotated[pa.Array, int], "arrow", False),
        (Annotated[pa.Array, int | None], "arrow", True),
        (Annotated[pa.Array, pa.int64()], "arrow", True),
        (Annotated[pa.Array, "BIGINT NOT NULL"], "arrow", False),
        (pa.Int64Array, "arrow", True),
        (Annotated[pd.Series, "BIGINT"], "pandas", True),
        (Annotated[pd.Series, int], "pandas", False),
    ],
)
def test_a_whole_column_has_an_element(hint, vector, nullable):
    typed = of_hint(hint)

    assert (typed.type, typed.vector, typed.nullable) == (INT64, vector, nullable)


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (set[int], "set[int] is no type of a column, expected bool, int, float, str"),
        (Any, "Any is no type of a column"),
        (None, "None is no type of a column"),
        (int | str, "int | str is more than one type, expected T or T | None"),
        (list, "list does not say of what, expected such as list[int]"),
        (dict, "dict does not say of what"),
        (typing.List, "typing.List does not say of what, expected such as list[int]"),  # noqa: UP006
        (typing.Dict, "typing.Dict does not say of what, expected such as dict[str, int]"),  # noqa: UP006
        (dict[str], "dict[str] does not say of what"),
        (dict[str | None, int], "has keys that may be None"),
        (list[set[int]], "set[int] is no type of a column"),
        (pa.Array, "pa.Array does not say of what, expected such as Annotated[pa.Array, int]"),
        (pd.Series, "pd.Series does not say of what"),
        (list[pa.Int64Array], "Int64Array stands for a whole column, so nothing can hold it"),
        (Annotated[int, "DOUBLE"], "int cannot be DOUBLE, expected such as BIGINT, TINYINT"),
        (Annotated[int, "int9"], "the SQL type 'int9' cannot be read"),
        (Annotated[int, pa.uint8()], "the Arrow type uint8 has no SQL name"),
        (Annotated[int, "INT", "BIGINT"], "int has two types beside it: INT and BIGINT"),
        (Annotated[list[int], "ARRAY<INT>"], "list[int] cannot be ARRAY<INT>, write it at the"),
        (Annotated[Decimal, pa.decimal256(50, 2)], "decimal256(50, 2) has no SQL name"),
        (Annotated[dt.datetime, pa.timestamp("us", "+01:00")], "+01:00] has no SQL name"),
        (Node, "Node.next: Node holds itself, a column cannot"),
        (Holder, "Holder.odd: set[int] is no type of a column"),
        (Loose, "Loose['name'] may be missing, expected T | None"),
        ("int", "'int' is no type of a column"),
    ],
)
def test_a_hint_without_a_place_is_refused(hint, text):
    with pytest.raises(TypeError) as error:
        of_hint(hint)

    assert text in str(error.value)
