"""How large the batches are that leave.

Clients in Go, JavaScript, .NET and Python's grpcio refuse gRPC messages over 4 MiB, so batches are
cut to stay under it; and a batch costs sender and receiver the same whatever its size, so tiny ones
are joined (64 rows each: 6 times the throughput, measured).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from contextlib import suppress

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
    if is_tiny_all_over(table):
        whole = table.combine_chunks()  # at once: half the time of joining group by group
        rows = min(ROWS, max(1, (JOINED << 3) // (_width(table.schema) or 1)))
        return pa.Table.from_batches(whole.to_batches(max_chunksize=rows), table.schema)
    batches = table.to_batches()
    if len(batches) < 2 and table.get_total_buffer_size() < JOINED:
        return table  # as most are; to look closer costs more than all else here
    sizes = Sizes(table.schema)
    pieces = [piece for group in groups(batches, sizes) for piece in sizes.cut(group)]
    if len(pieces) == len(batches) and all(map(operator.is_, pieces, batches)):
        return table
    return pa.Table.from_batches(pieces, table.schema)


def size_of(data: pa.Table | pa.RecordBatch | pa.Array) -> int:
    """Bytes of the rows that are there; of whole buffers where these are small, since pyarrow takes
    long to tell (4 µs a chunk), and for types where it cannot."""
    whole = int(data.get_total_buffer_size())
    if whole < _SMALL:
        return whole
    try:
        if isinstance(data, pa.Table):
            return sum(map(_size_of_column, data.columns))
        return int(data.nbytes)
    except pa.ArrowException:  # views, before pyarrow 20
        return whole


_SMALL = 4096


def _size_of_column(column: pa.ChunkedArray) -> int:
    type_ = column.type
    if type(type_) in _FIXED and not column.null_count:
        with suppress(ValueError):  # text, which is there among them
            if type_.bit_width % 8 == 0:
                return int(len(column) * type_.bit_width >> 3)
    return int(column.nbytes)


class Sizes:
    """How large batches with this schema are, about, and quickly: each one is asked for."""

    def __init__(self, schema: pa.Schema) -> None:
        self._width = _width(schema)
        self._columns = len(schema.names)
        self._exact = size_of if "dictionary<" in str(schema) else _sent_size

    def of(self, batch: pa.RecordBatch) -> int:
        if self._width is None:
            return self._exact(batch)
        return int(batch.num_rows * self._width) >> 3

    def cut(self, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """See `cut`."""
        if self._width is not None:
            rows = batch.num_rows
            # of each column the values, perhaps a bit for each row, what describes and pads both
            if (rows * (self._width + self._columns) >> 3) + 256 * (self._columns + 4) <= LIMIT:
                return (batch,)
        return cut(batch)


def _width(schema: pa.Schema) -> int | None:
    """Bits of a row, where all are of one size."""
    if not all(type(type_) in _FIXED for type_ in schema.types):
        return None
    try:
        return sum(int(type_.bit_width) for type_ in schema.types)
    except ValueError:
        return None


# Types without parts, among them some whose values are not all of one size.
_FIXED = {pa.DataType, pa.TimestampType, pa.Time32Type, pa.Time64Type, pa.DurationType}
_FIXED |= {pa.Decimal128Type, pa.Decimal256Type, pa.FixedSizeBinaryType}


def is_tiny_all_over(table: pa.Table) -> bool:
    """Whether its chunks are many, small, and quickly told to be."""
    if table.num_rows < _MANY:
        return False
    column = table.column(0)
    chunks = column.num_chunks
    if chunks < _MANY or (width := _width(table.schema)) is None:
        return False
    size = table.num_rows * width >> 3
    some = min(len(column.chunk(at)) for at in (0, chunks // 3, chunks // 2))
    alike = table.num_rows < 4 * chunks * some  # or a few of them have most of the rows
    return bool(alike and size < chunks * _TINY and size < _AT_ONCE)


_MANY = 64
_TINY = JOINED >> 4
# Bytes that are copied at once at most, since a few may be large all the same.
_AT_ONCE = 64 << 20


def _sent_size(batch: pa.RecordBatch) -> int:
    return int(pa.ipc.get_record_batch_size(batch))


def small(batch: pa.RecordBatch, size: int) -> bool:
    return bool(batch.num_rows < ROWS and size < JOINED)


def groups(batches: list[pa.RecordBatch], sizes: Sizes) -> Iterator[pa.RecordBatch]:
    """Neighbours that are small, joined."""
    group: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        its_rows, its_size = batch.num_rows, sizes.of(batch)
        if group and (rows + its_rows > ROWS or size + its_size > JOINED):
            yield from join(group)
            group, rows, size = [], 0, 0
        group.append(batch)
        rows, size = rows + its_rows, size + its_size
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
    if batch.get_total_buffer_size() <= LIMIT and _sent_size(batch) <= LIMIT:
        yield batch  # as most are; dictionaries count in the size of the buffers
        return
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


# Of a message that is cut out of a larger one: it has a description of its own.
_SAFE = LIMIT - (16 << 10)


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    size = pa.ipc.get_record_batch_size(batch)
    rows = batch.num_rows
    if size <= LIMIT or rows <= 1:
        yield batch
        return
    # of one size: a small one would cost as much as a large one
    each = -(-rows // (size // _SAFE + 1))
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
