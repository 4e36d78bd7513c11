"""Frames of pandas and polars, as tables and filtered. Nothing here imports either: whoever has a
frame has done so."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flexhost.contract import fit_column
from flexhost.errors import FunctionFailed
from flexhost.filters.pushdown_arrow import kept

if TYPE_CHECKING:
    import pyarrow.compute as pc


def is_frame(value: Any) -> bool:
    return _is_of("pandas", value) or _is_of("polars", value)


def table_of(frame: Any, schema: pa.Schema) -> pa.Table:
    """All columns, of a frame of pandas also the levels of its index that `schema` names."""
    if not _is_of("pandas", frame):
        return frame.to_arrow()
    wanted = any(name in schema.names for name in frame.index.names)
    table = pa.Table.from_pandas(frame, preserve_index=True if wanted else None)
    # without what pandas writes of itself, which callers would get
    return _untyped_where_empty(table.replace_schema_metadata())


def filtered(frame: Any, rows: pc.Expression, names: Iterable[str], schema: pa.Schema) -> Any:
    """The rows of a frame for which an expression is true, as a frame.

    names: the columns that it is about, with the types of `schema`. Raises FunctionFailed when the
           frame has no such column, or one whose values do not fit.
    """
    declared = pa.schema([schema.field(name) for name in names])
    # no more than that is converted
    there = table_of(frame[[name for name in declared.names if name in frame.columns]], declared)
    columns = {one.name: _column(there, one) for one in declared}
    number = "row" + "".join(columns)  # which no column is named
    table = pa.table({**columns, number: pa.array(range(len(frame)), pa.int64())})
    numbers = kept(table, rows)[number].to_pylist()
    return frame.iloc[numbers] if _is_of("pandas", frame) else frame[numbers]


def _untyped_where_empty(table: pa.Table) -> pa.Table:
    """Without values a column of pandas has a type that nobody chose: floats for NaN alone."""
    for i, column in enumerate(table.columns):
        if column.null_count == len(column):
            table = table.set_column(i, table.schema.names[i], pa.nulls(len(column)))
    return table


def _column(table: pa.Table, declared: pa.Field) -> pa.ChunkedArray:
    if declared.name not in table.schema.names:
        raise FunctionFailed(f"filters.apply: the frame has no column {declared.name!r}")
    return fit_column(table[declared.name], declared, "filters.apply")


def _is_of(package: str, value: Any) -> bool:
    module = sys.modules.get(package)
    return module is not None and isinstance(value, module.DataFrame)
