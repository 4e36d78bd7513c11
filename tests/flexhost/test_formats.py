"""What `flexhost call` writes, value by value; and what it shows of a table."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flexhost.command_line.formats import FORMATS, Sink
from flexhost.command_line.plain_values import plain
from flexhost.command_line.shown_table import show

DAY, MOMENT = dt.date(2026, 1, 31), dt.datetime(2026, 1, 31, 12, 30)
TABLE = pa.table(
    {
        "n": pa.array([2**60 + 1, None]),
        "text": pa.array(['a "b",\nc', ""]),
        "price": pa.array([Decimal("1.50"), None]),
        "day": pa.array([DAY, None]),
        "at": pa.array([MOMENT, None], pa.timestamp("us", "Europe/Prague")),
        "raw": pa.array([b"\x00a", None]),
        "tags": pa.array([["x", None], None]),
        "kind": pa.array(["a", "b"]).dictionary_encode(),
    }
)


def written(kind, *tables):
    sink = io.BytesIO()
    writer = FORMATS[kind](Sink(sink), tables[0].schema)
    for table in tables:
        writer.write(table)
    writer.close()
    return sink.getvalue()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pa.array([2**63 - 1]), [2**63 - 1]),
        (pa.array([0.1, None]).cast(pa.float16()), [pytest.approx(0.1, rel=1e-3), None]),
        (pa.array([DAY]), ["2026-01-31"]),
        (pa.array([MOMENT], pa.timestamp("s")), ["2026-01-31T12:30:00"]),
        (pa.array([1], pa.timestamp("ns", "Europe/Prague")), ["1970-01-01T00:00:00.000000001Z"]),
        (pa.array([-(10**11)], pa.timestamp("s")), ["-1199-02-15T14:13:20"]),
        (pa.array([1], pa.time64("ns")), ["00:00:00.000000001"]),
        (pa.array([90], pa.duration("s")), [90]),
        (pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (pa.array([[DAY, None], None]), [["2026-01-31", None], None]),
        (pa.array([{"a": 1, "b": [DAY]}, None]), [{"a": 1, "b": ["2026-01-31"]}, None]),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())), [[["k", 1]]]),
        (pa.chunked_array([["a"], [None]]), ["a", None]),
        (pa.nulls(1), [None]),
    ],
)
def test_a_value_is_what_json_has_for_it(column, values):
    assert plain(column) == values


def test_a_moment_that_has_no_date_is_no_text():
    with pytest.raises(pa.ArrowInvalid, match="beyond the years"):
        plain(pa.array([-(10**17)], pa.timestamp("s")))


def test_json_is_an_object_a_line():
    first, second = [json.loads(line) for line in written("json", TABLE).splitlines()]

    assert first == {
        "n": 2**60 + 1,
        "text": 'a "b",\nc',
        "price": "1.50",
        "day": "2026-01-31",
        "at": "2026-01-31T12:30:00.000000Z",
        "raw": "AGE=",
        "tags": ["x", None],
        "kind": "a",
    }
    assert second == {**dict.fromkeys(first), "text": "", "kind": "b"}


def test_json_has_null_for_what_it_has_no_number_for():
    numbers = pa.table({"f": [float("nan"), float("inf"), 1.5]})

    assert written("json", numbers) == b'{"f":null}\n{"f":null}\n{"f":1.5}\n'


def test_csv_tells_nothing_from_an_empty_text():
    head, *_, last = written("csv", TABLE).decode().splitlines()
    [_, row, _] = csv.reader(io.StringIO(written("csv", TABLE).decode()))

    assert head == '"n","text","price","day","at","raw","tags","kind"'
    assert row[:3] == [str(2**60 + 1), 'a "b",\nc', "1.50"]
    assert row[3:] == ["2026-01-31", "2026-01-31T12:30:00.000000Z", "AGE=", '["x",null]', "a"]
    assert last == ',"",,,,,,"b"'


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("parquet", lambda data: pq.read_table(io.BytesIO(data))),
        ("arrow", lambda data: pa.ipc.open_stream(data).read_all()),
    ],
)
def test_binary_formats_keep_the_table_as_it_is(kind, read):
    again = read(written(kind, TABLE, TABLE.slice(0, 0), TABLE))

    assert again.to_pylist() == [*TABLE.to_pylist(), *TABLE.to_pylist()]
    assert again.schema.field("at").type == pa.timestamp("us", "Europe/Prague")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_result_without_rows_is_complete(kind):
    empty = written(kind, TABLE.schema.empty_table())

    assert (empty == b"") == (kind == "json")


def shown(table, **options):
    text = io.StringIO()
    left = show(table, text, **{"terminal": False, **options})
    return text.getvalue(), left


def test_a_table_is_aligned_numbers_to_the_right():
    text, left = shown(pa.table({"city": ["Brno", None], "people": [402_739, 5]}))

    assert text == "city  people\n----  ------\nBrno  402739\nnull       5\n"
    assert left == []


def test_a_cell_is_one_line_that_no_terminal_obeys():
    text, _ = shown(pa.table({"t": ["a\nb\x1b[31m", "x" * 99]}))

    assert text.splitlines()[2:] == ["a\\nb\\x1b[31m", "x" * 59 + "…"]


def test_columns_without_room_on_a_terminal_are_told(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    text, left = shown(pa.table({f"c{n}": ["x" * 10] for n in range(4)}), terminal=True)

    assert text.split()[:2] == ["c0", "c1"]
    assert left == ["c2", "c3"]
    assert max(map(len, text.splitlines())) <= 30


def test_a_table_without_rows_or_columns_can_be_shown():
    assert shown(pa.table({"city": pa.array([], pa.string())}))[0] == "city\n----\n"
    assert shown(pa.table({}))[0].startswith("no column")
