"""What tables really take: whole buffers, each counted once however many tables use it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from flexhost.batches import size_of

# Bytes that an array takes beside its buffers (measured: 200,000 batches of one row take 160 MB).
ARRAY = 800


class Footprint(NamedTuple):
    """buffers: address → bytes, of whole allocations: a slice pins all of what it is a slice of.
    own:     bytes that no other table can share.
    """

    buffers: dict[int, int]
    own: int

    @property
    def total(self) -> int:
        return sum(self.buffers.values()) + self.own


def footprint(table: pa.Table) -> Footprint:
    whole: dict[int, int] = {}
    parts: dict[tuple[int, int], None] = {}
    arrays = 0
    for column in table.columns:
        for chunk in column.chunks:
            arrays += 1
            for buffer in _buffers(chunk):
                parts[buffer.address, buffer.size] = None
                while (parent := buffer.parent) is not None:
                    buffer = parent
                whole[buffer.address] = max(buffer.size, whole.get(buffer.address, 0))
    # pyarrow shows no buffers of a dictionary below another type, but counts them
    unseen = int(table.get_total_buffer_size()) - sum(size for _, size in parts)
    return Footprint(whole, max(unseen, 0) + arrays * ARRAY)


def _buffers(array: pa.Array) -> Iterator[pa.Buffer]:
    yield from (buffer for buffer in array.buffers() if buffer is not None and buffer.size)
    if pa.types.is_dictionary(array.type):
        yield from _buffers(array.dictionary)


class Ledger:
    """The footprints that are held, summed: `bytes`. `shared` of them are held more than once."""

    def __init__(self) -> None:
        self.bytes = self.shared = 0
        self._held: dict[int, tuple[int, int]] = {}  # address → bytes, holders

    def cost(self, footprint: Footprint) -> int:
        """Bytes that adding it would add."""
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
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def pins_too_much(table: pa.Table, pinned: int) -> bool:
    """Whether a copy would save more than it takes, of the bytes that the table pins."""
    return pinned > 2 * size_of(table) + _WORTH_A_COPY


_WORTH_A_COPY = 64 << 10
