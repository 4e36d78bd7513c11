"""Tables and queries that a function gives out in a few lines, filters and columns pushed down."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import and_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from flexhost.filters.literals import is_text, plain
from flexhost.filters.pushdown_arrow import viewless
from flexhost.pushdown import Filters
from flexhost.queries.databases import Database, DuckDb, Postgres
from flexhost.queries.sql_templates import Template
from flexhost.queries.statements import statement

if TYPE_CHECKING:
    import pyarrow.dataset as ds

__all__ = ["DuckDb", "ParquetTable", "Postgres", "SqlQuery"]

# Rows of a batch, and how far Arrow reads ahead of whoever takes them: it bounds the memory.
_BATCH, _BATCHES_AHEAD, _FILES_AHEAD = 65_536, 2, 1


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet file, a folder of them or a glob, looked for at each read.

    Folders named `key=value` are columns, of the type that the function declares. The first file
    says which other columns there are.
    """

    path: str | Path

    @property
    def schema(self) -> pa.Schema:
        """Of the files that are there now. Raises FileNotFoundError."""
        return self._dataset().schema.remove_metadata()

    def read(
        self,
        filters: Filters,
        columns: tuple[str, ...] | None = None,
        /,
        where: pc.Expression | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows that the filters keep, which are taken; of the columns, or all of the filters'
        schema, those that there are.

        where: a condition of your own.

        Raises FileNotFoundError, and LookupError when a filter is about a column that is not there.
        """
        data = self._dataset(filters.schema)
        if missing := [name for name in filters.columns if name not in data.schema.names]:
            raise LookupError(f"{self!r} has no column {missing[0]!r}, which a filter is about")
        wanted = [name for name in columns or filters.schema.names if name in data.schema.names]
        kept = filters.take(*filters.columns).expression(data.schema)
        both = [one for one in (kept, where) if one is not None]
        scanner = data.scanner(
            columns=wanted,
            filter=reduce(and_, both) if both else None,
            batch_size=_BATCH,
            batch_readahead=_BATCHES_AHEAD,
            fragment_readahead=_FILES_AHEAD,
        )
        with statement() as stated:
            for batch in scanner.to_batches():
                stated.check()
                if batch.num_rows:
                    yield batch

    def _dataset(self, declared: pa.Schema | None = None) -> ds.Dataset:
        """declared: types of folders' columns, which Arrow else takes for int32 or text."""
        import pyarrow.dataset as ds  # heavy: a start can do without it

        files = self._files()
        found = ds.dataset(files, format="parquet", partitioning="hive")
        keys = {
            part.partition("=")[0] for name in files for part in Path(name).parts if "=" in part
        }
        guessed = pa.schema(field for field in found.schema if field.name in keys)
        wanted = guessed if declared is None else _declared(guessed, declared)
        if wanted != guessed:  # or 007 became 7
            folders = ds.partitioning(wanted, flavor="hive")
            found = ds.dataset(files, format="parquet", partitioning=folders)
        # Arrow filters no views
        ordinary = viewless(found.schema.empty_table()).schema
        return found if found.schema == ordinary else found.replace_schema(ordinary)

    def _files(self) -> list[str]:
        path = os.fspath(self.path)
        if Path(path).is_file():
            return [path]
        folder = Path(path).is_dir()
        pattern = str(Path(glob.escape(path)) / "**" / "*.parquet") if folder else path
        # no Path.glob: that takes no absolute pattern
        found = glob.iglob(pattern, recursive=True)  # noqa: PTH207
        files = sorted(name for name in found if Path(name).is_file())
        if folder:
            files = [name for name in files if not _is_aside(Path(name).relative_to(path))]
        if not files:
            raise FileNotFoundError(f"{self!r}: no such Parquet file is there")
        return files


def _is_aside(file: Path) -> bool:
    """What Spark and its like have not finished yet: `_temporary/0/part-0.parquet`."""
    return any(part.startswith("_") and "=" not in part for part in file.parts)


def _declared(guessed: pa.Schema, declared: pa.Schema) -> pa.Schema:
    """These fields with the types that are declared, where a folder's name can be read as such."""
    types = {field.name: plain(field.type) for field in declared}
    readable = {name: type_ for name, type_ in types.items() if _is_in_names(type_)}
    return pa.schema(one.with_type(readable.get(one.name, one.type)) for one in guessed)


def _is_in_names(type_: pa.DataType) -> bool:
    """Arrow reads no decimals and no nested values from the name of a folder."""
    return is_text(type_) or (pa.types.is_primitive(type_) and not pa.types.is_decimal(type_))


@dataclass(frozen=True)
class SqlQuery:
    """A query, whose rows are those of a function.

    text:     with `{filters}` where a condition stands, else they hold for the rows of the query;
              with `$name` where the value of a parameter stands.
    database: a `DuckDb` or a `Postgres`.

    Raises ValueError when the text has another placeholder, or is more than one statement.
    """

    text: str
    database: Database = field(default_factory=DuckDb)

    def __post_init__(self) -> None:
        _ = self._template

    def read(
        self, filters: Filters, columns: tuple[str, ...] | None = None, /, **parameters: Any
    ) -> Iterator[pa.RecordBatch | pa.Table]:
        """The rows that the filters keep, which are taken; of the columns, or all of the filters'
        schema.

        Raises TypeError for a parameter that is missing, or is none.
        """
        names = list(columns or filters.schema.names)
        taken = filters.take(*filters.columns)
        bound = self._template.bind(taken, names, parameters, self.database.style)
        return self.database.batches(bound, pa.schema([filters.schema.field(n) for n in names]))

    @cached_property
    def _template(self) -> Template:
        return Template(self.text)
