"""Calls of async functions of single values, in an event loop. Loads `asyncio` when one is made."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from flexhost.functions.hinted import ROW, Hinted
from flexhost.functions.row_loop import LONGEST, MOST, Turns, arguments

# Rows of one batch that are under way at once.
AT_ONCE = 32


async def scalar(hinted: Hinted, batch: pa.RecordBatch) -> pa.Table:
    """Raises HostError."""
    asked, numbers = hinted.asked(batch)
    with hinted.lent() as function:
        out = await _results(hinted, function, asked, numbers)
    return hinted.table(out, numbers, batch.num_rows)


async def tables(hinted: Hinted, batch: pa.RecordBatch) -> AsyncIterator[pa.RecordBatch]:
    """One row after another. Raises HostError."""
    asked, numbers = hinted.asked(batch)
    turns, rows, values, since = Turns(), list[int](), list[Any](), time.monotonic()
    with hinted.lent() as function:
        for row, given in zip(numbers, arguments(asked, len(numbers)), strict=True):
            items = await _items(hinted, function, row, given)
            try:
                async for value in _tried(hinted, items, row):
                    rows.append(row)
                    values.append(value)
                    await turns.next()
                    if len(values) >= MOST or time.monotonic() - since > LONGEST:
                        yield hinted.batch(values, pa.array(rows, ROW.type))
                        rows, values, since = [], [], time.monotonic()
            finally:
                if inspect.isasyncgen(items):
                    await items.aclose()
            await turns.next()
    if values:
        yield hinted.batch(values, pa.array(rows, ROW.type))


async def _results(
    hinted: Hinted, function: Callable[..., Any], asked: list[list[Any]], numbers: Sequence[int]
) -> list[Any]:
    """In the order of the rows, whichever ended first. The first error ends all others."""
    import asyncio  # costs 40 ms of start-up where nothing is async

    out: list[Any] = [None] * len(numbers)
    each = enumerate(arguments(asked, len(numbers)))
    turns = Turns()

    async def work() -> None:
        for place, given in each:
            try:
                out[place] = await function(*given)
            except BaseException as error:
                raise _failed(hinted, error, numbers[place]) from None
            await turns.next()

    tasks = [asyncio.create_task(work()) for _ in range(min(AT_ONCE, len(numbers)))]
    if tasks:
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return out


async def _items(hinted: Hinted, function: Callable[..., Any], row: int, given: Any) -> Any:
    """What it yields, or a list."""
    try:
        items = function(*given)
        return await items if inspect.isawaitable(items) else items
    except BaseException as error:
        raise _failed(hinted, error, row) from None


async def _tried(hinted: Hinted, items: Any, row: int) -> AsyncIterator[Any]:
    try:
        if isinstance(items, AsyncIterator):
            async for item in items:
                yield item
        else:
            each: Iterator[Any] = iter(items)
            for item in each:
                yield item
    except GeneratorExit:
        raise
    except BaseException as error:
        raise _failed(hinted, error, row) from None


def _failed(hinted: Hinted, error: BaseException, row: int) -> BaseException:
    """What an exception of the author's code is for the caller. That of a task which we cancelled
    stays what it is; a function may raise a CancelledError of its own, or of what it awaits."""
    import asyncio

    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        return error
    return hinted.failed(error, row)
