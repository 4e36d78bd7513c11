"""Plain functions that are async."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pyarrow as pa
import pytest
from batches_given import answer, answer_of
from support import LONG, serving, until

from flexhost.errors import FunctionFailed
from flexhost.functions.async_calls import AT_ONCE
from flexhost.functions.describe import describe

batch = pa.record_batch


@dataclass
class Step:
    n: int


async def doubled(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


async def up_to(n: int) -> AsyncIterator[int]:
    for each in range(n):
        await asyncio.sleep(0)
        yield each


async def steps(n: int) -> list[Step]:
    await asyncio.sleep(0)
    return [Step(each) for each in range(n)]


async def refuses(n: int) -> int:
    await asyncio.sleep(0)
    return 12 // n


async def yields_none(n: int) -> AsyncIterator[int]:
    yield n
    if n == 2:
        raise LookupError("no more")
    yield None


@pytest.fixture(params=["threads", "coroutines"])
def call(request):
    """Where async functions run: in a thread that has a loop of its own, or in the one loop."""
    if request.param == "threads":
        yield answer
        return

    def in_the_loop(source, given):
        with serving(source) as served:
            return answer_of(served.host, source.__name__, given)

    yield in_the_loop


def test_a_result_stands_in_the_place_of_its_row(call):
    assert describe(doubled).executor == describe(doubled).over_batches.executor == "coroutines"
    table = call(doubled, batch({"n": list(range(200))}))

    assert table["result"].to_pylist() == [2 * n for n in range(200)]
    assert call(doubled, {"n": 4})["result"].to_pylist() == [8]
    assert call(doubled, batch({"n": pa.array([], pa.int64())})).num_rows == 0


def test_table_functions(call):
    assert call(up_to, batch({"n": [2, 0, 1]})).to_pydict() == {
        "row": [0, 0, 2],
        "result": [0, 1, 0],
    }
    assert call(up_to, {"n": 2})["result"].to_pylist() == [0, 1]
    assert call(steps, {"n": 2}).to_pydict() == {"n": [0, 1]}


def test_what_goes_wrong_names_its_row(call):
    with pytest.raises(FunctionFailed, match="^row 2: ZeroDivisionError"):
        call(refuses, batch({"n": [1, 2, 0, 3]}))
    with pytest.raises(FunctionFailed, match="^row 0: LookupError: no more"):
        call(yields_none, batch({"n": [2]}))
    with pytest.raises(FunctionFailed, match="^row 0: the result is None"):
        call(yields_none, batch({"n": [1]}))


def test_a_function_that_raises_what_a_cancelled_one_does_names_its_row(call):
    async def gives_up(n: int) -> int:
        if n == 3:
            raise asyncio.CancelledError("by itself")
        return n

    async def gives_up_at_once(n: int) -> list[Step]:
        raise asyncio.CancelledError("by itself")

    async def gives_up_later(n: int) -> AsyncIterator[int]:
        yield n
        inner = asyncio.ensure_future(asyncio.sleep(LONG))
        inner.cancel("by itself")
        await inner

    for source, row in ((gives_up, 1), (gives_up_at_once, 0), (gives_up_later, 0)):
        with pytest.raises(FunctionFailed, match=f"^row {row}: CancelledError: by itself"):
            call(source, batch({"n": [1, 3]}))


def test_rows_of_a_batch_wait_together_and_not_too_many(call):
    under_way, most = 0, 0

    async def waits(n: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(10):
            await asyncio.sleep(0)
        under_way -= 1
        return n

    call(waits, batch({"n": list(range(4 * AT_ONCE))}))

    assert most == AT_ONCE


def test_a_call_that_is_cancelled_cancels_its_rows():
    begun, cancelled = threading.Event(), threading.Event()

    async def hangs(n: int) -> int:
        begun.set()
        try:
            await asyncio.sleep(LONG)
        finally:
            cancelled.set()
        return n

    with serving(hangs) as served:
        call = served.host.submit("hangs", batch({"n": [1, 2]}), None, {})
        assert begun.wait(LONG)
        served.host.cancel(call.id)
        assert cancelled.wait(LONG)
        until(lambda: call.returned)
