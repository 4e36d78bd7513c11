"""Plain functions with type hints: called with batches, and with parameters."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from batches_given import answer, rows
from support import flight_code, serving

from flexhost import BadArgument, udf
from flexhost.errors import BadCall, FunctionFailed
from flexhost.functions.describe import describe
from flexhost.values import columns
from flexhost.values.type_table import TABLE, Point
from flexhost.values.types import of_hint

batch = pa.record_batch


def add(i: int, j: int) -> int:
    return i + j


def scaled(x: float, by: float = 2.0, plus: float | None = None) -> float:
    return x * by + (plus or 0.0)


def series(n: int) -> Iterator[int]:
    yield from range(n)


class Word(NamedTuple):
    text: str
    size: int


def words(line: str, least: int = 0) -> Iterator[Word]:
    return (Word(word, len(word)) for word in line.split() if len(word) >= least)


@dataclass
class Day:
    day: dt.date
    weekday: int | None


def days(first: dt.date, many: int) -> list[Day]:
    return [Day(first + dt.timedelta(days=n), None) for n in range(many)]


def answer_to_all() -> int:
    return 42


def doubled(x: pa.Int64Array) -> pa.Int64Array:
    return pc.multiply(x, 2)


def test_a_scalar_answers_a_row_for_each_row():
    table = answer(add, batch({"a": [1, 2, 3], "b": [10, 20, 30]}))

    assert table.schema == pa.schema([pa.field("result", pa.int64(), False)])
    assert table["result"].to_pylist() == [11, 22, 33]


def test_columns_are_taken_by_position_and_cast_where_that_loses_nothing():
    given = batch([pa.array([1, 2], pa.int8()), pa.array([3, 4]).dictionary_encode()], ["z", "i"])

    assert answer(add, given)["result"].to_pylist() == [4, 6]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"a": [1]}, r"function 'add' takes 2 columns \(i, j\), it was given 1"),
        ({"a": [1], "b": [1], "c": [1]}, "it was given 3"),
        ({"a": [1], "b": ["x"]}, "argument 'j' is int64, the column has string: not the same kind"),
        ({"a": [1], "b": [1.5]}, "argument 'j' is int64, the column has double"),
    ],
)
def test_a_batch_that_is_not_what_it_takes_is_a_bad_argument(given, told):
    with pytest.raises(BadCall, match=told):
        answer(add, batch(given))


Moment = Annotated[dt.datetime, pa.timestamp("us", "+00:00")]


@pytest.mark.parametrize("given", ["UTC", "+00:00"])
def test_utc_may_be_written_in_two_ways(given):
    def day_after(at: Moment) -> Moment:
        return at + dt.timedelta(days=1)

    at = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
    table = answer(day_after, batch([pa.array([at], pa.timestamp("us", given))], ["at"]))

    assert table.schema.field("result").type == pa.timestamp("us", "+00:00")
    assert table["result"].to_pylist() == [dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc)]


@dataclass
class Positive:
    value: int

    def __post_init__(self):
        if self.value <= 0:
            raise ValueError("not positive")


@pytest.mark.parametrize(
    ("hint", "made"),
    [
        (Positive, lambda value: {"value": value}),
        (Positive | None, lambda value: value and {"value": value}),
        (list[Positive], lambda value: [{"value": 1}, {"value": value}]),
        (dict[str, Positive], lambda value: [("a", {"value": value})]),
    ],
    ids=str,
)
def test_what_the_class_of_an_argument_raises_names_its_row(hint, made):
    def one(x) -> int:
        return 1

    one.__annotations__["x"] = hint
    given = pa.array([made(n) for n in (1, 2, -3)], of_hint(hint).type)

    with pytest.raises(FunctionFailed, match="^row 2: ValueError: not positive$"):
        answer(one, batch([given], ["x"]))


def test_a_map_may_have_texts_of_another_width():
    def total(prices: dict[str, int]) -> int:
        return sum(prices.values())

    given = pa.array([[("a", 1), ("b", 2)]], pa.map_(pa.large_string(), pa.int32()))

    assert answer(total, batch([given], ["prices"]))["result"].to_pylist() == [3]
    with pytest.raises(BadCall, match="'prices' is map.* not the same kind"):
        answer(total, batch([given.cast(pa.map_(pa.large_string(), pa.string()))], ["prices"]))


def test_columns_of_arguments_with_defaults_may_be_missing_from_the_end():
    assert describe(scaled).over_batches.arguments.names == ["x"]
    assert answer(scaled, batch({"x": [1.0]}))["result"].to_pylist() == [2.0]
    assert answer(scaled, batch({"x": [1.0], "b": [3.0]}))["result"].to_pylist() == [3.0]
    given = batch({"x": [1.0], "b": [3.0], "p": pa.array([None], pa.float64())})
    assert answer(scaled, given)["result"].to_pylist() == [3.0]


def test_a_function_without_arguments_is_called_once_for_each_row():
    assert answer(answer_to_all, rows(3))["result"].to_pylist() == [42, 42, 42]
    assert answer(answer_to_all, rows(0))["result"].to_pylist() == []
    assert answer(answer_to_all, {})["result"].to_pylist() == [42]


def test_null_is_none():
    def told(x: int | None) -> str | None:
        return None if x is None else f"{x}"

    table = answer(told, batch({"x": [1, None]}))

    assert table["result"].to_pylist() == ["1", None]


def test_rows_with_a_null_are_skipped_with_null_in_null_out():
    called = []

    @udf(null_in_null_out=True)
    def put_together(a: int, b: int) -> int:
        called.append((a, b))
        return a + b

    table = answer(put_together, batch({"a": [1, None, 3, 4], "b": [1, 2, None, 4]}))

    assert table["result"].to_pylist() == [2, None, None, 8]
    assert table.schema.field("result").nullable
    assert all(field.nullable for field in describe(put_together).arguments)
    assert called == [(1, 1), (4, 4)]


def test_a_table_function_skips_them_too():
    @udf(null_in_null_out=True)
    def up_to(n: int) -> Iterator[int]:
        yield from range(n)

    assert answer(up_to, batch({"n": [None, 2]})).to_pydict() == {"row": [1, 1], "result": [0, 1]}


@pytest.mark.parametrize("nulls", [False, True])
def test_an_exception_names_its_type_its_text_and_its_row(nulls):
    @udf(null_in_null_out=nulls)
    def over(a: int | None) -> int:
        return 12 // a

    with pytest.raises(FunctionFailed) as told:
        answer(over, batch({"a": [1, 2, 0, None] if not nulls else [1, None, 0]}))

    assert told.value.code == "COMMAND_FAILED"
    assert str(told.value) == "row 2: ZeroDivisionError: integer division or modulo by zero"
    assert "test_hinted.py:" in told.value.detail


def test_a_value_error_of_a_row_is_no_bad_argument_and_a_bad_argument_is():
    def number(text: str) -> int:
        if text == "worse":
            raise BadArgument("text", "is worse")
        return int(text)

    with pytest.raises(FunctionFailed, match="^row 1: ValueError: invalid literal") as told:
        answer(number, batch({"t": ["1", "x"]}))
    assert told.value.code == "COMMAND_FAILED"
    with pytest.raises(BadCall, match="^row 0: text: is worse$"):
        answer(number, batch({"t": ["worse"]}))


def test_stop_iteration_is_no_end_of_the_rows():
    def stops(n: int) -> int:
        raise StopIteration

    with pytest.raises(FunctionFailed, match="row 0: RuntimeError: .* StopIteration"):
        answer(stops, batch({"n": [1, 2]}))


@pytest.mark.parametrize("value", ["x", None, 1 << 63, 1.5])
def test_a_result_that_does_not_fit_names_row_value_and_type(value):
    def wrong(n: int) -> int:
        return value if n == 1 else n

    with pytest.raises(FunctionFailed) as told:
        answer(wrong, batch({"n": [0, 1, 2]}))

    assert told.value.code == "COMMAND_FAILED"
    assert str(told.value).startswith(f"row 1: the result is {value!r}, ")
    assert "int64" in str(told.value)


def test_a_table_function_says_for_which_row_each_of_its_rows_is():
    table = answer(series, batch({"n": [2, 0, 1]}))

    row = pa.field("row", pa.int32(), False)
    assert table.schema == pa.schema([row, pa.field("result", pa.int64(), False)])
    assert table.to_pydict() == {"row": [0, 0, 2], "result": [0, 1, 0]}


def test_rows_with_fields_are_a_struct_over_batches_and_columns_over_parameters():
    table = answer(words, batch({"line": ["a bcd"]}))
    flat = answer(words, {"line": "a bcd", "least": 2})

    assert table["result"].to_pylist() == [{"text": "a", "size": 1}, {"text": "bcd", "size": 3}]
    assert flat.to_pydict() == {"text": ["bcd"], "size": [3]}
    assert flat.schema == describe(words).schema


def test_a_list_of_records_makes_a_table_function():
    table = answer(days, {"first": "2024-02-28", "many": 2})

    assert table.to_pylist() == [
        {"day": dt.date(2024, 2, 28), "weekday": None},
        {"day": dt.date(2024, 2, 29), "weekday": None},
    ]


def test_many_rows_come_in_their_order():
    table = answer(series, batch({"n": [20_000, 5]}))

    assert table.num_rows == 20_005
    assert table["row"].to_pylist() == [0] * 20_000 + [1] * 5
    assert table["result"].to_pylist() == [*range(20_000), *range(5)]


def test_it_gives_no_batch_of_more_rows_than_a_bound():
    function = describe(series).over_batches
    made = function.create()
    made.params = function.parameters.read(batch({"n": [20_000]}))

    sizes = [one.num_rows for one in made.call({}, None, {})]
    assert max(sizes) <= 8192
    assert sum(sizes) == 20_000


def test_what_is_wrong_in_a_table_function_names_its_row():
    def some(n: int) -> Iterator[int]:
        yield n
        if n == 2:
            raise LookupError("no more")
        yield "x" if n == 3 else n

    with pytest.raises(FunctionFailed, match="^row 1: LookupError: no more$"):
        answer(some, batch({"n": [1, 2]}))
    with pytest.raises(FunctionFailed, match="^row 2: the result is 'x', .*int64"):
        answer(some, batch({"n": [0, 1, 3]}))


def test_a_function_of_arrays_gets_them_as_they_are():
    seen = []

    def same(x: pa.Int64Array) -> pa.Int64Array:
        seen.append(x)
        return x

    column = pa.array([1, 2, None])
    table = answer(same, batch({"x": column}))

    assert [one.address for one in seen[0].buffers()] == [one.address for one in column.buffers()]
    assert table["result"].chunk(0).buffers()[1].address == column.buffers()[1].address


def test_what_a_function_of_arrays_gives_has_to_fit():
    def too_short(x: pa.Int64Array) -> pa.Int64Array:
        return x[:1]

    def text(x: pa.Int64Array) -> pa.Int64Array:
        return x.cast(pa.utf8())

    def narrow(x: pa.Int64Array) -> pa.Int64Array:
        return pa.chunked_array([x.cast(pa.int8())])

    def nothing(x: pa.Int64Array) -> pa.Int64Array: ...

    given = batch({"x": [1, 2]})
    assert answer(narrow, given)["result"].to_pylist() == [1, 2]
    with pytest.raises(FunctionFailed, match="the function gave 1 values for 2 rows"):
        answer(too_short, given)
    with pytest.raises(FunctionFailed, match="'result' is declared int64, the result has string"):
        answer(text, given)
    with pytest.raises(FunctionFailed, match="gave NoneType, expected a pyarrow.Array"):
        answer(nothing, given)


def test_parameters_are_typed_by_their_hints():
    assert answer(scaled, {"x": 2, "plus": 1})["result"].to_pylist() == [5.0]
    assert answer(doubled, {"x": 21})["result"].to_pylist() == [42]
    assert describe(scaled).metadata["parameters"]["properties"]["by"]["default"] == 2.0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"i": 1}, "j is missing"),
        ({"i": 1, "j": "2"}, "j is '2', expected int"),
        ({"i": 1, "j": None}, "j is None, expected int"),
        ({"i": 1, "j": 2, "k": 3}, "there is no parameter 'k'"),
        ({"i": 1, "j": 1 << 63}, "j is 9223372036854775808"),
    ],
)
def test_wrong_parameters_are_a_bad_argument(given, told):
    with pytest.raises(BadCall, match=told):
        answer(add, given)


def test_columns_and_the_context_stand_beside_the_parameters():
    given = {"line": "a b", "columns": ["size"], "executionContext": {}, "more": 1}

    assert answer(words, given, ("size",)).to_pydict() == {"size": [1, 1]}


def test_a_plain_function_is_called_over_a_socket():
    with serving(add, words) as client:
        assert client.call("add", i=1, j=2).to_pydict() == {"result": [3]}
        assert client.call("words", line="a bcd").to_pydict() == {
            "text": ["a", "bcd"],
            "size": [1, 3],
        }
        with pytest.raises(pa.flight.FlightServerError) as told:
            client.call("add", i="one", j=2)

    code, message = flight_code(told.value)
    assert code == 1
    assert message.startswith("i is 'one', expected int")


VALUES = {
    "BOOLEAN": (True, False),
    "BIGINT": (-(1 << 63), (1 << 63) - 1),
    "DOUBLE": (-0.1, 1e300),
    "STRING": ("", "hé"),
    "BYTES": (b"", b"\x00\xff"),
    "TINYINT": (-128, 127),
    "SMALLINT": (-2, 300),
    "INT": (-(1 << 31), 7),
    "FLOAT": (1.5, -2.0),
    "BINARY(16)": (b"0123456789abcdef", bytes(16)),
    "DECIMAL(38, 18)": (Decimal("1.5"), Decimal("-0.000000000000000001")),
    "DECIMAL(10, 2)": (Decimal("1.23"), Decimal("-0.01")),
    "DATE": (dt.date(1, 1, 1), dt.date(2020, 1, 2)),
    "TIME(6)": (dt.time(), dt.time(1, 2, 3, 4)),
    "TIME(0)": (dt.time(), dt.time(1, 2, 3)),
    "TIMESTAMP(6)": (dt.datetime(2020, 1, 2, 3, 4, 5, 6), dt.datetime(1, 1, 1)),
    "TIMESTAMP(3)": (dt.datetime(2020, 1, 2, 3, 4, 5, 6000),),
    "TIMESTAMP_LTZ(6)": (dt.datetime(2020, 1, 2, tzinfo=dt.timezone.utc),),
    "INTERVAL DAY TO SECOND": (dt.timedelta(days=1, milliseconds=5), dt.timedelta(days=-1)),
    "ARRAY<BIGINT NOT NULL>": ([], [1, 2]),
    "ARRAY<BIGINT>": ([None], [1, None]),
    "MAP<STRING, DOUBLE NOT NULL>": ({}, {"a": 1.5}),
    "ROW<x DOUBLE NOT NULL, y DOUBLE>": (Point(1.0, None), Point(0.5, 2.0)),
}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.sql)
def test_a_value_of_each_type_arrives_and_leaves_as_it_is(row):
    seen = []
    same = giving_back(row.hint, seen)
    values = list(VALUES[row.sql])
    column = columns.array(values, row.type, False)

    assert answer(same, batch({"value": column}))["result"].chunk(0).equals(column)
    assert seen == values
    assert [type(one) for one in seen] == [type(one) for one in values]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.sql)
def test_a_value_of_each_type_is_a_parameter_too(row):
    for value in VALUES[row.sql]:
        seen = []
        same = giving_back(row.hint, seen)
        sent = msgspec.json.decode(msgspec.json.encode({"value": value}))

        table = answer(same, sent)

        assert seen == [value]
        assert table["result"].chunk(0).equals(columns.array([value], row.type, False))


def giving_back(hint, seen):
    def same(value):
        seen.append(value)
        return value

    same.__annotations__.update(value=hint, **{"return": hint})
    return same
