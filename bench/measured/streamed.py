"""Large tables of numbers, made once and kept, and a stream that is made batch by batch."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from measured import Base

_COLUMNS = 4
_ROW = 8 * _COLUMNS
_SCHEMA = pa.schema([(f"n{i}", pa.int64() if i % 2 else pa.float64()) for i in range(_COLUMNS)])


class Chunks(Base):  # type: ignore[misc]
    """`bytes` in all, in chunks of `chunk` bytes."""

    Name = "chunks"
    Schema = _SCHEMA

    def call(self, parameters: dict[str, Any], columns: Any, headers: Any) -> pa.Table:
        return _table(int(parameters["bytes"]), int(parameters["chunk"]))


class Generated(Base):  # type: ignore[misc]
    """`batches` of `rows`, one after the other."""

    Name = "generated"
    Schema = _SCHEMA

    def call(self, parameters: dict[str, Any], columns: Any, headers: Any) -> Any:
        batch = _batch(int(parameters["rows"]))

        def batches() -> Iterator[pa.RecordBatch]:
            for _ in range(int(parameters["batches"])):
                yield batch.slice(0)

        return pa.RecordBatchReader.from_batches(_SCHEMA, batches())


@functools.cache
def _batch(rows: int) -> pa.RecordBatch:
    return _new_batch(rows)


def _new_batch(rows: int) -> pa.RecordBatch:
    """In memory of its own."""
    columns = [
        pa.Array.from_buffers(field.type, rows, [None, pa.py_buffer(os.urandom(8 * rows))])
        for field in _SCHEMA
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)


@functools.cache
def _table(size: int, chunk: int) -> pa.Table:
    number = size // chunk
    distinct = [_new_batch(chunk // _ROW) for _ in range(min(number, max(1, _AT_MOST // chunk)))]
    return pa.Table.from_batches([distinct[i % len(distinct)] for i in range(number)])


# Bytes of memory that a table has at most: then its chunks come again.
_AT_MOST = 128 << 20
