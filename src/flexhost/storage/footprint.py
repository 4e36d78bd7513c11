"""What tables really take: whole buffers, each counted once however many tables use it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

# Bytes that an array takes beside its buffers (measured: 200,000 batches of one row take 160 MB).
ARRAY = 800
# Bytes of a table up to which it counts as its own, be its buffers shared or not: that is less than
# what its call takes, and to look after them would cost as much as to make the table.
_NOT_SHARED = 2048


class Footprint(NamedTuple):
    """buffers: address → bytes, of whole allocations: a slice pins all of what it is a slice of.
    own:     bytes that no other table can share.
    sent:    `size_of` its table, where that was found on the way.
    """

    buffers: dict[int, int]
    own: int
    sent: int | None = None

    def without(self, other: Footprint) -> Footprint:
        """What is of this one alone."""
        left = {one: size for one, size in self.buffers.items() if one not in other.buffers}
        return self._replace(buffers=left)


def footprint(table: pa.Table) -> Footprint:
    if (small := of_small(table)) is not None:
        return small
    whole: dict[int, int] = {}
    own = sum(len(key) + len(value) for key, value in (table.schema.metadata or {}).items())
    for array in _arrays(table):
        buffers = array.buffers()
        own += ARRAY * (len(buffers) // 2 or 1)  # two or three for each array in it
        for buffer in buffers:
            if buffer is None or not buffer.size:
                continue
            while (parent := buffer.parent) is not None:
                buffer = parent
            size, address = buffer.size, buffer.address
            if size > whole.get(address, 0):
                whole[address] = size
    return Footprint(whole, own)


def of_small(table: pa.Table) -> Footprint | None:
    """Told without a look at each column, which costs as much as to make the table. None for one
    that is not small, or may pin what is not."""
    if table.num_rows > _NOT_SHARED:  # it may have as many chunks, and be long in telling
        return None
    size, columns = table.get_total_buffer_size(), table.num_columns
    if size > _NOT_SHARED or not columns or len(batches := table.to_batches()) != 1:
        return None
    if _is_part(batches[0].column(0)) or (columns > 1 and _is_part(batches[0].column(columns - 1))):
        return None
    own = size + ARRAY * columns
    if metadata := table.schema.metadata:
        own += sum(len(key) + len(value) for key, value in metadata.items())
    return Footprint(_NO_BUFFERS, own, size)


_NO_BUFFERS: dict[int, int] = {}  # one for all that are small


def _is_part(array: pa.Array) -> bool:
    """Whether it is of a message or a file, and pins all of it; as far as is quickly told."""
    last = array.buffers()[-1]
    return last is None or last.parent is not None


def _arrays(table: pa.Table) -> Iterator[pa.Array]:
    """All that a table is made of, dictionaries included."""
    batches = table.to_batches()
    if len(batches) == 1 and _same_size(batches[0], table):  # it has no empty chunks beside
        chunks = batches[0].columns  # quicker; this is asked of each table that is kept
    else:
        chunks = [chunk for column in table.columns for chunk in column.chunks]
    for chunk in chunks:
        yield chunk
        if not _is_flat(chunk.type):
            yield from _dictionaries(chunk)


def _same_size(batch: pa.RecordBatch, table: pa.Table) -> bool:
    return bool(batch.get_total_buffer_size() == table.get_total_buffer_size())


def _is_flat(type_: pa.DataType) -> bool:
    """Whether no dictionary can be in it."""
    return type(type_) is pa.DataType or (  # one of those without parameters
        not type_.num_fields
        and not pa.types.is_dictionary(type_)
        and not isinstance(type_, pa.BaseExtensionType)
    )


def _with_dictionaries(array: pa.Array) -> Iterator[pa.Array]:
    """The array and, since its buffers are not among its own, each dictionary anywhere in it."""
    yield array
    yield from _dictionaries(array)


def _dictionaries(array: pa.Array) -> Iterator[pa.Array]:
    type_ = array.type
    if pa.types.is_dictionary(type_):
        yield from _with_dictionaries(array.dictionary)
    elif isinstance(type_, pa.BaseExtensionType):
        yield from _dictionaries(array.storage)
    elif pa.types.is_run_end_encoded(type_):
        yield from _dictionaries(array.values)
    elif pa.types.is_nested(type_) and "dictionary<" in str(type_):
        for child in _children(array):
            yield from _dictionaries(child)


def _children(array: pa.Array) -> list[pa.Array]:
    if pa.types.is_struct(array.type) or pa.types.is_union(array.type):
        return [array.field(i) for i in range(array.type.num_fields)]
    if pa.types.is_map(array.type):
        return [array.keys, array.items]
    return [array.values]


class Ledger:
    """The footprints that are held, summed: `bytes`. `shared` of them are held more than once."""

    def __init__(self) -> None:
        self.bytes = self.shared = 0
        self._held: dict[int, tuple[int, int]] = {}  # address → bytes, holders

    def cost(self, footprint: Footprint) -> int:
        """Bytes that adding it would add."""
        if not footprint.buffers:
            return footprint.own
        new = (size for address, size in footprint.buffers.items() if address not in self._held)
        return footprint.own + sum(new)

    def alone(self, footprint: Footprint) -> int:
        """Bytes that removing it would free."""
        held = (self._held[address] for address in footprint.buffers)
        return footprint.own + sum(size for size, holders in held if holders == 1)

    def add(self, footprint: Footprint) -> None:
        self.bytes += footprint.own
        for address, size in footprint.buffers.items():
            counted, holders = self._held.get(address, (0, 0))
            size = max(size, counted)
            self._held[address] = size, holders + 1
            self.bytes += size - counted
            if holders:
                self.shared += size - (counted if holders > 1 else 0)

    def remove(self, footprint: Footprint) -> None:
        self.bytes -= footprint.own
        for address in footprint.buffers:
            size, holders = self._held.pop(address)
            if holders > 1:
                self._held[address] = size, holders - 1
            else:
                self.bytes -= size
            if holders == 2:
                self.shared -= size


def compacted(table: pa.Table) -> pa.Table:
    """The same rows in buffers of just their size, as they would arrive at a reader.

    Raises ArrowException for what cannot be sent.
    """
    counted = pa.MockOutputStream()
    write(table, counted)
    buffer = pa.allocate_buffer(counted.size())  # a stream that grows would have up to twice of it
    with pa.FixedSizeBufferWriter(buffer) as sink:
        write(table, sink)
    return pa.ipc.open_stream(buffer).read_all()


def write(table: pa.Table, sink: pa.NativeFile) -> None:
    """In the streaming format: the file format has no dictionaries that change.

    Raises OSError and ArrowException.
    """
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def pins_too_much(size: int, pinned: int) -> bool:
    """Whether a copy would save more than it takes, of the bytes that a table of this size pins."""
    return pinned > 2 * size + _WORTH_A_COPY


_WORTH_A_COPY = 64 << 10
