"""Distinct rows of a table, or of many that come one after the other."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from flexhost.filters.literals import plain

_ROW = "row"


class Distinct:
    """Remembers every row that it let through: as much memory as there are distinct rows."""

    def __init__(self) -> None:
        self._seen: set[tuple[Any, ...]] = set()

    def of(self, table: pa.Table) -> pa.Table:
        """The rows of a table without views that did not come before, in their order."""
        if not table.num_columns:
            return table
        keys = [_key(column) for column in table.columns]
        first = _first_of_each(keys)
        values = zip(*(_comparable(column.take(first)) for column in keys), strict=True)
        rows = zip(first.to_pylist(), values, strict=True)
        return table.take(pa.array([at for at, row in rows if self._is_new(row)], pa.int64()))

    def _is_new(self, row: tuple[Any, ...]) -> bool:
        before = len(self._seen)
        self._seen.add(row)
        return len(self._seen) > before


def _first_of_each(keys: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Where each distinct row stands first. Arrow does the most of the work, as it is fast."""
    names = [str(i) for i in range(len(keys))]
    table = pa.table([*keys, pa.array(range(len(keys[0])), pa.int64())], [*names, _ROW])
    groups = table.group_by(names, use_threads=False).aggregate([(_ROW, "min")])
    return groups[f"{_ROW}_min"].sort()


def _key(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of a type that Arrow can group by, and Python can hold to the last digit."""
    type_ = plain(column.type)
    if pa.types.is_timestamp(type_) or pa.types.is_time64(type_) or pa.types.is_date64(type_):
        return column.cast(pa.int64())
    if pa.types.is_time32(type_) or pa.types.is_date32(type_):
        return column.cast(pa.int32())
    if type_ == pa.float16():
        return column.cast(pa.float32())
    if pa.types.is_nested(type_):
        return pa.chunked_array([[repr(value) for value in column.to_pylist()]], pa.string())
    return column.cast(type_) if type_ != column.type else column


def _comparable(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if pa.types.is_floating(column.type):  # a NaN is not even equal to itself
        return [value if value == value else "NaN" for value in values]
    return values
