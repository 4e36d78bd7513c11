"""How large the batches are that leave.

Clients in Go, JavaScript, .NET and Python's grpcio refuse gRPC messages over 4 MiB, so batches are
cut to stay under it; and a batch costs sender and receiver the same whatever its size, so tiny ones
are joined (64 rows each: 6 times the throughput, measured).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

import pyarrow as pa

# Bytes of a message at most: 4 MiB with room for what Flight wraps around it.
LIMIT = (4 << 20) - (64 << 10)
# A batch under both of these is joined with the next ones, up to them.
ROWS = 64 << 10
JOINED = 1 << 20


def arranged(table: pa.Table) -> pa.Table:
    """The same rows, in chunks that leave as they are. Copies only what is joined."""
    if table.num_columns == 0:
        return table
    small = table.get_total_buffer_size() < JOINED
    if small and all(column.num_chunks == 1 for column in table.columns):
        return table  # as most are; to look closer costs more than all else here
    batches = table.to_batches()
    pieces = [piece for group in groups(batches) for piece in cut(group)]
    if len(pieces) == len(batches) and all(map(operator.is_, pieces, batches)):
        return table
    return pa.Table.from_batches(pieces, table.schema)


def size_of(data: pa.Table | pa.RecordBatch | pa.Array) -> int:
    """Bytes of the rows that are there; of whole buffers for types where pyarrow cannot tell."""
    try:
        return int(data.nbytes)
    except pa.ArrowException:  # views, before pyarrow 20
        return int(data.get_total_buffer_size())


def small(batch: pa.RecordBatch) -> bool:
    return batch.num_rows < ROWS and size_of(batch) < JOINED


def groups(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Neighbours that are small, joined."""
    group: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        if group and (rows + batch.num_rows > ROWS or size + size_of(batch) > JOINED):
            yield from join(group)
            group, rows, size = [], 0, 0
        group.append(batch)
        rows, size = rows + batch.num_rows, size + size_of(batch)
    yield from join(group)


def join(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """One batch of all; or the batches themselves, where pyarrow cannot join a type."""
    if len(batches) < 2:
        return batches
    try:
        table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
    except pa.ArrowNotImplementedError:
        return batches
    joined: list[pa.RecordBatch] = table.to_batches()
    return joined


def cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Pieces whose messages have at most LIMIT bytes. A single row that is larger goes whole.

    A dictionary is a message of its own: where one is larger, each piece gets one of its own, with
    the values that it uses.
    """
    large = [i for i, c in enumerate(batch.columns) if _dictionary_size(c) > LIMIT]
    if not large:
        yield from _cut(batch)
        return
    decoded = batch
    for i in large:
        column = batch.column(i)
        field = batch.schema.field(i).with_type(column.type.value_type)
        decoded = _replace(decoded, i, field, column.dictionary_decode())
    for piece in _cut(decoded):
        for i in large:
            field = batch.schema.field(i)
            encoded = piece.column(i).dictionary_encode().cast(field.type)
            piece = _replace(piece, i, field, encoded)
        yield piece


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    size = pa.ipc.get_record_batch_size(batch)
    rows = batch.num_rows
    if size <= LIMIT or rows <= 1:
        yield batch
        return
    each = max(1, min(rows // 2, rows * LIMIT // size))
    for start in range(0, rows, each):
        yield from _cut(_compact(batch.slice(start, each)))


def _compact(piece: pa.RecordBatch) -> pa.RecordBatch:
    """A slice of views still has all bytes of the whole: only then it is copied."""
    if pa.ipc.get_record_batch_size(piece) <= LIMIT:
        return piece
    for i, column in enumerate(piece.columns):
        if _has_views(column.type):
            field = piece.schema.field(i)
            piece = _replace(piece, i, field, _copied(column))
    return piece


def _copied(column: pa.Array) -> pa.Array:
    if column.type == pa.string_view():
        return column.cast(pa.large_string()).cast(column.type)
    return pa.array(column.to_pylist(), column.type)


def _has_views(type_: pa.DataType) -> bool:
    return "_view" in str(type_)


def _dictionary_size(column: pa.Array) -> int:
    return size_of(column.dictionary) if pa.types.is_dictionary(column.type) else 0


def _replace(batch: pa.RecordBatch, i: int, field: pa.Field, column: pa.Array) -> pa.RecordBatch:
    columns = [*batch.columns[:i], column, *batch.columns[i + 1 :]]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema.set(i, field))
