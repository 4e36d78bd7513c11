"""What tables take, and what they share."""

from __future__ import annotations

import pyarrow as pa
import pytest
from support import total

from flexhost.arrow.batches import size_of
from flexhost.storage.footprint import ARRAY, Ledger, compacted, footprint, pins_too_much

NUMBERS = pa.table({"n": pa.array(range(1_000), pa.int64())})
NAMES = pa.array(["a", "b"] * 500).dictionary_encode()


def test_a_table_takes_its_buffers_and_something_for_each_array():
    assert total(NUMBERS) == 8_000 + ARRAY


def test_many_tiny_batches_take_far_more_than_their_rows():
    tiny = pa.Table.from_batches(NUMBERS.to_batches(max_chunksize=1))

    assert tiny.nbytes == 8_000
    assert footprint(tiny).own >= 1_000 * ARRAY


def test_a_slice_takes_all_that_it_is_a_slice_of():
    assert footprint(NUMBERS.slice(10, 1)) == footprint(NUMBERS)


def test_a_column_of_a_message_takes_the_whole_message():
    sink = pa.BufferOutputStream()
    wide = pa.table({"n": NUMBERS["n"], "m": NUMBERS["n"]})
    with pa.ipc.new_stream(sink, wide.schema) as writer:
        writer.write_table(wide)
    received = pa.ipc.open_stream(sink.getvalue()).read_all()

    assert total(received.select(["n"])) >= 16_000


@pytest.mark.parametrize(
    "column",
    [
        NAMES,
        pa.ListArray.from_arrays([0, 1_000], NAMES),
        pa.StructArray.from_arrays([NAMES], "x"),
        pa.MapArray.from_arrays([0, 1_000], pa.array(range(1_000)), NAMES),
        pa.RunEndEncodedArray.from_arrays(pa.array(range(1, 1_001), pa.int32()), NAMES),
        pa.UnionArray.from_sparse(pa.array([0] * 1_000, pa.int8()), [NAMES]),
    ],
    ids=["top", "list", "struct", "map", "runs", "union"],
)
def test_a_dictionary_counts_wherever_it_is(column):
    table = pa.table({"d": column})

    assert sum(footprint(table).buffers.values()) == table.get_total_buffer_size()


def test_metadata_counts():
    table = NUMBERS.replace_schema_metadata({"messages": "x" * 10_000})

    assert total(table) == total(NUMBERS) + 10_008


def test_what_two_tables_share_counts_once():
    ledger = Ledger()
    ledger.add(footprint(NUMBERS))
    alone = ledger.bytes

    ledger.add(footprint(NUMBERS.slice(5)))

    assert ledger.bytes == alone + ARRAY
    assert ledger.shared == 8_000
    assert ledger.alone(footprint(NUMBERS)) == ARRAY


def test_a_ledger_is_empty_again_when_all_is_removed():
    ledger = Ledger()
    held = [footprint(NUMBERS), footprint(NUMBERS.slice(5)), footprint(pa.table({"d": NAMES}))]
    for one in held:
        ledger.add(one)

    for one in held:
        ledger.remove(one)

    assert (ledger.bytes, ledger.shared, ledger.cost(held[0])) == (0, 0, 8_000 + ARRAY)


def test_a_view_of_a_buffer_that_grows_known_later_counts_as_the_whole():
    ledger = Ledger()
    part, whole = footprint(NUMBERS), footprint(NUMBERS)
    [(address, size)] = part.buffers.items()
    part.buffers[address] = size // 2

    ledger.add(part)
    ledger.add(whole)
    assert ledger.bytes == 8_000 + 2 * ARRAY

    ledger.remove(whole)
    ledger.remove(part)
    assert ledger.bytes == 0


def test_a_small_slice_is_worth_a_copy_and_a_large_one_is_not():
    large = pa.table({"n": pa.array(range(100_000), pa.int64())})

    assert pins_too_much(size_of(large.slice(0, 10)), total(large))
    assert not pins_too_much(size_of(large.slice(0, 60_000)), total(large))


def test_a_compacted_table_is_the_same_and_takes_just_its_rows():
    table = pa.table({"n": NUMBERS["n"], "d": NAMES}, metadata={"k": "v"}).slice(3, 10)

    before = pa.total_allocated_bytes()
    copy = compacted(table)

    assert pa.total_allocated_bytes() - before < 1_000
    assert copy.equals(table, check_metadata=True)
    assert total(copy) < 2_000 + 2 * ARRAY
