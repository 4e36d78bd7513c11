"""Types in SQL, by texts and by the shape of PyFlink's objects."""

from __future__ import annotations

import enum
from typing import TypedDict

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexhost.values.types import (
    hint_of,
    of_flink,
    of_hint,
    of_sql,
    of_type,
    sql,
    sql_root,
    typed_of_flink,
    typed_of_sql,
)


def not_null(name, type_):
    return pa.field(name, type_, nullable=False)


@pytest.mark.parametrize(
    ("text", "type_", "full"),
    [
        ("VARCHAR(2147483647) NOT NULL", pa.utf8(), "VARCHAR(2147483647) NOT NULL"),
        ("string", pa.utf8(), "VARCHAR(2147483647)"),
        ("VARCHAR", pa.utf8(), "VARCHAR(1)"),
        ("char(5)", pa.utf8(), "CHAR(5)"),
        ("BYTES", pa.binary(), "VARBINARY(2147483647)"),
        ("BINARY", pa.binary(1), "BINARY(1)"),
        ("VARBINARY(9)", pa.binary(), "VARBINARY(9)"),
        ("INTEGER", pa.int32(), "INT"),
        ("DOUBLE PRECISION", pa.float64(), "DOUBLE"),
        ("DECIMAL(10, 2)", pa.decimal128(10, 2), "DECIMAL(10, 2)"),
        ("dec(5)", pa.decimal128(5, 0), "DECIMAL(5, 0)"),
        ("NUMERIC", pa.decimal128(10, 0), "DECIMAL(10, 0)"),
        ("TIME", pa.time32("s"), "TIME(0)"),
        ("TIME(3)", pa.time32("ms"), "TIME(3)"),
        ("TIME(4) WITHOUT TIME ZONE", pa.time64("us"), "TIME(4)"),
        ("TIMESTAMP", pa.timestamp("us"), "TIMESTAMP(6)"),
        ("TIMESTAMP(9) WITHOUT TIME ZONE", pa.timestamp("ns"), "TIMESTAMP(9)"),
        ("TIMESTAMP_LTZ(6)", pa.timestamp("us", "UTC"), "TIMESTAMP_LTZ(6)"),
        ("TIMESTAMP(3) WITH LOCAL TIME ZONE", pa.timestamp("ms", "UTC"), "TIMESTAMP_LTZ(3)"),
        ("INTERVAL DAY TO SECOND", pa.duration("ms"), "INTERVAL DAY TO SECOND"),
        ("interval day (3) to second(3)", pa.duration("ms"), "INTERVAL DAY(3) TO SECOND(3)"),
        ("ARRAY<BIGINT>", pa.list_(pa.int64()), "ARRAY<BIGINT>"),
        (
            "INT NOT NULL ARRAY",
            pa.list_(pa.field("item", pa.int32(), False)),
            "ARRAY<INT NOT NULL>",
        ),
        ("MAP<INT, BOOLEAN>", pa.map_(pa.int32(), pa.bool_()), "MAP<INT NOT NULL, BOOLEAN>"),
        (
            "ROW<a BIGINT, `b c` STRING 'of it'>",
            pa.struct([("a", pa.int64()), ("b c", pa.utf8())]),
            "ROW<`a` BIGINT, `b c` VARCHAR(2147483647)>",
        ),
        (
            "ROW(a DATE NOT NULL)",
            pa.struct([pa.field("a", pa.date32(), False)]),
            "ROW<`a` DATE NOT NULL>",
        ),
        ("NULL", pa.null(), "NULL"),
    ],
)
def test_a_text_in_sql_has_an_arrow_type(text, type_, full):
    typed = typed_of_sql(text)

    assert (typed.type, typed.sql) == (type_, full)
    assert of_sql(text) == (type_, not full.endswith(" NULL"))
    assert of_sql(full) == of_sql(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "a type is expected, it has nothing more"),
        ("INTERVAL YEAR TO MONTH", "an interval of YEAR to MONTH is not a type it can have"),
        ("MULTISET<INT>", "MULTISET is not a type it can have"),
        ("VARCHAR(0)", "0 is not from 1 to 2147483647"),
        ("DECIMAL(39)", "39 is not from 1 to 38"),
        ("DECIMAL(3, 4)", "4 is not from 0 to 3"),
        ("TIMESTAMP(10)", "10 is not from 0 to 9"),
        ("TIMESTAMP WITH TIME ZONE", "'LOCAL' is expected, it has 'TIME'"),
        ("ARRAY<INT", "'>' is expected, it has nothing more"),
        ("ROW<a INT, a INT>", "two fields are named 'a'"),
        ("INT INT", "'INT' is not expected after the type"),
        ("INT; DROP", "';' is not expected there"),
        ("ARRAY<" * 60, "it is nested more than 50 deep"),
    ],
)
def test_a_text_that_is_no_type_is_refused(text, why):
    with pytest.raises(TypeError, match="cannot be read") as error:
        of_sql(text)

    assert why in str(error.value)


@given(st.text(alphabet="ROWARRAYMAPINT<>(), 0123456789`'NOTNULL.é", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        type_, nullable = of_sql(text)
    except TypeError:
        return
    assert of_sql(sql(type_, nullable)) == (type_, nullable)


SCALARS = [
    *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64()),
    *(pa.utf8(), pa.binary(), pa.binary(7), pa.date32(), pa.duration("ms")),
    *(pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC")),
]
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4)
DECIMALS = st.integers(1, 38).flatmap(
    lambda p: st.integers(0, p).map(lambda s: pa.decimal128(p, s))
)


def nested(inner):
    fields = st.dictionaries(NAMES, st.tuples(inner, st.booleans()), max_size=3)
    return st.one_of(
        st.builds(lambda t, n: pa.list_(pa.field("item", t, n)), inner, st.booleans()),
        st.builds(lambda k, t, n: pa.map_(k, pa.field("value", t, n)), inner, inner, st.booleans()),
        fields.map(lambda fs: pa.struct([pa.field(n, *field) for n, field in fs.items()])),
    )


TYPES = st.recursive(st.sampled_from(SCALARS) | DECIMALS, nested, max_leaves=6)


@given(TYPES, st.booleans())
def test_sql_brings_every_type_back(type_, nullable):
    assert of_sql(sql(type_, nullable)) == (type_, nullable)
    assert of_type(type_, nullable).type == type_


@given(TYPES, st.booleans())
def test_a_hint_brings_every_type_back(type_, nullable):
    typed = of_hint(hint_of(type_, nullable))

    assert (typed.type, typed.nullable) == (type_, nullable)
    assert typed.sql == sql(type_, nullable)


def test_names_of_fields_are_quoted():
    cls = TypedDict("Odd", {"a`b": int})

    assert of_hint(cls).sql == "ROW<`a``b` BIGINT NOT NULL> NOT NULL"


def test_the_root_has_no_length():
    assert [sql_root(t) for t in (pa.utf8(), pa.decimal128(3, 1), pa.timestamp("s", "UTC"))] == [
        "VARCHAR",
        "DECIMAL",
        "LOCALZONEDTIMESTAMP",
    ]


def test_what_sql_has_not_is_refused():
    with pytest.raises(TypeError, match="the Arrow type uint8 has no SQL name"):
        sql(pa.list_(pa.uint8()))


def flink(kind, nullable=True, **attributes):
    """An object of the shape that PyFlink's have."""
    return type(kind, (), {"_nullable": nullable, **attributes})()


class Resolution(enum.Enum):
    DAY_TO_SECOND = 4


@pytest.mark.parametrize(
    ("data_type", "full"),
    [
        (flink("BigIntType"), "BIGINT"),
        (flink("IntType", nullable=False), "INT NOT NULL"),
        (flink("VarCharType", length=2**31 - 1), "VARCHAR(2147483647)"),
        (flink("CharType", length=3), "CHAR(3)"),
        (flink("DecimalType", precision=10, scale=2), "DECIMAL(10, 2)"),
        (flink("TimeType", precision=0), "TIME(0)"),
        (flink("LocalZonedTimestampType", precision=3), "TIMESTAMP_LTZ(3)"),
        (flink("ArrayType", element_type=flink("BooleanType")), "ARRAY<BOOLEAN>"),
        (
            flink("MapType", key_type=flink("IntType"), value_type=flink("DateType")),
            "MAP<INT NOT NULL, DATE>",
        ),
        (
            flink("RowType", fields=[flink("RowField", name="a`b", data_type=flink("IntType"))]),
            "ROW<`a``b` INT>",
        ),
        (
            flink(
                "DayTimeIntervalType",
                resolution=Resolution.DAY_TO_SECOND,
                day_precision=2,
                fractional_precision=6,
            ),
            "INTERVAL DAY(2) TO SECOND(6)",
        ),
        ("ROW<a BIGINT>", "ROW<`a` BIGINT>"),
    ],
)
def test_types_of_pyflink_are_known_by_their_shape(data_type, full):
    assert typed_of_flink(data_type).sql == full
    assert of_flink(data_type) == of_sql(full)


@pytest.mark.parametrize(
    ("data_type", "why"),
    [
        (flink("RawType"), "the PyFlink type RawType is not one that it can have"),
        (42, "int is no type, expected a type of PyFlink's or one in SQL"),
        (flink("CharType"), "it has no 'length'"),
    ],
)
def test_other_objects_are_refused(data_type, why):
    with pytest.raises(TypeError, match=why):
        of_flink(data_type)
