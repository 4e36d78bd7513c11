"""Where a query runs: DuckDB within this process, or a PostgreSQL server."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from flexhost.arrow.rows import table_of
from flexhost.call import running
from flexhost.errors import name_of
from flexhost.filters.pushdown_sql import Style
from flexhost.queries.sql_templates import Bound
from flexhost.queries.statements import statement
from flexhost.system.affinity import everywhere

# Rows of a batch: of DuckDB's, which are Arrow's already, and of PostgreSQL's, which are Python's.
_BATCH, _FETCHED = 65_536, 10_000
# Seconds that asking a server to cancel may take.
_CANCEL = 5.0


class Database(Protocol):
    @property
    def style(self) -> Style: ...

    def batches(self, bound: Bound, schema: pa.Schema) -> Iterator[pa.RecordBatch | pa.Table]:
        """The rows of a statement, as they come. schema: for those that have no types of Arrow."""


@dataclass(frozen=True)
class DuckDb:
    """DuckDB within this process. It may read files, and writes nothing but what it spills.

    path:         of a database file, opened read-only for each read; None for a query of files.
    threads:      for all its queries together.
    memory_limit: for all its queries together, as DuckDB writes it; more goes to files in TMPDIR.
    """

    path: str | Path | None = None
    threads: int = 2
    memory_limit: str = "1GB"

    style: ClassVar[Style] = "duckdb"

    def batches(self, bound: Bound, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        duckdb = _duckdb()
        with closing(self._connection()) as connection, closing(connection.cursor()) as cursor:

            def interrupt() -> None:
                with suppress(duckdb.Error):
                    cursor.interrupt()

            with statement(interrupt) as stated, closing(_reader(cursor, bound)) as reader:
                for batch in reader:
                    yield batch
                    stated.check()

    def _connection(self) -> Any:
        config = {
            "threads": str(self.threads),
            "memory_limit": self.memory_limit,
            "temp_directory": str(Path(tempfile.gettempdir()) / f"flexhost-duckdb-{os.getpid()}"),
            "python_enable_replacements": "false",  # FROM some_variable of whoever called
            "autoinstall_known_extensions": "false",  # a call downloads no code
            "allow_community_extensions": "false",
            "lock_configuration": "true",
        }
        if self.path is not None:
            with everywhere():
                return _duckdb().connect(str(self.path), read_only=True, config=config)
        return _in_memory(tuple(config.items())).cursor()


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server. Each read has a connection and a read-only transaction of its own.

    connect: a connection string, or what gives a psycopg connection in a `with`, such as the
             `connection` of a pool.
    """

    connect: str | Callable[[], AbstractContextManager[Any]] = field(repr=False)

    style: ClassVar[Style] = "postgres"

    def batches(self, bound: Bound, schema: pa.Schema) -> Iterator[pa.Table]:
        psycopg = _psycopg()
        call = running.get()
        name = "SqlQuery" if call is None else call.function.name
        with self._connection() as connection:

            def interrupt() -> None:
                with suppress(psycopg.Error):
                    if hasattr(connection, "cancel_safe"):  # from psycopg 3.2 on
                        connection.cancel_safe(timeout=_CANCEL)
                    else:
                        connection.cancel()

            stated = None
            try:
                with statement(interrupt) as stated:
                    for rows in _fetched(connection, bound):
                        yield table_of(rows, schema, name)
                        stated.check()
            finally:
                # an interrupt may still be on its way, or none was taken up: not for the next
                if stated is None or stated.stopped:
                    connection.close()

    def _connection(self) -> AbstractContextManager[Any]:
        psycopg = _psycopg()
        if callable(self.connect):
            return self.connect()
        try:
            opened: AbstractContextManager[Any] = psycopg.connect(self.connect)
        except psycopg.Error as error:
            # its text may have the string in it, with the password
            raise ConnectionError(
                f"no connection to PostgreSQL ({name_of(error)}): is the server there, and is the "
                "connection string right?"
            ) from None
        return opened


def _fetched(connection: Any, bound: Bound) -> Iterator[list[dict[str, Any]]]:
    from psycopg.rows import dict_row

    with connection.transaction():
        connection.execute("SET TRANSACTION READ ONLY")
        # a name makes it one of the server: rows come as they are fetched, not all at once
        with connection.cursor(name="flexhost", row_factory=dict_row) as cursor:
            cursor.execute(bound.text, bound.parameters)
            while rows := cursor.fetchmany(_FETCHED):
                yield rows


@functools.cache
def _in_memory(config: tuple[tuple[str, str], ...]) -> Any:
    """Kept for as long as the process lives: making one takes 20 ms, a cursor of it nothing."""
    with everywhere():
        return _duckdb().connect(":memory:", config=dict(config))


def _reader(cursor: Any, bound: Bound) -> pa.RecordBatchReader:
    """Each version has one way that does not hold all rows: measured with 1.2 and 2.0."""
    parameters = bound.parameters or None
    if int(_duckdb().__version__.partition(".")[0]) >= 2:
        return cursor.sql(bound.text, params=parameters).to_arrow_reader(_BATCH)
    return cursor.execute(bound.text, parameters).fetch_record_batch(_BATCH)


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise _missing("duckdb") from None
    return duckdb


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError:
        raise _missing("psycopg", "postgres") from None
    return psycopg


def _missing(package: str, extra: str = "") -> ImportError:
    extra = extra or package
    return ImportError(
        f"the package {package!r} is not installed: write flexfun-host[{extra}], or {package}, "
        "into requirements.txt"
    )
