"""How large the batches are that leave: cut under what other clients take, tiny ones joined."""

from __future__ import annotations

import itertools
import threading
import time

import grpc
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import LONG, function, serving

from flexhost.arrow.batches import JOINED, LIMIT, ROWS, Sizes, arranged, cut, size_of
from flexhost.arrow.joined import Joined

TEXTS = [f"{n:05} " + "x" * 94 for n in range(100_000)]  # 10 MB


def size(batch):
    return pa.ipc.get_record_batch_size(batch)


def wide(type_):
    return pa.record_batch({"c": pa.array(TEXTS, type_)})


@pytest.mark.parametrize(
    "batch",
    [
        pa.record_batch({"c": pa.array(range(3_000_000))}),
        wide(pa.string()),
        wide(pa.string_view()),
        wide(pa.dictionary(pa.int32(), pa.string())),
        pa.record_batch({"c": pa.array([TEXTS[:40]] * 5_000)}),
        pa.record_batch({"c": pa.array([TEXTS[:40]] * 1_000, pa.list_(pa.string_view()))}),
        pa.record_batch({"c": pa.array([{"a": t} for t in TEXTS])}),
        pa.record_batch({"c": pa.array([True, None] * 20_000_000)}),
        pa.record_batch({"c": pa.array([[n] for n in range(900_000)], pa.list_view(pa.int64()))}),
        pa.record_batch({f"c{n}": pa.array([n] * 1_000) for n in range(2_000)}),
    ],
    ids=lambda batch: str(batch.schema.types[0])[:30] + f" x {batch.num_columns}",
)
def test_pieces_are_under_the_limit_and_together_the_whole(batch):
    pieces = list(cut(batch))

    assert len(pieces) > 1
    assert max(map(size, pieces)) <= LIMIT
    assert all(
        piece.column(0).dictionary.nbytes <= LIMIT
        for piece in pieces
        if pa.types.is_dictionary(batch.schema.types[0])
    )
    together = pa.Table.from_batches(pieces, batch.schema)
    assert together.num_rows == batch.num_rows
    if pa.types.is_dictionary(batch.schema.types[0]):
        together = together.unify_dictionaries()
    assert together.column(0).to_pylist()[-3:] == batch.column(0).to_pylist()[-3:]
    assert together.column(0).combine_chunks().cast(batch.schema.types[0]) is not None


def test_columns_that_are_chunked_each_in_its_own_way_are_joined():
    whole = pa.array(range(1_000))
    pieces = pa.chunked_array([whole.slice(at, 1) for at in range(1_000)])

    table = arranged(pa.table({"whole": whole, "pieces": pieces}))

    assert len(table.to_batches()) == 1


def test_as_many_pieces_as_before_are_not_taken_for_the_same():
    small = pa.record_batch({"n": pa.array(range(10))})
    large = pa.record_batch({"n": pa.array(range(600_000))})  # leaves in two
    table = pa.Table.from_batches([small, small, large])

    pieces = arranged(table)

    sizes = [pa.ipc.get_record_batch_size(batch) for batch in pieces.to_batches()]
    assert max(sizes) <= LIMIT
    assert pieces.equals(table)


def test_a_batch_under_the_limit_is_passed_on():
    batch = pa.record_batch({"c": [1, 2]})

    assert list(cut(batch)) == [batch]


def test_cutting_copies_nothing():
    batch = pa.record_batch({"c": pa.array(range(2_000_000))})
    before = pa.total_allocated_bytes()

    pieces = list(cut(batch))

    assert len(pieces) > 3
    assert pa.total_allocated_bytes() - before < 1000


def test_what_is_cut_is_cut_into_pieces_of_one_size():
    batch = pa.record_batch({"c": pa.array(range(524_288))})  # 4 MiB

    assert [piece.num_rows for piece in cut(batch)] == [262_144, 262_144]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([pa.bool_(), pa.int8(), pa.float64(), pa.decimal128(9, 2), pa.binary(3)]),
    st.sampled_from([1, 30, 20_000]),
    st.integers(1, 3 * LIMIT),
    st.booleans(),
)
def test_what_is_told_to_fit_by_its_types_alone_fits(type_, columns, bytes_, nulls):
    rows = min(500_000, bytes_ * 8 // (columns * (type_.bit_width + nulls)) + 1)
    column = pa.nulls(rows, type_) if nulls else pa.nulls(rows, type_).fill_null(_zero(type_))
    batch = pa.RecordBatch.from_arrays([column] * columns, [f"c{n}" for n in range(columns)])

    pieces = list(Sizes(batch.schema).cut(batch))

    assert all(size(piece) <= LIMIT or piece.num_rows == 1 for piece in pieces)
    assert sum(piece.num_rows for piece in pieces) == rows


def _zero(type_):
    return pa.scalar({pa.bool_(): False, pa.binary(3): b"xxx"}.get(type_, 0), type_)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(range(10_000)),
        pa.array([None, 1] * 5_000),
        pa.array([True, False] * 50_000),
        pa.array(TEXTS[:1_000]),
        pa.array([1, 2] * 5_000, pa.decimal128(20, 2)),
        pa.array([[1], None] * 2_000),
        pa.array(TEXTS[:1_000]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_the_size_of_a_table_is_that_of_the_rows_that_are_there(column):
    table = pa.table({"c": pa.chunked_array([column.slice(5), column.slice(1, 700)])})

    assert size_of(table) == table.nbytes


def test_a_single_row_that_is_larger_goes_whole():
    batch = pa.record_batch({"c": ["a", "x" * 5_000_000, "b"]})

    assert [piece.num_rows for piece in cut(batch)] == [1, 1, 1]


def test_tiny_chunks_of_a_table_are_joined_and_large_ones_are_not_copied():
    large = pa.table({"c": pa.array(range(200_000))})
    tiny = [pa.table({"c": [n]}) for n in range(500)]
    table = pa.concat_tables([large, *tiny])
    before = pa.total_allocated_bytes()

    made = arranged(table)

    assert made.column(0).num_chunks == 2
    assert made.equals(table)
    assert pa.total_allocated_bytes() - before < 10_000


def test_tiny_chunks_with_dictionaries_of_their_own_are_joined():
    chunks = [pa.table({"c": pa.array([f"v{n}", "all"]).dictionary_encode()}) for n in range(50)]
    table = pa.concat_tables(chunks)

    joined = arranged(table)

    assert joined.column(0).num_chunks == 1
    assert joined.column(0).to_pylist() == table.column(0).to_pylist()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 40_000), max_size=12),
    st.sampled_from([pa.int64(), pa.string(), pa.dictionary(pa.int32(), pa.string())]),
)
def test_whatever_the_chunks_the_rows_stay_the_same(lengths, type_):
    values = [str(n) if type_ != pa.int64() else n for n in range(40_000)]
    table = pa.table({"c": pa.chunked_array([values[:n] for n in lengths], type_)})

    out = arranged(table)

    assert out.schema == table.schema
    assert out.column(0).to_pylist() == table.column(0).to_pylist()
    chunks = out.to_batches()
    assert all(size(chunk) <= LIMIT for chunk in chunks)
    assert all(
        a.num_rows + b.num_rows > ROWS or a.nbytes + b.nbytes > JOINED
        for a, b in itertools.pairwise(chunks)
    )


# --- streams


def tables(*rows):
    return iter([pa.table({"c": list(range(n))}) for n in rows])


def test_the_first_table_of_a_stream_goes_at_once_and_later_small_ones_are_joined():
    assert [t.num_rows for t in Joined(tables(1, 1, 1, 1))] == [1, 3]


def test_small_tables_are_joined_up_to_64k_rows():
    rows = [table.num_rows for table in Joined(tables(*[20_000] * 20))]

    assert rows[0] == 20_000
    assert set(rows[1:-1]) == {60_000}
    assert sum(rows) == 400_000


def test_large_tables_go_alone_and_in_order():
    rows = [5, 200_000, 5, 5, 150_000, 5]
    out = list(Joined(tables(*rows)))

    assert sum(t.num_rows for t in out) == sum(rows)
    assert [t["c"].to_pylist()[-1] for t in out if t.num_rows > 100][:2] == [199_999, 149_999]
    joined = pa.concat_tables(out)["c"].to_pylist()
    assert joined == [n for count in rows for n in range(count)]


def test_a_table_is_not_held_back_while_the_function_works_on_the_next():
    go_on = threading.Event()

    def source():
        for n in range(3):
            yield pa.table({"c": [n]})
        assert go_on.wait(LONG)
        yield pa.table({"c": [3]})

    joined = Joined(source())
    assert next(joined)["c"].to_pylist() == [0]

    assert next(joined)["c"].to_pylist() == [1, 2]  # although the source has not come back

    go_on.set()
    assert next(joined)["c"].to_pylist() == [3]


def test_what_came_before_a_failure_is_given_out_first():
    def source():
        for n in range(3):
            yield pa.table({"c": [n]})
        raise RuntimeError("broken")

    joined = Joined(source())
    assert [next(joined).num_rows for _ in range(2)] == [1, 2]

    with pytest.raises(RuntimeError, match="broken"):
        next(joined)


def test_a_source_is_not_taken_far_ahead_of_its_reader():
    given_out = []

    def source():
        for n in range(10_000):
            given_out.append(n)
            yield pa.table({"c": pa.array(range(10_000))})

    joined = Joined(source())
    next(joined)
    next(joined)
    size_before = -1
    while len(given_out) != size_before:  # until the source is held up
        size_before = len(given_out)
        threading.Event().wait(0.05)

    assert size_before < 100
    joined.close()


def test_closing_lets_the_source_go_also_while_it_works():
    closed, works, go_on = threading.Event(), threading.Event(), threading.Event()

    def source():
        try:
            for n in range(3):
                yield pa.table({"c": [n]})
            works.set()
            go_on.wait(LONG)
            yield pa.table({"c": [3]})
        finally:
            closed.set()

    joined = Joined(source())
    next(joined)
    next(joined)
    assert works.wait(LONG)

    joined.close()
    assert list(joined) == []
    go_on.set()
    assert closed.wait(LONG)


def test_closing_lets_a_source_go_that_is_held_up_for_its_reader():
    closed, far = threading.Event(), threading.Event()

    def source():
        try:
            for n in range(10_000):
                if n == 50:  # 80 KB each, and 4 MiB are taken ahead
                    far.set()
                yield pa.table({"c": pa.array(range(10_000))})
        finally:
            closed.set()

    joined = Joined(source())
    next(joined)
    next(joined)
    assert far.wait(LONG)

    joined.close()

    assert closed.wait(LONG)
    assert list(joined) == []


# --- with real clients


def messages_by_grpcio(port, ticket):
    """Sizes of the DoGet messages as a client gets them that takes no more than gRPC's 4 MiB."""
    request = b"\x0a" + bytes([len(ticket.ticket)]) + ticket.ticket
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        do_get = channel.unary_stream("/arrow.flight.protocol.FlightService/DoGet")
        return [len(message) for message in do_get(request, timeout=LONG)]


@pytest.mark.parametrize("result", [lambda t: t, lambda t: t.to_reader()], ids=["table", "stream"])
@pytest.mark.parametrize(
    "type_",
    [pa.string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=["text", "views", "dictionary"],
)
def test_a_client_that_refuses_more_than_4_mib_reads_everything(result, type_):
    table = pa.table({"c": pa.array(TEXTS, type_)})
    made = function(lambda *_: result(table), schema=table.schema)
    with serving(made) as client:
        sizes = messages_by_grpcio(client.frontend.port, client.ticket())
        assert len(sizes) > 3
        assert max(sizes) < 4 << 20

        assert client.call()["c"].to_pylist() == TEXTS


def test_ten_thousand_tiny_batches_arrive_as_few():
    schema = pa.schema([("c", pa.int64())])

    def batches():
        for n in range(10_000):
            yield pa.record_batch({"c": pa.array([n] * 64)})

    made = function(lambda *_: pa.RecordBatchReader.from_batches(schema, batches()), schema=schema)
    with serving(made) as client:
        table = client.call()

    assert table["c"].to_pylist() == [n for n in range(10_000) for _ in range(64)]
    assert table.column(0).num_chunks < 100


def test_rows_that_come_slowly_reach_the_client_before_the_stream_ends():
    go_on = threading.Event()
    schema = pa.schema([("c", pa.int64())])

    def batches():
        for n in range(3):
            yield pa.record_batch({"c": [n]})
        go_on.wait(LONG)

    made = function(lambda *_: pa.RecordBatchReader.from_batches(schema, batches()), schema=schema)
    with serving(made) as client:
        reader = client.flight.do_get(client.ticket())
        begun = time.monotonic()
        chunks = [reader.read_chunk().data.num_rows for _ in range(2)]
        assert time.monotonic() - begun < LONG / 2
        go_on.set()

        assert chunks == [1, 2]
        assert reader.read_all().num_rows == 0
