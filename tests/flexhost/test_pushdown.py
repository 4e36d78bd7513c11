"""What each filter means, and who applies it. That all renderings mean the same is held by
test_pushdown_renderings; here each rule is looked at in all that need no server."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from contexts import between, but, context, match, only, shifted

from flexhost.errors import BadCall, FunctionFailed
from flexhost.pushdown import Filters

REGIONS = ["EU", "eu", "US", None]


def kept(values, *filters, type_=None, **fields):
    """The values of a column `c` that stay, as each rendering has it."""
    column = pa.array(values, type_)
    table = pa.table({"c": column, "row": pa.array(range(len(column)))})
    made = Filters.of(context(*filters, **fields), table.schema)
    assert not made.not_taken
    rows = made.apply(table)["row"].to_pylist()
    stays = made.predicate()
    assert [row["row"] for row in table.to_pylist() if stays(row)] == rows
    assert in_duckdb(table, made.sql()) == rows
    return column.take(pa.array(rows, pa.int64())).to_pylist()


def in_duckdb(table, where):
    with duckdb.connect() as connection:
        connection.register("arrow", table)
        connection.execute("CREATE TABLE data AS FROM arrow")
        sql = f"SELECT row FROM data WHERE {where.text} ORDER BY 1"
        return [row for (row,) in connection.execute(sql, where.parameters).fetchall()]


def test_a_positive_filter_keeps_the_values_it_lists():
    assert kept(REGIONS, only("c", "EU", "US")) == ["EU", "US"]


def test_a_positive_filter_keeps_null_only_when_it_lists_null():
    assert kept(REGIONS, only("c", "EU", None)) == ["EU", None]


def test_a_positive_filter_that_lists_nothing_keeps_nothing():
    assert kept(REGIONS, only("c")) == []


def test_a_positive_filter_of_null_alone_keeps_null_alone():
    assert kept(REGIONS, only("c", None)) == [None]


def test_a_negative_filter_keeps_null_unless_it_lists_null():
    assert kept(REGIONS, but("c", "EU")) == ["eu", "US", None]
    assert kept(REGIONS, but("c", "EU", None)) == ["eu", "US"]
    assert kept(REGIONS, but("c", None)) == ["EU", "eu", "US"]


def test_a_negative_filter_that_lists_nothing_keeps_everything():
    assert kept(REGIONS, but("c")) == REGIONS


def test_all_filters_of_a_column_must_hold():
    assert kept(REGIONS, but("c", "EU"), only("c", "EU", "US")) == ["US"]


@pytest.mark.parametrize(
    ("match_type", "stay"),
    [
        ("STARTS_WITH", ["ab", "abc"]),
        ("ENDS_WITH", ["ab", "cab"]),
        ("CONTAINS", ["ab", "abc", "cab"]),
    ],
)
def test_a_match_looks_at_the_start_the_end_or_anywhere(match_type, stay):
    values = ["ab", "abc", "cab", "ac", None]

    assert kept(values, match("c", match_type, "ab", caseSensitive=True)) == stay


def test_a_negated_match_keeps_null_and_a_match_does_not():
    assert kept(["ab", "x", None], match("c", "CONTAINS", "a", negate=True)) == ["x", None]
    assert kept(["ab", "x", None], match("c", "CONTAINS", "")) == ["ab", "x"]


@pytest.mark.parametrize(
    "literal", ["%", "_", "!", "\\", "a%", "!_", "\\%", "'", '"', "*", ".", "?"]
)
def test_what_is_a_wildcard_elsewhere_is_a_character_in_a_literal(literal):
    assert kept([f"x{literal}y", "xay", "xaby"], match("c", "CONTAINS", literal)) == [
        f"x{literal}y"
    ]


def test_capitals_count_only_where_the_match_says_so():
    values = ["Brno", "brno", "BRNO"]

    assert kept(values, match("c", "STARTS_WITH", "bR")) == values
    assert kept(values, match("c", "STARTS_WITH", "br", caseSensitive=True)) == ["brno"]


@pytest.mark.parametrize(("text", "literal"), [("Ž", "ž"), ("İ", "i"), ("\u212a", "k"), ("ſ", "s")])
def test_only_the_letters_of_ascii_have_capitals_that_do_not_count(text, literal):
    assert kept([text], match("c", "CONTAINS", literal)) == []
    assert kept([text], match("c", "CONTAINS", text)) == [text]


def test_a_literal_or_value_that_is_no_unicode_matches_nothing():
    assert kept(["a", None], match("c", "CONTAINS", "\ud800")) == []
    assert kept(["a", None], match("c", "CONTAINS", "\ud800", negate=True)) == ["a", None]
    assert kept(["a", None], only("c", "\ud800")) == []


TIME = dt.time(9, 30, 15)
NAIVE = dt.datetime(2026, 1, 2, 9, 30, 15, 250_000)
AWARE = NAIVE.replace(tzinfo=dt.timezone.utc)


@pytest.mark.parametrize(
    ("type_", "value", "texts", "others"),
    [
        (pa.string(), "1", ["1"], ["1.0", " 1", ""]),
        (pa.large_string(), "é", ["é"], ["e\u0301"]),
        (pa.dictionary(pa.int8(), pa.string()), "a", ["a"], ["A"]),
        (pa.int8(), -1, ["-1", "-1.0", "-10e-1"], ["-1.5", "255", "x", "", " -1", "1_0", "0x1"]),
        (pa.uint64(), 2**64 - 1, [str(2**64 - 1)], ["-1", str(2**64), "1e9999"]),
        (pa.int64(), 0, ["0", "-0", "+0.00", ".0", "0."], ["1e-9999", "٠", "nan", "False"]),
        (pa.float64(), 0.1, ["0.1", "1e-1", ".1"], ["0.11", "", "1e400", "-1e400"]),
        (pa.float32(), 0.1, ["0.1", "0.10000000149"], ["0.1000001", "1e39"]),
        (pa.float64(), float("nan"), [], ["nan", "NaN", "0"]),
        (pa.float64(), float("inf"), [], ["inf", "Infinity", "1e400"]),
        (pa.float64(), -0.0, ["0", "-0", "0.0"], ["1"]),
        (pa.decimal128(5, 2), Decimal("1.50"), ["1.5", "1.500", "+15e-1"], ["1.505", "1000", "x"]),
        (pa.decimal128(38, 2), Decimal(10**35 + 1), [f"{10**35 + 1}.0"], [f"{10**35}", "1e99"]),
        (pa.bool_(), True, ["true", "TRUE"], ["1", "t", "yes", "false", ""]),
        (pa.date32(), NAIVE.date(), ["2026-01-02", "2026-01-02 00:00"],
         ["2026-1-2", "2026-01", "2026-01-02 09:30", "2026-02-30", "2026-01-02T00:00Z"]),
        (pa.date64(), NAIVE.date(), ["2026-01-02", "2026-01-02T00:00:00.0"], ["0000-01-01"]),
        (pa.timestamp("s"), NAIVE.replace(microsecond=0), ["2026-01-02 09:30:15"],
         ["2026-01-02 09:30:15.25", "2026-01-02", "2026-01-02 09:30:15Z", "2026-01-02 24:00"]),
        (pa.timestamp("ms"), NAIVE, ["2026-01-02T09:30:15.25"], ["2026-01-02 09:30:15.2501"]),
        (pa.timestamp("us", "UTC"), AWARE,
         ["2026-01-02 09:30:15.25Z", "2026-01-02 10:30:15.25", "2026-01-02 04:00:15.250-05:30"],
         ["2026-01-02 09:30:15.25", "2026-01-02 09:30:15.25+99:00"]),
        (pa.timestamp("ns", "UTC"), AWARE, ["2026-01-02 09:30:15.250000000Z"],
         ["2026-01-02 09:30:15.250000001Z", "9999-01-01", "0001-01-01"]),
        (pa.time32("s"), TIME, ["09:30:15", "09:30:15.0"], ["9:30:15", "09:30:15.5", "25:00"]),
        (pa.time64("us"), TIME, ["09:30:15.000"], ["09:30"]),
    ],
)  # fmt: skip
def test_a_value_is_text_read_as_the_type_of_the_column(type_, value, texts, others):
    for text in texts:
        assert len(kept([value, None], only("c", text), type_=type_)) == 1, text
        assert kept([value, None], but("c", text), type_=type_) == [None], text
    for text in others:
        assert kept([value, None], only("c", text), type_=type_) == [], text
        assert len(kept([value, None], but("c", text), type_=type_)) == 2, text


def test_a_number_as_long_as_a_command_may_be_is_read_or_matches_nothing():
    long = "1" * 1_000_000

    assert kept([1], only("c", long, "0." + long, "1." + "0" * 100_000)) == [1]
    assert kept([1.5], only("c", long)) == []
    assert kept([Decimal("1.50")], only("c", long, "1.5" + "0" * 100_000)) == [Decimal("1.50")]


def test_nanoseconds_count_to_the_last():
    values = pa.array([1_000, 1_001], pa.timestamp("ns"))
    table = pa.table({"c": values, "row": [0, 1]})
    filters = Filters.of(context(only("c", "1970-01-01 00:00:00.000001001")), table.schema)

    assert filters.apply(table)["row"].to_pylist() == [1]
    assert in_duckdb(table, filters.sql()) == [1]


def test_a_local_time_that_comes_twice_is_the_first_and_one_that_never_comes_is_none():
    utc = [dt.datetime(2026, 10, 25, hour, 30, tzinfo=dt.timezone.utc) for hour in (0, 1)]
    type_ = pa.timestamp("s", "UTC")

    assert kept(utc, only("c", "2026-10-25 02:30"), type_=type_) == utc[:1]
    changes = [dt.datetime(2026, 3, 29, 1, minute, tzinfo=dt.timezone.utc) for minute in (0, 30)]
    assert kept(changes, only("c", "2026-03-29 02:30"), type_=type_) == []


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (pa.string_view(), ["EU", None, "US"]),
        (pa.decimal256(60, 2), [Decimal("1.00"), None, Decimal("2.00")]),
    ],
)
def test_types_that_not_every_engine_has_are_filtered_by_arrow_and_python(type_, values):
    table = pa.table({"c": pa.array(values, type_), "n": [0, 1, 2]})
    filters = Filters.of(context(only("c", str(values[0]), None)), table.schema)
    stays = filters.predicate()

    assert filters.apply(table)["n"].to_pylist() == [0, 1]
    assert filters.apply(table).schema == table.schema
    assert [row["n"] for row in table.to_pylist() if stays(row)] == [0, 1]


def test_a_float_of_16_bits_is_filtered():
    table = pa.table({"c": pa.array([0.1, 1.0, None], pa.float32()).cast(pa.float16())})
    filters = Filters.of(context(only("c", "0.1", "2")), table.schema)

    assert filters.apply(table).num_rows == 1


def test_a_row_of_plain_python_is_rounded_as_the_column_would():
    schema = pa.schema([("c", pa.float32())])

    assert Filters.of(context(only("c", "0.1")), schema).predicate()({"c": 0.1})


def test_what_pandas_has_for_null_is_null_in_a_row():
    pandas = pytest.importorskip("pandas", reason="make dev installs it")
    schema = pa.schema([("text", pa.string()), ("whole", pa.int64()), ("day", pa.timestamp("us"))])
    sent = [but("text", "US"), but("whole", "1"), but("day", "2026-01-01")]
    stays = Filters.of(context(*sent, match("text", "CONTAINS", "U", negate=True)), schema)
    period = Filters.of(context(between("day", "2026-01-01", "2026-01-31")), schema)

    for null in (float("nan"), pandas.NA, pandas.NaT, None):
        row = dict.fromkeys(schema.names, null)
        assert stays.predicate()(row), null
        assert not period.predicate()(row), null


@pytest.mark.parametrize(
    "sent", [only("day", "2026-01-02"), between("day", "2026-01-02", "2026-01-02")]
)
def test_midnight_as_pandas_has_it_is_the_day_in_a_row(sent):
    pandas = pytest.importorskip("pandas", reason="make dev installs it")
    stays = Filters.of(context(sent), pa.schema([("day", pa.date32())])).predicate()

    days = [pandas.Timestamp(2026, 1, day) for day in (1, 2, 3)]
    assert [stays({"day": day}) for day in days] == [False, True, False]


def test_nan_is_a_value_in_a_column_of_floats_and_what_is_not_there_is_null():
    pandas = pytest.importorskip("pandas", reason="make dev installs it")
    filters = Filters.of(context(only("c", None)), pa.schema([("c", pa.float64())]))
    stays = filters.predicate()

    assert [stays({"c": value}) for value in (float("nan"), pandas.NA)] == [False, True]


SCHEMA = pa.schema(
    [("region", pa.string()), ("day", pa.date32()), ("revenue", pa.float64()), ("raw", pa.binary())]
)
DAY = between("day", "2026-01-01", "2026-03-31")


def test_an_identifier_is_the_column_of_the_same_name_unless_labels_say_otherwise():
    filters = Filters.of(
        context(only("customer.region", "EU")), SCHEMA, {"customer.region": "region"}
    )

    assert filters.columns == ("region",)
    assert filters.predicate()({"region": "EU"})


def test_identifiers_that_are_no_column_here_are_listed_apart_and_never_applied():
    filters = Filters.of(context(only("shop", "A"), only("shop", "B"), DAY), SCHEMA)

    assert (filters.elsewhere, filters.columns, filters.not_taken) == (("shop",), ("day",), ())


def test_a_label_that_stands_for_no_column_is_an_error_of_the_author():
    with pytest.raises(ValueError, match="'r' stands for 'regoin', which is no column"):
        Filters.of(context(only("r", "EU")), SCHEMA, {"r": "regoin"})


def test_without_a_context_every_row_stays():
    filters = Filters.of(None, SCHEMA)

    assert filters.expression() is None
    assert (filters.sql().text, filters.sql().parameters) == ("TRUE", ())
    assert filters.predicate()({})


def test_columns_are_those_that_filters_look_at_in_the_order_of_the_schema():
    filters = Filters.of(context(but("revenue", "1"), DAY, only("region", "EU")), SCHEMA)

    assert filters.columns == ("region", "day", "revenue")


def test_what_is_taken_is_the_functions_and_the_rest_is_the_hosts():
    filters = Filters.of(context(only("region", "EU"), DAY, but("revenue", "1")), SCHEMA)
    applied = filters.take("region", "day")

    assert (applied.columns, filters.rest.columns) == (("region", "day"), ("revenue",))


def test_taking_twice_gives_the_same_and_leaves_the_same():
    filters = Filters.of(context(only("region", "EU"), DAY), SCHEMA)

    assert filters.take("day").sql() == filters.take("day").sql()
    assert filters.rest.columns == ("region",)


def test_taking_what_is_no_column_is_an_error_of_the_author():
    with pytest.raises(LookupError, match="'regoin' is no column, did you mean 'region'"):
        Filters.of(context(), SCHEMA).take("regoin")


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (shifted("day", "DAY_OF_WEEK", 0, 0), "granularity 'DAY_OF_WEEK' cannot be expressed"),
        (shifted("day", "FISCAL_WEEK", 0, 0), "granularity 'FISCAL_WEEK' cannot be expressed"),
        (
            shifted("day", "DAY", 0, 0, boundedFilter={"granularity": "DAY", "to": 0}),
            "a boundedFilter cannot be expressed",
        ),
        ({**DAY, "emptyValueHandling": "ONLY"}, "emptyValueHandling 'ONLY' cannot be expressed"),
        (
            shifted("day", "DAY", 0, 0, emptyValueHandling="INCLUDE"),
            "emptyValueHandling 'INCLUDE' cannot be expressed",
        ),
        ({"filterType": "newFilter"}, "filterType 'newFilter' is not known"),
        (match("region", "SOUNDS_LIKE", "x"), "matchType 'SOUNDS_LIKE' is not known"),
        (match("revenue", "CONTAINS", "1"), "column 'revenue' is double: only text is matched"),
        (
            between("region", "2026-01-01", "2026-01-02"),
            "column 'region' is string, neither a date nor a timestamp",
        ),
        (only("raw", "x"), "values of column 'raw' (binary) have no text"),
    ],
)
def test_what_cannot_be_expressed_is_listed_with_its_reason_and_can_be_refused(sent, reason):
    filters = Filters.of(context(sent, only("region", "EU")), SCHEMA)

    assert [one.reason for one in filters.not_taken] == [reason]
    assert filters.columns == ("region",)
    filters.take("region", "day", "revenue", "raw")
    with pytest.raises(BadCall, match="not all can be applied: ") as raised:
        filters.rest.check()
    assert reason in str(raised.value)


def test_relative_dates_without_a_timestamp_cannot_be_expressed():
    filters = Filters.of(context(shifted("day", "DAY", 0, 0), timestamp=None), SCHEMA)

    assert "no timestamp" in filters.not_taken[0].reason


def test_filters_of_measures_and_those_repeated_in_the_report_are_not_applied():
    inside = {"positiveAttributeFilter": {"label": {}, "in": {"values": ["EU"]}}}
    definition = {"measure": {"filters": [inside]}}
    report = {
        "measures": [{"localIdentifier": "m", "definition": definition}],
        "filters": [inside],
    }
    filters = Filters.of(context(reportExecutionRequest=report), SCHEMA)

    assert (filters.columns, filters.not_taken) == ((), ())


def test_values_are_bound_and_names_quoted_never_pasted():
    schema = pa.schema([('a"b%s?', pa.string())])
    evil = "'; DROP TABLE data; --"
    filters = Filters.of(context(only('a"b%s?', evil, None)), schema)

    duck, postgres = filters.sql("duckdb"), filters.sql("postgres")
    assert (duck.text, duck.parameters) == ('("a""b%s?" IN (?) OR "a""b%s?" IS NULL)', (evil,))
    assert postgres.text == '("a""b%%s?" = ANY (%s) OR "a""b%%s?" IS NULL)'
    assert postgres.parameters == ([evil],)


def test_postgres_is_not_sent_the_character_that_no_text_of_it_has():
    schema = pa.schema([("c", pa.string())])
    filters = Filters.of(
        context(only("c", "\0", "a"), match("c", "CONTAINS", "\0"), but("c", "\0")), schema
    )

    where = filters.sql("postgres")
    assert (where.text, where.parameters) == ('"c" = ANY (%s) AND FALSE AND TRUE', (["a"],))


def test_an_unknown_style_of_sql_is_an_error_of_the_author():
    # a ValueError would be the caller's, see `failure`
    with pytest.raises(TypeError, match="expected 'duckdb' or 'postgres', got 'oracle'"):
        Filters.of(None, SCHEMA).sql("oracle")


def test_the_expression_prunes_a_dataset_of_parquet_files(tmp_path):
    for year in (2025, 2026):
        days = [dt.date(year, 1, 1), dt.date(year, 6, 1)]
        pq.write_table(pa.table({"day": days}), tmp_path / f"{year}.parquet")
    data = ds.dataset(tmp_path)
    expression = Filters.of(context(DAY), data.schema).expression()

    assert data.to_table(filter=expression)["day"].to_pylist() == [dt.date(2026, 1, 1)]
    assert [len(list(f.split_by_row_group(expression))) for f in data.get_fragments()] == [0, 1]


@pytest.mark.parametrize("month", [0, 13])
def test_a_fiscal_year_starts_in_a_month_that_there_is(month):
    with pytest.raises(ValueError, match=f"fiscal_year_start_month: expected 1 to 12, got {month}"):
        Filters.of(context(), SCHEMA, fiscal_year_start_month=month)


def pandas_frame(columns):
    return pytest.importorskip("pandas", reason="make dev installs it").DataFrame(columns)


def polars_frame(columns):
    return pytest.importorskip("polars", reason="make dev installs it").DataFrame(columns)


SALES = {
    "region": ["EU", "US", None, "EU"],
    "day": [dt.datetime(2026, month, 1) for month in (1, 2, 3, 4)],
    "revenue": [1, 2, 3, 4],
    "more": ["a", "b", "c", "d"],
}


@pytest.mark.parametrize("make", [pandas_frame, polars_frame])
@pytest.mark.parametrize(
    ("sent", "stay"),
    [
        ([], ["a", "b", "c", "d"]),
        ([only("region", "EU")], ["a", "d"]),
        ([but("region", "EU")], ["b", "c"]),
        ([but("region", None), DAY], ["a", "b"]),
        ([only("revenue", "2", "3.0")], ["b", "c"]),
        ([only("region", "nowhere")], []),
    ],
)
def test_a_frame_is_filtered_as_the_table_would_be_and_stays_a_frame(make, sent, stay):
    frame = make(SALES)

    found = Filters.of(context(*sent), SCHEMA).apply(frame)

    assert type(found) is type(frame)
    assert list(found.columns) == list(frame.columns)
    assert found["more"].to_list() == stay


def test_a_frame_of_pandas_is_filtered_by_its_index_and_keeps_it():
    frame = pandas_frame(SALES).set_index(["region", "day"])

    found = Filters.of(context(only("region", "US"), DAY), SCHEMA).apply(frame)

    assert found.index.to_list() == [("US", dt.datetime(2026, 2, 1))]


@pytest.mark.parametrize("make", [pandas_frame, polars_frame])
def test_a_frame_that_does_not_fit_the_schema_is_named_and_filtered_by_nothing(make):
    filters = Filters.of(context(only("region", "EU")), SCHEMA)

    with pytest.raises(FunctionFailed, match="the frame has no column 'region'"):
        filters.apply(make({"revenue": [1]}))
    with pytest.raises(FunctionFailed, match="column 'region' is declared string, .* int64"):
        filters.apply(make({"region": [1]}))


@pytest.mark.parametrize("sent", [[], [only("region", "EU")]])
def test_what_is_neither_a_table_nor_a_frame_is_refused_with_and_without_filters(sent):
    with pytest.raises(TypeError, match=r"got list; for a row, a dict, there is .*predicate\(\)"):
        Filters.of(context(*sent), SCHEMA).apply([{"region": "EU"}])
