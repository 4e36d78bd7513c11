"""Whatever a `call` returned as a table or a reader."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from flexhost.arrow import frames, rows
from flexhost.calls.coroutines import Steps
from flexhost.contract import Reader, Stream
from flexhost.errors import FunctionFailed, name_of, text_of


class Batches:
    """The batches and tables that an iterable gives, one after another, as a reader.

    schema: of the first one, which is taken at once: what a generator does before it counts as a
            part of the call. Without any, the declared one.
    """

    def __init__(self, items: Iterator[Any], declared: pa.Schema, function: str) -> None:
        """Raises FunctionFailed, and what the iterable raises."""
        self._items = items
        self._function = function
        self._taken: deque[pa.RecordBatch] = deque()
        first = next(items, None)
        self.schema: pa.Schema = declared if first is None else self._add(first).schema

    def read_next_batch(self) -> pa.RecordBatch:
        """Raises StopIteration at the end, FunctionFailed, and what the iterable raises."""
        while not self._taken:
            self._add(next(self._items))
        return self._taken.popleft()

    def interrupt(self) -> None:
        """What it awaits right now is cancelled; nothing is done to one that runs."""
        if isinstance(self._items, Steps):
            self._items.interrupt()

    def _add(self, item: Any) -> pa.Table:
        if not isinstance(item, (pa.Table, pa.RecordBatch)):
            raise FunctionFailed(
                f"function {self._function!r} gave {name_of(item)} among its batches, "
                "expected a pyarrow.RecordBatch or a pyarrow.Table"
            )
        self._taken.extend([item] if isinstance(item, pa.RecordBatch) else item.to_batches())
        return item


def arrow(returned: Any, schema: pa.Schema, function: str) -> pa.Table | Reader:
    """schema: what is asked of it, for what has no types of its own.

    Raises FunctionFailed, and what an iterable raises until it has its first batch.
    """
    if isinstance(returned, (pa.Table, pa.RecordBatchReader)):
        return returned
    if isinstance(returned, pa.RecordBatch):
        return pa.Table.from_batches([returned])
    if isinstance(returned, Reader):  # of a worker process
        return returned
    if isinstance(returned, (list, tuple)):
        return _listed(returned, schema, function)
    if frames.is_frame(returned):
        return frames.table_of(returned, schema)
    try:
        if hasattr(returned, "__arrow_c_stream__"):
            return pa.RecordBatchReader.from_stream(returned)
        if hasattr(returned, "__arrow_c_array__"):
            return pa.Table.from_batches([pa.record_batch(returned)])
    except (pa.ArrowException, TypeError) as error:
        why = f"{name_of(returned)}, which is no table: {text_of(error)}"
        raise FunctionFailed(f"function {function!r} returned {why}") from None
    if isinstance(returned, Iterable) and not isinstance(returned, _NO_BATCHES):
        return Batches(iter(returned), schema, function)
    raise FunctionFailed(
        f"function {function!r} returned {name_of(returned)}, expected a pyarrow.Table, a "
        "RecordBatchReader, RecordBatches or Tables, a list of dicts, or a pandas or polars frame"
    )


# What can be iterated, and has never a batch in it.
_NO_BATCHES = (str, bytes, bytearray, memoryview, Mapping)


def _listed(items: list[Any] | tuple[Any, ...], schema: pa.Schema, function: str) -> pa.Table:
    if not items or not isinstance(items[0], (pa.Table, pa.RecordBatch)):
        return rows.table_of(items, schema, function)
    fitted = Stream(Batches(iter(items), schema, function), schema, function)
    return pa.concat_tables([fitted.schema.empty_table(), *fitted])
