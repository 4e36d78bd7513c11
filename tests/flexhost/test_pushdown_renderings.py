"""The expression, DuckDB, PostgreSQL and plain Python keep the same rows, whatever the filters."""

from __future__ import annotations

import duckdb
import psycopg
import pyarrow as pa
import pytest
from filtered_rows import COLUMNS, DATES, TEXTS, filtered
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres import postgres

from flexhost.pushdown import Filters

DUCKDB = duckdb.connect()
FAMILIES = [TEXTS, DATES, [name for name in COLUMNS if name not in (*TEXTS, *DATES)]]


def rows_of(table):
    return table["row"].to_pylist()


def in_duckdb(table, where):
    DUCKDB.register("arrow", table)
    # a table of its own: of an Arrow table it has Arrow do the filtering
    DUCKDB.execute("CREATE OR REPLACE TABLE data AS FROM arrow")
    found = DUCKDB.execute(
        f'SELECT "row" FROM data WHERE {where.text} ORDER BY 1', where.parameters
    )
    return [row for (row,) in found.fetchall()]


@pytest.mark.parametrize("columns", FAMILIES, ids=lambda columns: columns[0])
def test_the_expression_duckdb_and_python_keep_the_same_rows(columns):
    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
    @given(filtered(columns), st.integers(1, 12))
    def holds(made, fiscal):
        table, context = made
        filters = Filters.of(context, table.schema, fiscal_year_start_month=fiscal)
        stays = filters.predicate()
        plain = [row["row"] for row in table.to_pylist() if stays(row)]

        assert not filters.not_taken
        assert rows_of(filters.apply(table)) == plain
        assert in_duckdb(table, filters.sql("duckdb")) == plain

    holds()


@pytest.fixture(scope="module")
def server():
    with postgres() as url, psycopg.connect(url, autocommit=True) as connection:
        yield connection


def in_postgres(server, table, where):
    columns = ", ".join(f'"{field.name}" {POSTGRES[str(field.type)]}' for field in table.schema)
    marks = ", ".join(["%s"] * table.num_columns)
    rows = [tuple(row.values()) for row in table.to_pylist()]
    with server.transaction(force_rollback=True), server.cursor() as cursor:
        cursor.execute(f"CREATE TABLE data ({columns})")
        cursor.executemany(f"INSERT INTO data VALUES ({marks})", rows)
        cursor.execute(f'SELECT "row" FROM data WHERE {where.text} ORDER BY 1', where.parameters)
        return [row for (row,) in cursor.fetchall()]


@pytest.mark.parametrize("columns", FAMILIES, ids=lambda columns: columns[0])
def test_postgres_keeps_the_rows_that_python_keeps(server, columns):
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(filtered(columns))
    def holds(made):
        table, context = storable(made[0]), made[1]
        filters = Filters.of(context, table.schema)
        stays = filters.predicate()
        plain = [row["row"] for row in table.to_pylist() if stays(row)]

        assert in_postgres(server, table, filters.sql("postgres")) == plain

    holds()


def storable(table):
    """Without the character 0, which no text of PostgreSQL has."""
    columns = [
        [
            value.replace("\0", "") if isinstance(value, str) else value
            for value in column.to_pylist()
        ]
        for column in table.columns
    ]
    return pa.table(columns, schema=table.schema)


POSTGRES = {
    **dict.fromkeys(["string", "large_string"], "text"),
    "dictionary<values=string, indices=int8, ordered=0>": "varchar",
    **dict.fromkeys(["int8", "uint8"], "smallint"),
    "int32": "integer",
    "int64": "bigint",
    "uint64": "numeric",
    "float": "real",
    "double": "double precision",
    "decimal128(12, 2)": "numeric(12, 2)",
    "bool": "boolean",
    **dict.fromkeys(["date32[day]", "date64[ms]"], "date"),
    **{f"timestamp[{unit}]": "timestamp" for unit in ("s", "ms", "us", "ns")},
    **{f"timestamp[{u}, tz=Europe/Prague]": "timestamptz" for u in ("s", "ms", "us", "ns")},
    **dict.fromkeys(["time32[s]", "time64[us]"], "time"),
}
