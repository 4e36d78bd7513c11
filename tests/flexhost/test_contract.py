"""What leaves is what the schema declares."""

from __future__ import annotations

import datetime as dt
import decimal

import pyarrow as pa
import pytest

from flexhost.arrow.casts import lossless
from flexhost.contract import Stream, fit
from flexhost.errors import FunctionFailed


def column(values, type_=None):
    return pa.table({"c": pa.array(values, type_)})


def declared(type_, nullable=True):
    return pa.schema([pa.field("c", type_, nullable=nullable)])


DAY = dt.date(2026, 1, 2)
NOON = dt.datetime(2026, 1, 2, 12)


@pytest.mark.parametrize(
    ("values", "actual", "type_"),
    [
        ([1, None], pa.int32(), pa.int64()),
        ([1, 2], pa.int64(), pa.int8()),
        ([1, 2], pa.int64(), pa.float64()),
        ([1.0, 2.0], pa.float64(), pa.int64()),
        ([1.5, None], pa.float64(), pa.float32()),
        ([1, 2], pa.int64(), pa.decimal128(20, 2)),
        ([decimal.Decimal("1.50")], pa.decimal128(5, 2), pa.float64()),
        (["a", None], pa.string(), pa.large_string()),
        (["a", "b"], pa.string(), pa.string_view()),
        (["a", "b", "a"], pa.string(), pa.dictionary(pa.int32(), pa.string())),
        (["a", "b"], pa.dictionary(pa.int8(), pa.string()), pa.string()),
        ([1, 2], pa.dictionary(pa.int8(), pa.int32()), pa.int64()),
        ([b"a"], pa.binary(), pa.large_binary()),
        ([None, None], pa.null(), pa.string()),
        ([NOON], pa.timestamp("us"), pa.timestamp("ms")),
        ([[1, 2], None], pa.list_(pa.int32()), pa.list_(pa.int64())),
        ([{"a": 1}], pa.struct([("a", pa.int32())]), pa.struct([("a", pa.int64())])),
    ],
    ids=str,
)
def test_a_column_is_cast_where_every_value_survives(values, actual, type_):
    fitted = fit(column(values, actual), declared(type_), "f")

    assert fitted.schema == declared(type_)
    assert fitted["c"].to_pylist() == values


@pytest.mark.parametrize("scale", [39, -39, 2**31 - 1, -(2**31)])
def test_a_decimal_that_pyarrow_cannot_cast_is_refused(scale):
    one = pa.array([decimal.Decimal(1)], pa.decimal128(30, 0))
    wild = pa.Array.from_buffers(pa.decimal128(30, scale), 1, one.buffers())

    for sent, wanted in ((wild, pa.decimal128(38, 18)), (one, wild.type)):
        with pytest.raises(ValueError, match="not the same kind"):
            lossless(pa.chunked_array([sent]), wanted)


def test_days_and_timestamps_at_midnight_are_cast_to_each_other():
    midnight = dt.datetime(2026, 1, 2)

    assert fit(column([DAY]), declared(pa.timestamp("us")), "f")["c"].to_pylist() == [midnight]
    assert fit(column([midnight]), declared(pa.date32()), "f")["c"].to_pylist() == [DAY]


def test_an_instant_may_be_told_in_another_zone():
    noon = column([NOON], pa.timestamp("us", "America/New_York"))

    fitted = fit(noon, declared(pa.timestamp("ms", "Europe/Prague")), "f")

    assert fitted["c"][0].as_py() == noon["c"][0].as_py()


def test_not_a_number_survives_a_cast_below_the_top():
    fitted = fit(column([[1.5, float("nan")]], pa.list_(pa.float32())), LISTS, "f")

    assert str(fitted["c"].to_pylist()) == "[[1.5, nan]]"


LISTS = pa.schema([("c", pa.list_(pa.float64()))])


@pytest.mark.parametrize("values", [[[], None], [[None]]])
def test_a_list_of_nothing_fits_any_list(values):
    assert fit(column(values), LISTS, "f")["c"].to_pylist() == values


def test_not_a_number_survives_a_cast():
    fitted = fit(column([1.5, float("nan")]), declared(pa.float32()), "f")

    assert str(fitted["c"].to_pylist()) == "[1.5, nan]"


@pytest.mark.parametrize(
    ("actual", "type_"),
    [
        (column([1.5]), pa.int64()),
        (column([300]), pa.int8()),
        (column([2**53 + 1]), pa.float64()),
        (column([1e300]), pa.float32()),
        (column(["5"]), pa.int64()),
        (column([5]), pa.string()),
        (column([2]), pa.bool_()),
        (column([True]), pa.int64()),
        (column([dt.datetime(2026, 1, 2, 5)]), pa.date32()),
        (column([dt.datetime(2026, 1, 2, microsecond=1)], pa.timestamp("us")), pa.timestamp("ms")),
        (column([b"\xff"]), pa.string()),
        (column([{"a": 1}]), pa.list_(pa.int64())),
        (column([{"a": 1}]), pa.struct([("b", pa.int64())])),
        (column([[1]]), pa.int64()),
        (column([DAY]), pa.time32("s")),
        (column([NOON], pa.timestamp("us", "Europe/Prague")), pa.timestamp("us")),
        (column([NOON], pa.timestamp("us")), pa.timestamp("us", "Europe/Prague")),
        (column([NOON], pa.timestamp("us", "Europe/Prague")), pa.date32()),
        (column([DAY]), pa.timestamp("us", "Europe/Prague")),
        (column([[NOON]], pa.list_(pa.timestamp("us"))), pa.list_(pa.timestamp("us", "UTC"))),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else str(value.schema.types[0]),
)
def test_a_lossy_cast_or_another_kind_fails_with_function_column_and_both_types(actual, type_):
    with pytest.raises(FunctionFailed) as error:
        fit(actual, declared(type_), "sales")

    message = str(error.value)
    assert message.startswith(f"function 'sales': column 'c' is declared {type_}")
    assert f"the result has {actual.schema.types[0]}" in message


def test_nulls_where_none_may_be_fail():
    with pytest.raises(
        FunctionFailed, match="declared not nullable .int64., the result has 1 null"
    ):
        fit(column([1, None]), declared(pa.int64(), nullable=False), "f")


def test_a_column_without_nulls_may_be_declared_not_nullable():
    fitted = fit(column([1, 2]), declared(pa.int64(), nullable=False), "f")

    assert fitted.schema == declared(pa.int64(), nullable=False)


def test_columns_are_put_in_order_and_extra_ones_dropped():
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])

    fitted = fit(pa.table({"b": ["x"], "extra": [0], "a": [1]}), schema, "f")

    assert fitted.to_pydict() == {"a": [1], "b": ["x"]}


def test_a_missing_column_names_what_there_is():
    with pytest.raises(FunctionFailed, match="no column 'c' .declared int64.; it has 'a', 'b'"):
        fit(pa.table({"a": [1], "b": [2]}), declared(pa.int64()), "f")


def test_a_column_that_is_there_twice_fails():
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["c", "c"])

    with pytest.raises(FunctionFailed, match="2 columns named 'c'"):
        fit(twice, declared(pa.int64()), "f")


def test_the_metadata_of_a_result_is_kept_beside_the_declared():
    schema = declared(pa.int64()).with_metadata({"declared": "1", "both": "d"})
    table = column([1]).replace_schema_metadata({"messages": "[]", "both": "r"})

    for fitted in (fit(table, schema, "f"), fit(table.to_reader(), schema, "f")):
        assert fitted.schema.metadata == {b"declared": b"1", b"both": b"r", b"messages": b"[]"}


def test_a_stream_is_checked_before_its_first_batch_as_far_as_can_be():
    reader = column(["x"]).to_reader()

    with pytest.raises(FunctionFailed, match="declared int64, the result has string"):
        fit(reader, declared(pa.int64()), "f")


def test_a_stream_is_fitted_batch_by_batch():
    batches = [pa.record_batch({"c": pa.array([n], pa.int32())}) for n in (1, 2)]
    reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)

    stream = fit(reader, declared(pa.int64()), "f")

    assert isinstance(stream, Stream)
    assert stream.schema == declared(pa.int64())
    assert [t.to_pydict() for t in stream] == [{"c": [1]}, {"c": [2]}]


def test_a_lossy_value_in_a_later_batch_of_a_stream_fails_there():
    batches = [pa.record_batch({"c": pa.array([n])}) for n in (1.0, 1.5)]
    stream = fit(
        pa.RecordBatchReader.from_batches(batches[0].schema, batches), declared(pa.int64()), "f"
    )
    assert next(stream).to_pydict() == {"c": [1]}

    with pytest.raises(FunctionFailed, match="column 'c'"):
        next(stream)


def test_a_closed_stream_has_ended():
    stream = fit(column([1]).to_reader(), declared(pa.int64()), "f")

    stream.close()

    assert list(stream) == []


def test_a_table_as_declared_is_passed_on_without_a_copy():
    table = column([1, 2, 3])

    fitted = fit(table, declared(pa.int64()), "f")

    assert fitted["c"].chunk(0).buffers()[1].address == table["c"].chunk(0).buffers()[1].address


def test_a_schema_without_columns_keeps_the_rows():
    fitted = fit(column([1, 2]), pa.schema([]), "f")

    assert (fitted.num_columns, fitted.num_rows) == (0, 2)


def test_field_metadata_is_the_declared_for_tables_and_streams():
    ours = pa.schema([pa.field("c", pa.int64(), metadata={"unit": "m"})])
    theirs = column([1]).cast(pa.schema([pa.field("c", pa.int64(), metadata={"unit": "km"})]))

    for fitted in (fit(theirs, ours, "f"), fit(theirs.to_reader(), ours, "f")):
        assert fitted.schema.field("c").metadata == {b"unit": b"m"}


def test_two_thousand_columns_are_fitted():
    wide = pa.table({f"c{n}": [n] for n in range(2000)})
    schema = pa.schema([(f"c{n}", pa.int64()) for n in reversed(range(2000))])

    assert fit(wide, schema, "f").schema == schema
