"""Whole columns ↔ Python values."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, NamedTuple, TypedDict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexhost.values.columns import Unfit, array, values
from flexhost.values.types import of_hint, of_sql, of_type

UTC = dt.timezone.utc


@dataclass
class Place:
    name: str
    seen: dt.date | None


class Pair(NamedTuple):
    a: int
    b: list[int]


class Keyed(TypedDict):
    a: int


def two_ways(hint, given_):
    typed = of_hint(hint)
    return values(array(given_, typed.type, typed.nullable), typed)


@pytest.mark.parametrize(
    ("hint", "given_"),
    [
        (Place, [Place("x", None), Place("y", dt.date(2020, 1, 2))]),
        (Place | None, [None, Place("x", None), None]),
        (Pair, [Pair(1, [2, 3]), Pair(4, [])]),
        (Keyed, [{"a": 1}]),
        (list[Place], [[], [Place("x", None)]]),
        (dict[str, Place] | None, [{}, None, {"k": Place("x", None)}]),
        (dict[int, dict[str, list[Decimal]]], [{1: {"a": [Decimal("1.500000000000000000")]}}]),
        (list[list[dt.time] | None], [[None, [dt.time(1, 2, 3, 4)]], [[]]]),
        (Annotated[dt.datetime, "TIMESTAMP_LTZ(6)"], [dt.datetime(2020, 1, 2, tzinfo=UTC)]),
    ],
)
def test_values_come_back_as_the_hint_means_them(hint, given_):
    assert two_ways(hint, given_) == given_


def test_a_slice_is_read_from_its_start():
    typed = of_hint(list[dt.date] | None)
    days = [[dt.date(2020, 1, day)] * day for day in range(1, 6)]
    column = array([*days, None], typed.type)

    assert values(column.slice(2, 3), typed) == days[2:5]
    assert values(pa.chunked_array([column.slice(4), column.slice(0, 1)]), typed) == [
        days[4],
        None,
        days[0],
    ]


def test_a_row_of_sql_can_be_read_by_names():
    typed = of_type(of_sql("ROW<a INT, b STRING>")[0])
    [row] = values(pa.array([{"a": 1, "b": "x"}], typed.type), typed)

    assert (row.a, row.b, row) == (1, "x", (1, "x"))


def test_a_row_with_odd_names_is_a_dict():
    typed = of_type(of_sql("ROW<`a b` INT>")[0])

    assert values(pa.array([{"a b": 1}], typed.type), typed) == [{"a b": 1}]


def test_a_struct_is_made_of_objects_mappings_and_tuples():
    typed = of_hint(Pair)
    given_ = [Pair(1, []), {"b": [2], "a": 1}, (1, [3])]

    assert values(array(given_, typed.type), typed) == [Pair(1, []), Pair(1, [2]), Pair(1, [3])]


def test_numbers_of_numpy_are_numbers():
    assert array([np.int8(1), np.int64(2)], pa.int32()).to_pylist() == [1, 2]
    assert array([np.float32(1.5), 2], pa.float64()).to_pylist() == [1.5, 2.0]
    assert array([np.bool_(True)], pa.bool_()).to_pylist() == [True]


@pytest.mark.parametrize("type_", [pa.int64(), pa.int8(), pa.utf8(), pa.date32(), pa.null()])
def test_a_column_may_be_empty_or_all_null(type_):
    typed = of_type(type_)

    assert values(array([], type_), typed) == []
    assert values(array([None, None], type_), typed) == [None, None]


def test_a_time_of_another_zone_is_one_of_utc():
    there = dt.datetime(2020, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))

    assert two_ways(Annotated[dt.datetime, "TIMESTAMP_LTZ(6)"], [there]) == [
        dt.datetime(2020, 1, 1, tzinfo=UTC)
    ]


MS = pa.timestamp("ms")


@pytest.mark.parametrize(
    ("given_", "type_", "text"),
    [
        ([1, None], pa.int64(), "value 1 is None, and the type has no None"),
        ([1, 1.0], pa.int64(), "value 1 is 1.0, expected a whole number of 64 bits"),
        ([True], pa.int64(), "value 0 is True, expected a whole number"),
        ([1, 2**63], pa.int64(), "value 1 is 9223372036854775808, expected"),
        ([1, 128], pa.int8(), "value 1 is 128, expected a whole number of 8 bits"),
        ([1, None], pa.null(), "value 0 is 1, expected None"),
        ([1], pa.bool_(), "value 0 is 1, expected True or False"),
        (["1"], pa.float64(), "value 0 is '1', expected a number"),
        ([2**53 + 1], pa.float64(), "value 0 is 9007199254740993, expected a number that a float"),
        ([1e300], pa.float32(), "value 0 is 1e+300, expected a number that a float of 32 bits"),
        (["a", b"b"], pa.utf8(), "value 1 is b'b', expected a text"),
        (["\ud800"], pa.utf8(), r"value 0 is '\ud800', expected a text"),
        (["a"], pa.binary(), "value 0 is 'a', expected bytes"),
        ([b"ab"], pa.binary(3), "value 0 is b'ab', expected 3 bytes"),
        ([Decimal("1.234")], pa.decimal128(4, 2), "expected a Decimal that decimal128(4, 2) can"),
        ([Decimal("NaN")], pa.decimal128(4, 2), "value 0 is Decimal('NaN'), expected"),
        ([1.5], pa.decimal128(4, 2), "value 0 is 1.5, expected a Decimal"),
        ([dt.datetime(2020, 1, 1)], pa.date32(), "expected a date"),
        ([dt.date(2020, 1, 1)], MS, "expected a datetime without a zone, no finer than ms"),
        ([dt.datetime(2020, 1, 1, microsecond=1)], MS, "expected a datetime without a zone"),
        ([dt.datetime(2020, 1, 1, tzinfo=UTC)], MS, "expected a datetime without a zone"),
        ([dt.datetime(2020, 1, 1)], pa.timestamp("us", "UTC"), "expected a datetime with a zone"),
        ([dt.datetime(1500, 1, 1)], pa.timestamp("ns"), "expected a datetime without a zone"),
        ([dt.time(1, tzinfo=UTC)], pa.time64("us"), "expected a time without a zone"),
        ([dt.timedelta(microseconds=1)], pa.duration("ms"), "a timedelta, no finer than ms"),
        (["ab"], pa.list_(pa.utf8()), "value 0 is 'ab', expected a list"),
        ([[1], None, [], [2, "x"]], pa.list_(pa.int64()), "value 3 is [2, 'x'], its item 1 is 'x'"),
        ([[1]], pa.map_(pa.utf8(), pa.int64()), "value 0 is [1], expected a dict"),
        ([{None: 1}], pa.map_(pa.utf8(), pa.int64()), "its key 0 is None, and the type has no"),
        ([{"a": "x"}], pa.map_(pa.utf8(), pa.int64()), "its value 0 is 'x', expected a whole"),
        ([{"b": 1}], pa.struct([("a", pa.int64())]), "value 0 is {'b': 1}, expected what has 'a'"),
        (
            [None, (1, 2)],
            pa.struct([("a", pa.utf8())]),
            "value 1 is (1, 2), its 'a' is 1, expected",
        ),
        ([()], pa.struct([("a", pa.utf8())]), "value 0 is (), expected what has 'a'"),
    ],
)
def test_what_does_not_fit_is_named(given_, type_, text):
    with pytest.raises(Unfit) as error:
        array(given_, type_, nullable=None not in given_ or pa.types.is_nested(type_))

    assert text in str(error.value)
    assert error.value.value is given_[error.value.index]


def test_a_year_that_python_has_not_is_named():
    column = pa.array([0, 10**18], pa.int64()).cast(pa.timestamp("us"))

    with pytest.raises(Unfit, match="value 1 is 1000000000000000000, a timestamp.us. that Python"):
        values(column, of_hint(dt.datetime))


def test_nanoseconds_are_not_cut_off():
    column = pa.array([[0], [5000], [5001]], pa.list_(pa.int64())).cast(
        pa.list_(pa.timestamp("ns"))
    )

    with pytest.raises(Unfit, match="value 2 is 5001, which has nanoseconds"):
        values(column, of_type(column.type))


UTF8 = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
CENTS = st.integers(-999999, 999999).map(lambda n: Decimal(n).scaleb(-2))
MILLISECONDS = st.integers(-(10**14), 10**14).map(lambda n: dt.timedelta(milliseconds=n))
SCALARS = [
    (bool, st.booleans()),
    (int, st.integers(-(2**63), 2**63 - 1)),
    (Annotated[int, "SMALLINT"], st.integers(-(2**15), 2**15 - 1)),
    (float, st.floats(allow_nan=False)),
    (Annotated[float, "FLOAT"], st.floats(allow_nan=False, width=32)),
    (str, UTF8),
    (bytes, st.binary(max_size=5)),
    (Annotated[bytes, "BINARY(2)"], st.binary(min_size=2, max_size=2)),
    (
        Annotated[Decimal, "DECIMAL(6, 2)"],
        st.integers(-999999, 999999).map(lambda n: Decimal(n).scaleb(-2)),
    ),
    (dt.date, st.dates()),
    (dt.time, st.times()),
    (dt.datetime, st.datetimes()),
    (Annotated[dt.datetime, "TIMESTAMP_LTZ(6)"], st.datetimes(timezones=st.just(UTC))),
    (dt.timedelta, MILLISECONDS),
]


def hints(inner):
    """Pairs of a hint and a strategy for its values."""
    either = inner | inner.map(lambda pair: (pair[0] | None, st.none() | pair[1]))
    return st.one_of(
        either.map(lambda pair: (list[pair[0]], st.lists(pair[1], max_size=3))),
        st.tuples(st.sampled_from(SCALARS), either).map(
            lambda of: (dict[of[0][0], of[1][0]], st.dictionaries(of[0][1], of[1][1], max_size=3))
        ),
        st.tuples(either, either).map(
            lambda of: (
                NamedTuple("Made", [("a", of[0][0]), ("b", of[1][0])]),
                st.tuples(of[0][1], of[1][1]),
            )
        ),
    )


COLUMNS = st.recursive(st.sampled_from(SCALARS), hints, max_leaves=4).flatmap(
    lambda pair: st.tuples(st.just(pair[0] | None), st.lists(st.none() | pair[1], max_size=6))
)


@given(COLUMNS, st.integers(0, 3))
def test_every_column_comes_back(column, start):
    hint, given_ = column
    typed = of_hint(hint)
    built = array(given_, typed.type, typed.nullable)
    built.validate(full=True)

    assert built.type == typed.type
    assert values(built, typed) == given_
    assert values(built.slice(start), typed) == given_[start:]
