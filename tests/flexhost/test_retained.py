"""The tables of calls that ended, within a budget."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest
from support import LONG, total

from flexhost.errors import Busy, FunctionFailed, NoResult
from flexhost.storage.retained import Retained
from flexhost.storage.source import Sources
from flexhost.storage.spool import Spool
from flexhost.telemetry.events import Evicted

ROWS = 10_000
SIZE = 8 * ROWS + 800  # bytes that `table` takes


def table(first=0, rows=ROWS):
    return pa.table({"n": pa.array(range(first, first + rows), pa.int64())})


def numbers(kept):
    opened = kept.open()
    try:
        return opened.table["n"].to_pylist()
    finally:
        opened.close()


@pytest.fixture
def spool(tmp_path):
    spool = Spool(1 << 30, tmp_path)
    yield spool
    spool.close()


def files(spool):
    return len(list(spool.folder.iterdir()))


def test_tables_within_the_budget_stay_in_memory(spool):
    retained = Retained(3 * SIZE, spool)

    [retained.keep(table()) for _ in range(3)]

    assert retained.bytes == 3 * SIZE
    assert files(spool) == 0


def test_past_the_budget_the_oldest_unread_table_goes_to_the_spool(spool):
    retained = Retained(2 * SIZE, spool)

    first, second, third = [retained.keep(table(n)) for n in range(3)]

    assert retained.bytes == 2 * SIZE
    assert [kept in retained._spilled for kept in (first, second, third)] == [True, False, False]
    assert [numbers(kept)[0] for kept in (first, second, third)] == [0, 1, 2]


def test_tables_that_were_read_go_first_and_of_them_the_least_recently_read(spool):
    retained = Retained(3 * SIZE, spool)
    kept = [retained.keep(table()) for _ in range(3)]
    for n in (2, 1, 2):
        numbers(kept[n])

    retained.keep(table())
    assert list(retained._spilled) == [kept[1]]

    retained.keep(table())
    assert list(retained._spilled) == [kept[1], kept[2]]


def test_a_table_larger_than_the_budget_moves_no_other(spool):
    retained = Retained(2 * SIZE, spool)
    small = retained.keep(table())

    large = retained.keep(table(rows=5 * ROWS))

    assert list(retained._spilled) == [large]
    assert small not in retained._spilled
    assert len(numbers(large)) == 5 * ROWS


def test_a_table_that_is_being_read_stays_where_it_is(spool):
    retained = Retained(2 * SIZE, spool)
    read, other = retained.keep(table()), retained.keep(table())
    opened = read.open()

    retained.keep(table())

    assert list(retained._spilled) == [other]
    opened.close()


def test_memory_counts_until_the_last_reader_has_left(spool):
    retained = Retained(2 * SIZE, spool)
    kept = retained.keep(table())
    opened = kept.open()

    kept.release()
    assert retained.bytes == SIZE

    opened.close()
    assert (retained.bytes, retained.take_freed(), retained.take_freed()) == (0, SIZE, 0)


def test_a_file_goes_when_nobody_holds_or_reads_it(spool):
    retained = Retained(0, spool)
    kept = retained.keep(table())
    opened = kept.open()

    kept.release()
    assert files(spool) == 1

    assert opened.table["n"].to_pylist() == list(range(ROWS))
    opened.close()
    assert (files(spool), retained.spilled) == (0, 0)


def test_a_table_that_a_function_returns_each_time_counts_once_and_is_written_at_most_once(spool):
    retained, sources, modules = Retained(SIZE // 2, spool), Sources(), table()

    def answer():  # as the contract makes a new table around the same columns
        fitted = pa.Table.from_arrays(modules.columns, schema=modules.schema)
        return retained.keep(fitted, sources.of(modules))

    kept = [answer() for _ in range(10)]

    assert files(spool) == 1
    assert retained.bytes < 10 * 1_000
    assert all(numbers(one) == list(range(ROWS)) for one in kept)


def returned_twice(retained, modules, made):
    """The second of two results of a function that returns the same table each time."""
    sources = Sources()
    first = retained.keep(made(modules), sources.of(modules))
    second = retained.keep(made(modules), sources.of(modules))
    first.release()
    return second


def as_it_is(modules):
    return pa.Table.from_arrays(modules.columns, schema=modules.schema)


def test_a_table_that_its_function_has_let_go_counts_again(spool):
    retained, modules = Retained(SIZE, spool), table()
    kept = returned_twice(retained, modules, as_it_is)
    retained.take_over()
    assert retained.bytes == 800

    del modules
    retained.take_over()
    assert retained.bytes == SIZE

    retained.keep(table())
    assert list(retained._spilled) == [kept]


def test_what_was_made_of_a_modules_table_counts_like_any_other(spool):
    retained, modules = Retained(2.5 * SIZE, spool), table()

    def cast(modules):
        return modules.cast(pa.schema([("n", pa.int32())])).cast(modules.schema)

    returned_twice(retained, modules, cast)
    assert retained.bytes >= SIZE

    [retained.keep(table(n)) for n in range(2)]
    assert files(spool) == 1


def test_what_a_function_keeps_for_itself_takes_no_room_of_others():
    retained, modules = Retained(1.5 * SIZE), table(rows=10 * ROWS)
    sources = Sources()
    sources.of(modules)

    kept = retained.keep(as_it_is(modules), sources.of(modules))
    retained.keep(table())

    assert len(numbers(kept)) == 10 * ROWS


@pytest.mark.parametrize("budget", [0.5, 1.5])
def test_views_of_one_table_are_written_at_most_once_to_make_room(spool, budget):
    retained, modules = Retained(budget * SIZE, spool), table()

    kept = [retained.keep(modules.select(["n"])) for _ in range(20)]
    others = [retained.keep(table(n)) for n in range(2)]

    assert retained.bytes <= budget * SIZE
    assert retained.spilled < 4 * SIZE
    assert [numbers(one)[0] for one in (*kept, *others)] == [0] * 21 + [1]


TINY = 2_000  # batches


def tiny_batches():
    rows = [pa.record_batch({"n": pa.array(range(64))}) for _ in range(TINY)]
    return pa.Table.from_batches(rows)


def answered(retained, sources, modules):
    source = sources.of(modules)
    return retained.keep(source.arranged(modules), source)


def test_what_is_made_of_the_tiny_batches_of_a_modules_table_is_shared_by_its_results():
    retained, sources, modules = Retained(), Sources(), tiny_batches()

    first = answered(retained, sources, modules)
    alone = retained.bytes
    several = [answered(retained, sources, modules) for _ in range(10)]

    assert alone >= modules.nbytes  # a copy: its function keeps the batches alone
    assert retained.bytes < 1.1 * alone
    for kept in (first, *several):
        assert numbers(kept) == list(range(64)) * TINY
        kept.release()
    assert retained.bytes == 0


def test_what_is_made_of_a_modules_table_goes_with_the_last_result_and_is_made_again():
    retained, sources, modules = Retained(), Sources(), tiny_batches()
    answered(retained, sources, modules).release()
    assert sources.of(modules)._made() is None

    kept = answered(retained, sources, modules)

    assert numbers(kept) == list(range(64)) * TINY
    assert retained.bytes >= modules.nbytes


def test_pieces_of_a_large_table_of_a_module_take_no_room():
    retained, sources, modules = Retained(), Sources(), table(rows=60 * ROWS)  # leaves in two

    first, second = (answered(retained, sources, modules) for _ in range(2))
    first.release()

    assert second.open().table.column(0).num_chunks == 2
    assert retained.bytes < 10_000
    assert numbers(second) == list(range(60 * ROWS))


def test_only_the_table_of_the_function_itself_is_taken_for_what_was_made_of_it():
    source, modules = Sources().of(both := tiny_batches()), both.slice(64)

    whole, less = source.arranged(both), source.arranged(modules)

    assert (whole.num_rows, less.num_rows) == (64 * TINY, 64 * (TINY - 1))
    assert source.arranged(both) is whole


def test_another_table_at_the_same_address_is_not_taken_for_one_that_comes_again():
    sources = Sources()
    for _ in range(100):
        fresh = table(rows=10)
        assert sources.of(fresh).kept_by_function is None
        del fresh

    assert sources._known == {}


def test_slices_of_one_table_count_once():
    retained, whole = Retained(), table()

    retained.keep(whole.slice(0, 6_000))
    retained.keep(whole.slice(2_000))

    assert retained.bytes == SIZE + 800
    assert retained.shared == 8 * ROWS


def test_a_small_slice_is_copied_and_pins_nothing():
    retained, whole = Retained(), table(rows=100_000)
    before = pa.total_allocated_bytes()

    kept = retained.keep(whole.slice(5, 10))
    del whole

    assert before - pa.total_allocated_bytes() > 700_000
    assert retained.bytes < 2_000
    assert numbers(kept) == list(range(5, 15))


def test_a_small_slice_of_what_is_held_anyway_is_not_copied():
    retained, whole = Retained(), table(rows=100_000)
    retained.keep(whole)

    retained.keep(whole.slice(5, 10))

    assert retained.bytes == 800_000 + 2 * 800


def test_a_result_that_several_hold_is_told_as_shared():
    retained = Retained()
    kept = retained.keep(table())
    assert retained.shared == 0

    kept.hold()
    assert retained.shared == SIZE

    kept.cached = True  # one of the two is a cache
    assert retained.shared == 0


def test_the_last_who_holds_a_table_frees_it():
    retained = Retained()
    kept = retained.keep(table())
    kept.hold()

    kept.release()
    assert not kept.gone

    kept.release()
    assert kept.gone
    assert retained.bytes == 0
    assert not kept.hold()
    with pytest.raises(NoResult):
        kept.open()


def test_past_the_limit_of_the_spool_a_result_is_refused_and_the_next_calls_too(tmp_path):
    retained = Retained(SIZE, Spool(SIZE, tmp_path), clock=lambda: 0.0)
    spilled, _ = retained.keep(table(1)), retained.keep(table(2))
    assert retained.refusal() is None

    with pytest.raises(Busy, match="are taken") as refused:
        retained.keep(table(3))

    assert refused.value.reason == "result_spool_bytes"
    assert str(retained.refusal()) == str(refused.value)
    assert retained.bytes == SIZE
    spilled.release()
    assert retained.refusal() is None
    retained.keep(table())


def test_calls_are_refused_for_a_while_only_since_room_may_be_made_by_others():
    now = 0.0
    retained = Retained(SIZE, clock=lambda: now)
    retained.keep(table())
    with pytest.raises(Busy):
        retained.keep(table())
    assert retained.refusal() is not None

    now = 1.0

    assert retained.refusal() is None


def test_a_victim_that_the_spool_has_no_room_for_does_not_stand_in_the_way_of_others(tmp_path):
    retained = Retained(10 * SIZE, Spool(3 * SIZE, tmp_path))
    large = retained.keep(table(rows=9 * ROWS))
    small = retained.keep(table())

    retained.keep(table())

    assert list(retained._spilled) == [small]
    assert large in retained._unread
    assert retained.refusal() is None


def test_a_result_that_can_never_fit_fails_and_stands_in_nobodys_way():
    retained = Retained(2 * SIZE)

    with pytest.raises(FunctionFailed, match="function 'f': the result takes .*return a stream"):
        retained.keep(table(rows=5 * ROWS), function="f")

    assert (retained.bytes, retained.refusal()) == (0, None)


def test_what_is_only_cached_goes_too_when_the_spool_cannot_be_written(spool):
    retained = Retained(SIZE, spool)
    cached = retained.keep(table())
    cached.cached = True
    spool.folder.rmdir()
    spool.folder.write_text("no folder")

    retained.keep(table())

    assert cached.gone


def test_without_a_spool_a_result_past_the_budget_is_refused():
    retained = Retained(SIZE)
    retained.keep(table())

    with pytest.raises(Busy):
        retained.keep(table())


def test_what_is_only_cached_goes_before_a_result_is_refused():
    told = []
    retained = Retained(SIZE, emit=told.append)
    cached = retained.keep(table(), function="f")
    cached.cached = True

    kept = retained.keep(table(7))

    assert cached.gone
    assert told == [Evicted("f")]
    assert numbers(kept)[0] == 7


def test_what_a_ticket_or_a_reader_holds_is_not_evicted():
    retained = Retained(2 * SIZE)
    held, read = retained.keep(table()), retained.keep(table())
    held.cached = read.cached = True
    held.hold()
    opened = read.open()

    with pytest.raises(Busy):
        retained.keep(table())

    opened.close()


def test_a_spool_that_cannot_be_written_refuses_and_loses_nothing(spool):
    retained = Retained(SIZE, spool)
    first = retained.keep(table())
    spool.folder.rmdir()
    spool.folder.write_text("no folder")

    with pytest.raises(Busy, match="spool cannot be written: Not a directory") as refused:
        retained.keep(table())

    assert str(spool.folder) not in str(refused.value)
    assert refused.value.reason == "result_spool_dir"
    assert numbers(first) == list(range(ROWS))
    assert (retained.bytes, retained.spilled) == (SIZE, 0)


def test_a_result_that_was_lost_from_the_spool_is_no_result(spool):
    retained = Retained(0, spool)
    kept = retained.keep(table())
    for file in spool.folder.iterdir():
        file.unlink()

    with pytest.raises(NoResult, match="lost from the spool") as lost:
        kept.open()

    assert str(spool.folder) not in str(lost.value)
    kept.release()
    assert retained.spilled == 0


def test_a_table_that_cannot_be_written_makes_way_for_one_that_can(spool):
    deep = pa.array(range(ROWS), pa.int64())
    for _ in range(80):
        deep = pa.ListArray.from_arrays([0, len(deep)], deep)
    deep = pa.table({"n": pa.chunked_array([deep])})
    retained = Retained(total(deep) + 1.5 * SIZE, spool)
    first, second = retained.keep(deep), retained.keep(table())

    retained.keep(table())

    assert list(retained._spilled) == [second]
    assert first.open().table.equals(deep)


def test_many_that_keep_at_once_stay_within_the_budget_but_for_one(spool):
    retained = Retained(3 * SIZE, spool)
    most, stop = [0], threading.Event()

    def watch():
        while not stop.is_set():
            most[0] = max(most[0], retained.bytes)

    def work(n):
        kept.extend(retained.keep(table(n * 100 + i)) for i in range(10))

    kept = []
    watcher = threading.Thread(target=watch)
    workers = [threading.Thread(target=work, args=[n]) for n in range(4)]
    for thread in (watcher, *workers):
        thread.start()
    for thread in workers:
        thread.join(LONG)
    stop.set()
    watcher.join(LONG)

    assert most[0] <= 4 * SIZE
    assert retained.bytes <= 3 * SIZE
    assert len({numbers(one)[0] for one in kept}) == 40
    for one in kept:
        one.release()
    assert (retained.bytes, retained.spilled, files(spool)) == (0, 0, 0)
