"""Parquet files, DuckDB and PostgreSQL as the rows of a function."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as fl
import pyarrow.parquet as pq
import pytest
from contexts import but, match, only, parameters
from filtered_rows import COLUMNS, filtered
from hypothesis import HealthCheck, given, settings
from postgres import postgres
from support import LONG, flight_code, serving, until
from test_pushdown_renderings import POSTGRES, storable

from flexhost import FlexFun, table_function
from flexhost.pushdown import Filters
from flexhost.sources import DuckDb, ParquetTable, Postgres, SqlQuery
from flexhost.testing import run

SHOPS = pa.table({"city": ["Brno", "Praha", "Brno"], "people": [1, 2, 3], "year": [1, 1, 2]})
ENDLESS = pa.schema([("n", pa.int64())])
NO_FILTERS = Filters(ENDLESS)


@pytest.fixture(scope="module")
def url():
    with postgres() as url:
        yield url


@pytest.fixture
def folder(tmp_path):
    for year in (1, 2):
        part = tmp_path / f"year={year}"
        part.mkdir()
        rows = SHOPS.filter(pc.field("year") == year).drop_columns(["year"])
        pq.write_table(rows, part / "rows.parquet")
    return tmp_path


def test_a_function_over_a_folder_of_parquet_files_is_five_lines(folder):
    source = f"""\
shops = ParquetTable({str(folder)!r})
@table_function(shops.schema)
def visits(filters, columns):
    return shops.read(filters, columns)
"""
    names = {"ParquetTable": ParquetTable, "table_function": table_function}
    exec(compile(source, __file__, "exec"), names)

    with serving(names["visits"]) as client:
        asked = parameters(only("city", "Brno"), only("year", "2"))
        assert client.call("visits").num_rows == 3
        assert client.call("visits", columns=["people"], **asked).to_pydict() == {"people": [3]}


def test_filters_that_a_source_takes_are_not_applied_again_and_none_is_lost(folder):
    taken = []

    class Visits(FlexFun):
        Name = "visits"
        Schema = pa.schema([("city", pa.string()), ("people", pa.int64())])
        ApplyFilters = True

        def call(self, parameters, columns, headers):
            yield from ParquetTable(folder).read(self.filters.take("city"), columns)
            taken.append(self.filters.rest.columns)

    with serving(Visits) as client:
        asked = parameters(only("city", "Brno"), but("people", "1"))
        assert client.call("visits", columns=["city"], **asked).to_pydict() == {"city": ["Brno"]}
    assert taken == [("people",)]


def test_files_that_come_later_are_seen_and_none_at_all_is_an_error(tmp_path):
    table, filters = ParquetTable(f"{tmp_path}/*.parquet"), Filters(SHOPS.schema)
    with pytest.raises(FileNotFoundError, match=r"ParquetTable\(path=.*no such Parquet file"):
        _ = table.schema

    pq.write_table(SHOPS, tmp_path / "a.parquet")
    first = pa.Table.from_batches(table.read(filters)).num_rows
    pq.write_table(SHOPS, tmp_path / "b.parquet")

    assert (first, pa.Table.from_batches(table.read(filters)).num_rows) == (3, 6)


def test_files_that_are_not_finished_are_no_rows_yet(folder):
    (folder / "_temporary" / "0").mkdir(parents=True)
    pq.write_table(SHOPS, folder / "_temporary" / "0" / "part.parquet")
    filters = Filters(pa.schema([("city", pa.string())]))

    assert sum(batch.num_rows for batch in ParquetTable(folder).read(filters)) == 3


def test_columns_of_other_types_than_declared_are_filtered_as_declared(tmp_path):
    pq.write_table(SHOPS, tmp_path / "a.parquet")
    declared = pa.schema([("people", pa.decimal128(12, 2)), ("city", pa.large_string())])
    context = parameters(only("people", "1.00"), match("city", "CONTAINS", "RN"))
    made = Filters.of(_context(context), declared)

    rows = pa.Table.from_batches(ParquetTable(tmp_path).read(made)).to_pylist()

    assert rows == [{"people": 1, "city": "Brno"}]


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (pa.string(), "007"),
        (pa.date32(), "2026-01-31"),
        (pa.bool_(), "true"),
        (pa.int64(), str(2**40)),
    ],
)
def test_the_name_of_a_folder_is_read_as_the_declared_type(type_, value, tmp_path):
    for name in (value, "__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / f"key={name}").mkdir()
        pq.write_table(pa.table({"n": [1]}), tmp_path / f"key={name}" / "rows.parquet")

    @table_function(pa.schema([("key", type_)]))
    def keys(filters, columns):
        return ParquetTable(tmp_path).read(filters, columns)

    [expected] = pa.array([value]).cast(type_).to_pylist()
    assert set(run(keys)["key"].to_pylist()) == {expected, None}
    assert run(keys, parameters(only("key", value)))["key"].to_pylist() == [expected]


def test_a_filter_of_a_column_that_the_files_lack_is_an_error(tmp_path):
    pq.write_table(SHOPS, tmp_path / "a.parquet")
    filters = Filters.of(
        _context(parameters(only("shop", "x"))), pa.schema([("shop", pa.string())])
    )

    with pytest.raises(LookupError, match="has no column 'shop', which a filter is about"):
        next(ParquetTable(tmp_path).read(filters))


def _context(sent):
    from flexhost.context import ExecutionContext

    return ExecutionContext.from_parameters(sent)


def rows_of(batches):
    return sorted(row for batch in batches for row in batch["row"].to_pylist())


def test_parquet_and_duckdb_keep_the_rows_that_python_keeps(tmp_path):
    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(filtered([name for name in COLUMNS if name not in ("date64", "time_s")]))
    def holds(made):
        table, context = made
        pq.write_table(table, tmp_path / "rows.parquet")
        stays = Filters.of(context, table.schema).predicate()
        plain = [row["row"] for row in table.to_pylist() if stays(row)]
        query = SqlQuery(f"SELECT * FROM '{tmp_path}/*.parquet' WHERE {{filters}}")

        for source in (ParquetTable(tmp_path), query):
            filters = Filters.of(context, table.schema)
            assert rows_of(source.read(filters, ("row",))) == plain
            assert filters.rest.columns == ()

    holds()


def test_postgres_keeps_the_rows_that_python_keeps(url):
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(filtered())
    def holds(made):
        table, context = storable(made[0]), made[1]
        filters = Filters.of(context, table.schema)
        stays = filters.predicate()
        with psycopg.connect(url) as connection:
            types = ", ".join(f'"{f.name}" {POSTGRES[str(f.type)]}' for f in table.schema)
            connection.execute("DROP TABLE IF EXISTS data")
            connection.execute(f"CREATE TABLE data ({types})")
            marks = ", ".join(["%s"] * table.num_columns)
            rows = [tuple(row.values()) for row in table.to_pylist()]
            connection.cursor().executemany(f"INSERT INTO data VALUES ({marks})", rows)
        query = SqlQuery("SELECT * FROM data WHERE {filters}", Postgres(url))

        found = rows_of(query.read(filters, ("row",)))
        assert found == [row["row"] for row in table.to_pylist() if stays(row)]

    holds()


def test_parameters_reach_both_databases_as_values(url):
    schema = pa.schema([("city", pa.string()), ("n", pa.int64())])
    evil = "x'; DROP TABLE y --"
    for database in (DuckDb(), Postgres(url)):
        query = SqlQuery("SELECT $city::text AS city, 1 + $n::int AS n WHERE {filters}", database)
        [batch] = query.read(Filters(schema), city=evil, n=2)
        assert batch.to_pylist() == [{"city": evil, "n": 3}]


def test_a_file_of_duckdb_is_read_and_can_be_written_afterwards(tmp_path):
    path = tmp_path / "shops.duckdb"
    with duckdb.connect(str(path)) as made:
        made.execute("CREATE TABLE t AS SELECT 7::BIGINT AS n")
    query = SqlQuery("SELECT n FROM t WHERE {filters}", DuckDb(path))

    [batch] = query.read(NO_FILTERS)

    assert batch.to_pylist() == [{"n": 7}]
    duckdb.connect(str(path)).close()  # with a lock for writing: nobody has it open


def test_a_query_sees_no_variables_of_python():
    rows = SHOPS
    query = SqlQuery("SELECT people AS n FROM rows")

    with pytest.raises(duckdb.CatalogException, match="rows does not exist"):
        list(query.read(NO_FILTERS))
    assert rows.num_rows == 3


FOREVER = {
    "duckdb": "FROM range(100000000) a(i), range(100000000) b(i)",
    "postgres": "FROM generate_series(1, 100000000) a(i), generate_series(1, 100000000) b(i)",
}
MANY = {
    "duckdb": "SELECT i AS n FROM range(100000000000) t(i)",
    "postgres": "SELECT generate_series(1, 100000000) AS n",
}


@pytest.fixture(params=["duckdb", "postgres"])
def database(request):
    """A database, and whether nothing runs in it and nobody is connected."""
    if request.param == "duckdb":
        yield DuckDb(), lambda: not _threads_in_native_code()
    else:
        url = request.getfixturevalue("url")
        with psycopg.connect(url, autocommit=True) as watching:
            others = (
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
                "AND pid <> pg_backend_pid()"
            )
            yield Postgres(url), lambda: watching.execute(others).fetchone() == (0,)


def _threads_in_native_code():
    """Frames of reads that are under way anywhere in this process."""
    frames = sys._current_frames().values()
    return [frame for frame in frames if frame.f_code.co_filename.endswith("databases.py")]


def endless(query):
    """A function that reads, and tells when it begins and when it is over."""
    begun, over = threading.Event(), threading.Event()

    class Endless(FlexFun):
        Name = "numbers"
        Schema = ENDLESS

        def call(self, parameters, columns, headers):
            begun.set()
            try:
                yield from query.read(self.filters, columns)
            finally:
                over.set()

    return Endless, begun, over


def running_statement(database):
    style = database.style
    return SqlQuery(
        f"SELECT sum(a.i * b.i)::bigint AS n {FOREVER[style]} WHERE {{filters}}", database
    )


def test_a_statement_ends_when_its_call_is_late(database):
    source, idle = database
    function, _, over = endless(running_statement(source))

    with serving(function, deadline=0.5) as client:
        with pytest.raises(fl.FlightTimedOutError):
            client.call()
        assert over.wait(LONG)
    until(idle)


def test_a_statement_ends_when_its_caller_leaves(database):
    source, idle = database
    function, begun, over = endless(running_statement(source))

    with serving(function) as client:
        descriptor = fl.FlightDescriptor.for_command(b'{"functionName": "numbers"}')
        with pytest.raises(fl.FlightTimedOutError):
            client.flight.get_flight_info(descriptor, fl.FlightCallOptions(timeout=0.5))
        assert begun.is_set()
        assert over.wait(LONG)
    until(idle)


def test_a_statement_ends_when_its_call_is_cancelled(database):
    source, idle = database
    function, begun, over = endless(running_statement(source))

    with serving(function, poll=0.05) as client:
        polled = {"x-quiver-pollable": "1"}
        with pytest.raises(fl.FlightTimedOutError) as poll:
            client.info(b'{"functionName": "numbers"}', polled)
        assert begun.wait(LONG)
        with pytest.raises(fl.FlightCancelledError):
            client.info(_cancel(poll.value), polled)
        assert over.wait(LONG)
    until(idle)


def _cancel(error):
    import base64
    import json

    body = json.loads(base64.b64decode(json.loads(error.extra_info)["body"]))
    packed = base64.b64decode(body["cancel_descriptor"])
    return fl.FlightDescriptor.deserialize(packed).command


def test_a_statement_ends_when_the_reader_leaves_in_its_middle(database):
    source, idle = database
    function, _, over = endless(SqlQuery(MANY[source.style], source))

    with serving(function) as client:
        reader = client.flight.do_get(client.ticket(), client.options())
        assert reader.read_chunk().data.num_rows
        reader.cancel()
        del reader
        assert over.wait(LONG)
    until(idle)


def test_a_statement_ends_when_its_stream_was_closed_by_the_function(database):
    source, idle = database
    batches = SqlQuery(MANY[source.style], source).read(NO_FILTERS)
    next(batches)

    batches.close()

    assert idle()


@pytest.mark.parametrize("when", ["while it runs", "before it begins"])
def test_a_stopped_statement_costs_a_pool_its_connection(url, when):
    late, given_back = threading.Event(), []

    @contextmanager
    def pool():
        with psycopg.connect(url) as connection:
            if when == "before it begins":
                assert late.wait(LONG)
            try:
                yield connection
            finally:
                given_back.append(connection.closed)

    function, _, over = endless(running_statement(Postgres(pool)))
    with serving(function, deadline=0.5) as client:
        with pytest.raises(fl.FlightTimedOutError):
            client.call()
        late.set()
        assert over.wait(LONG)

    assert given_back == [True]


def test_nothing_can_be_written_through_a_query(url):
    with psycopg.connect(url, autocommit=True) as made:
        made.execute("CREATE SEQUENCE IF NOT EXISTS counter")

    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        list(SqlQuery("SELECT nextval('counter') AS n", Postgres(url)).read(NO_FILTERS))


@pytest.mark.parametrize("secret", ["postgresql://u:s3cret@127.0.0.1:1/x", "s3cret"])
def test_no_error_tells_a_connection_string(secret):
    query = SqlQuery("SELECT 1 AS n", Postgres(secret))
    function, _, _ = endless(query)

    with serving(function) as client, pytest.raises(fl.FlightServerError) as failed:
        client.call()

    assert "no connection to PostgreSQL" in flight_code(failed.value)[1]
    assert "s3cret" not in f"{failed.value} {failed.value.extra_info!r} {query!r}"


@pytest.mark.parametrize(
    ("package", "database"), [("duckdb", "DuckDb()"), ("psycopg", "Postgres('')")]
)
def test_a_package_that_is_missing_is_named(package, database):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "import pyarrow as pa\n"
        "from flexhost.pushdown import Filters\n"
        "from flexhost.sources import *\n"
        "none = Filters(pa.schema([('n', pa.int64())]))\n"
        f"next(SqlQuery('SELECT 1 AS n', {database}).read(none))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert f"the package {package!r} is not installed: write flexfun-host[" in done.stderr


MEMORY = """
import sys
import pyarrow as pa
from flexhost.pushdown import Filters
from flexhost.sources import *

def megabytes(name="VmRSS"):
    [line] = [line for line in open("/proc/self/status") if line.startswith(name)]
    return int(line.split()[1]) / 1024

schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
source = eval(sys.argv[1])
batches = source.read(Filters(schema))
rows, before = next(batches).num_rows, megabytes()
for batch in batches:
    rows += batch.num_rows
print(rows, megabytes("VmHWM") - before)
"""


# Rows of 110 bytes, and megabytes that may be taken besides those of the first batch.
@pytest.mark.parametrize(
    ("kind", "rows", "most"),
    [("parquet", 2_000_000, 100), ("duckdb", 2_000_000, 100), ("postgres", 500_000, 25)],
)
def test_memory_stays_bounded_however_many_rows_there_are(kind, rows, most, tmp_path, request):
    text = "SELECT i::bigint AS n, repeat('x', 100) || i AS text FROM {}"
    if kind == "parquet":
        path = tmp_path / "rows.parquet"
        duckdb.sql(f"COPY ({text.format(f'range({rows}) t(i)')}) TO '{path}'")
        source = f"ParquetTable({str(path)!r})"
    elif kind == "duckdb":
        source = f"SqlQuery({text.format(f'range({rows}) t(i)')!r})"
    else:
        many = text.format(f"generate_series(1, {rows}) t(i)")
        source = f"SqlQuery({many!r}, Postgres({request.getfixturevalue('url')!r}))"

    done = subprocess.run(
        [sys.executable, "-c", MEMORY, source], capture_output=True, text=True, check=True
    )

    came, grown = done.stdout.split()
    assert int(came) == rows
    assert float(grown) < most
