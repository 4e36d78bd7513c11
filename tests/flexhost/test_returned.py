"""What a function may return, whatever it is made of."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import subprocess
import sys

import pyarrow as pa
import pytest
from support import SCHEMA, function, serving, until

from flexhost import BadArgument
from flexhost.calls.returned import arrow
from flexhost.contract import Stream, fit
from flexhost.errors import FunctionFailed

TABLE = pa.table({"n": [1, 2, 3]})
BATCH = pa.record_batch({"n": [1, 2, 3]})


class OnlyStream:
    """Something of another package that has its data for Arrow."""

    def __arrow_c_stream__(self, requested_schema=None):
        return TABLE.__arrow_c_stream__(requested_schema)


class OnlyArray:
    def __arrow_c_array__(self, requested_schema=None):
        return BATCH.__arrow_c_array__(requested_schema)


def pandas_frame():
    return pytest.importorskip("pandas", reason="make dev installs it").DataFrame({"n": [1, 2, 3]})


def polars_frame():
    return pytest.importorskip("polars", reason="make dev installs it").DataFrame({"n": [1, 2, 3]})


def fitted(returned, schema=SCHEMA):
    return fit(arrow(returned, schema, "f"), schema, "f")


def rows_of(returned, schema=SCHEMA):
    found = fitted(returned, schema)
    tables = [found.schema.empty_table(), *found] if isinstance(found, Stream) else [found]
    return pa.concat_tables(tables).to_pylist()


@pytest.mark.parametrize(
    "make",
    [
        lambda: TABLE,
        lambda: BATCH,
        lambda: TABLE.to_reader(),
        lambda: [{"n": 1}, {"n": 2}, {"n": 3}],
        lambda: [BATCH.slice(0, 1), TABLE.slice(1)],
        lambda: (TABLE.slice(n, 1) for n in range(3)),
        lambda: iter([BATCH]),
        OnlyStream,
        OnlyArray,
        pandas_frame,
        polars_frame,
    ],
)
def test_whatever_has_the_rows_is_a_result(make):
    assert rows_of(make()) == [{"n": 1}, {"n": 2}, {"n": 3}]


@pytest.mark.parametrize("make", [lambda: [], lambda: (), lambda: iter([])])
def test_nothing_at_all_is_a_result_without_rows(make):
    assert rows_of(make()) == []


def test_what_comes_piece_by_piece_is_a_stream_and_what_is_there_a_table():
    assert isinstance(fitted(iter([BATCH])), Stream)
    assert isinstance(fitted(OnlyStream()), Stream)
    assert isinstance(fitted([BATCH]), pa.Table)


def test_a_frame_of_pandas_leaves_its_index_and_its_notes_behind():
    frame = pandas_frame().set_index(pandas_frame()["n"].rename("key"))

    table = fitted(frame, pa.schema([("n", pa.float64()), ("key", pa.int64())]))

    assert table.to_pydict() == {"n": [1.0, 2.0, 3.0], "key": [1, 2, 3]}
    assert table.schema.metadata is None


@pytest.mark.parametrize("nothing", [[math.nan] * 2, [None] * 2, []])
@pytest.mark.parametrize(
    "type_",
    [pa.string(), pa.date32(), pa.int64(), pa.bool_(), pa.timestamp("us", "UTC")],
    ids=str,
)
def test_a_column_of_a_pandas_frame_without_values_fits_any_type(nothing, type_):
    pandas = pytest.importorskip("pandas", reason="make dev installs it")
    schema = pa.schema([("c", type_)])

    table = fitted(pandas.DataFrame({"c": nothing}), schema)

    assert table.to_pydict() == {"c": [None] * len(nothing)}
    assert table.schema == schema


def test_a_column_of_a_pandas_frame_without_values_is_no_column_without_nulls():
    pandas = pytest.importorskip("pandas", reason="make dev installs it")
    schema = pa.schema([pa.field("c", pa.string(), nullable=False)])

    with pytest.raises(FunctionFailed, match=r"not nullable \(string\), the result has 1 nulls"):
        fitted(pandas.DataFrame({"c": [math.nan]}), schema)


def test_serving_imports_neither_pandas_nor_polars():
    code = (
        "import flexhost.cli, flexhost.calls.returned, sys; "
        "print({'pandas','polars'} & {*sys.modules})"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert printed.stdout == "set()\n"


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returned NoneType, expected a pyarrow.Table"),
        ("text", "returned str, expected a pyarrow.Table"),
        ({"n": [1]}, "returned dict, expected a pyarrow.Table"),
        (5, "returned int, expected a pyarrow.Table"),
        (iter([{"n": 1}]), "gave dict among its batches, expected a pyarrow.RecordBatch"),
        (iter([BATCH, None]), "gave NoneType among its batches"),
        ([{"n": 1}, 5], "row 1 is 5, expected a dict"),
        ([BATCH, {"n": 1}], "gave dict among its batches"),
        ([["n", 1]], "row 0 is ['n', 1], expected a dict"),
        (pa.chunked_array([[1]]), "returned ChunkedArray, which is no table: "),
        (pa.array([1]), "returned Int64Array, which is no table: "),
    ],
)
def test_anything_else_fails_the_call_and_is_named(returned, message):
    with pytest.raises(FunctionFailed) as error:
        rows_of(returned)

    assert str(error.value).startswith("function 'f'")
    assert message in str(error.value)


def test_batches_are_fitted_each_for_itself():
    floats = pa.table({"n": [2.0], "more": ["x"]})

    assert rows_of(iter([TABLE, floats])) == rows_of([TABLE, floats])
    with pytest.raises(FunctionFailed, match="column 'n' is declared int64, the result has string"):
        rows_of(iter([TABLE, pa.table({"n": ["x"]})]))


def test_dictionaries_survive_batch_by_batch():
    schema = pa.schema([("n", pa.dictionary(pa.int8(), pa.string()))])
    batches = [pa.record_batch([pa.array([v]).dictionary_encode()], ["n"]) for v in ("a", "b")]

    assert [row["n"] for row in rows_of(iter(batches), schema)] == ["a", "b"]


def test_the_metadata_of_the_first_batch_is_that_of_the_stream():
    told = TABLE.replace_schema_metadata({"k": "v"})

    assert fitted(iter([told])).schema.metadata == {b"k": b"v"}
    assert fitted([told]).schema.metadata == {b"k": b"v"}


def test_a_generator_that_fails_before_its_first_batch_fails_the_call():
    def call(parameters, columns, headers):
        raise BadArgument("upto", "too far")
        yield BATCH

    with serving(function(call)) as client:
        with pytest.raises(pa.ArrowException, match="upto: too far"):
            client.ticket()


def test_a_generator_is_a_stream_over_the_wire_and_closed_when_its_reader_leaves():
    closed = []

    def call(parameters, columns, headers):
        try:
            for n in range(1000):
                yield pa.table({"n": [n] * 100_000})
        finally:
            closed.append(1)

    with serving(function(call)) as client:
        reader = client.flight.do_get(client.ticket())
        assert reader.read_chunk().data["n"][0].as_py() == 0
        reader.cancel()
        del reader
        until(lambda: closed)


MIDNIGHT = dt.datetime(2026, 1, 2)
ROWS = [
    (pa.int64(), [1, None, 2.0]),
    (pa.uint64(), [2**64 - 1, 1]),
    (pa.float64(), [1, 2.5, decimal.Decimal("0.5"), None]),
    (pa.float32(), [1.5, None]),
    (pa.decimal128(38, 2), [decimal.Decimal("1.50"), 2, 10**30]),
    (pa.string(), ["a", None]),
    (pa.dictionary(pa.int8(), pa.string()), ["a", "b", "a"]),
    (pa.date32(), [MIDNIGHT.date(), MIDNIGHT]),
    (pa.timestamp("us"), [MIDNIGHT, MIDNIGHT.date()]),
    (pa.timestamp("us", "UTC"), [MIDNIGHT.replace(tzinfo=dt.timezone.utc)]),
    (pa.bool_(), [True, None]),
    (pa.list_(pa.int64()), [[1, 2], [], None, (3,)]),
    (pa.list_(pa.int64(), 2), [[1, 2]]),
    (pa.map_(pa.string(), pa.int64()), [{"a": 1}, [("b", 2)]]),
    (pa.struct([("a", pa.int64()), ("b", pa.string())]), [{"b": "x", "a": 1}, {"a": 2}, None]),
    (pa.null(), [None]),
]


@pytest.mark.parametrize(("type_", "values"), ROWS, ids=str)
def test_dicts_become_columns_of_the_declared_types(type_, values):
    schema = pa.schema([("c", type_)])

    table = fitted([{"c": value, "more": 1} for value in values], schema)

    assert table.schema == schema
    for value, came in zip(values, table["c"].to_pylist(), strict=True):
        if isinstance(value, dict) and isinstance(came, dict):
            assert came == {"a": None, "b": None, **value}
        elif isinstance(value, dict):
            assert dict(came) == value
        elif isinstance(value, dt.date):
            assert came in (value, MIDNIGHT, MIDNIGHT.date())
        else:
            assert came == (list(value) if isinstance(value, tuple) else value)


def test_not_a_number_in_a_dict_stays_so():
    assert math.isnan(rows_of([{"n": math.nan}], pa.schema([("n", pa.float64())]))[0]["n"])


@pytest.mark.parametrize(
    ("type_", "value", "came"),
    [
        (pa.int64(), "5", "'5' (string)"),
        (pa.int64(), 1.5, "1.5 (double)"),
        (pa.int64(), True, "True (bool)"),
        (pa.float64(), True, "True (bool)"),
        (pa.float64(), 2**53 + 1, "9007199254740993 (int64)"),
        (pa.float32(), 1e300, "1e+300 (double)"),
        (pa.int8(), 300, "300 (int64)"),
        (pa.string(), 5, "5 (int64)"),
        (pa.bool_(), 1, "1 (int64)"),
        (pa.date32(), dt.datetime(2026, 1, 2, 5), "(timestamp[us])"),
        (pa.timestamp("us", "UTC"), MIDNIGHT, "(timestamp[us])"),
        (pa.timestamp("us"), MIDNIGHT.replace(tzinfo=dt.timezone.utc), "tz=UTC])"),
        (pa.string(), object, "(type)"),
        (pa.list_(pa.float64()), [True], "[True] (list<item: bool>)"),
        (pa.list_(pa.date32()), [dt.datetime(2026, 1, 2, 5)], "(list<item: timestamp[us]>)"),
        (pa.struct([("a", pa.int64())]), {"a": "x"}, "{'a': 'x'} (struct<a: string>)"),
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_is_told_with_row_column_and_both_types(type_, value, came):
    rows = [{"c": None}, {"c": None}, {"c": value}]

    with pytest.raises(FunctionFailed) as error:
        fitted(rows, pa.schema([("c", type_)]))

    assert f"function 'f': row 2, column 'c' is declared {type_}, the row has " in str(error.value)
    assert came in str(error.value)


def test_a_missing_key_and_a_forbidden_none_are_told_with_their_row():
    required = pa.schema([pa.field("n", pa.int64(), nullable=False)])

    with pytest.raises(FunctionFailed, match=r"row 1 has no 'n' \(declared int64\); it has \['m"):
        rows_of([{"n": 1}, {"m": 2}])
    with pytest.raises(FunctionFailed, match="row 1, column 'n' is declared int64 not null, the "):
        rows_of([{"n": 1}, {"n": None}], required)


def test_only_the_columns_that_are_asked_for_are_built():
    with serving(function(lambda *_: [{"a": 1}], schema=AB)) as client:
        assert client.call(columns=["a"]).to_pylist() == [{"a": 1}]


AB = pa.schema([("a", pa.int64()), ("b", pa.int64())])


def test_rows_without_columns_are_counted():
    assert fitted([{}, {}], pa.schema([])).num_rows == 2
