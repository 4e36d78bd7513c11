"""Calls of functions of single values: a loop over the rows of a batch."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from flexhost.hinted import Hinted
from flexhost.row_loop import LONGEST, MOST, Pace, arguments, results


def scalar(hinted: Hinted, batch: pa.RecordBatch) -> pa.Table:
    """Raises HostError."""
    asked, numbers = hinted.asked(batch)
    out: list[Any] = []
    with hinted.lent() as function:
        try:
            results(function, asked, len(numbers), out)
        except BaseException as error:
            raise hinted.failed(error, numbers[len(out)]) from None
    return hinted.table(out, numbers, batch.num_rows)


def tables(hinted: Hinted, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Raises HostError."""
    asked, numbers = hinted.asked(batch)
    with hinted.lent() as function:
        each = zip(numbers, arguments(asked, len(numbers)), strict=True)
        for rows, values in _rows(hinted, function, each):
            yield hinted.batch(values, rows)


def _rows(
    hinted: Hinted, function: Callable[..., Any], each: Iterator[tuple[int, tuple[Any, ...]]]
) -> Iterator[tuple[array[int], list[Any]]]:
    """What the function gives, with the number of the row that it was called for."""

    def tried(what: Callable[..., Any], *given: Any) -> Any:
        try:
            return what(*given)
        except BaseException as error:
            raise hinted.failed(error, row) from None

    pace, rows, values = Pace(), array("i"), list[Any]()
    left, since, late = pace.rows, time.monotonic(), False
    for row, given in each:
        items: Any = None
        try:
            items = iter(tried(function, *given))
            ended = False
            while not ended:
                before, wanted = len(values), min(left, MOST - len(values))
                tried(values.extend, islice(items, wanted))
                came = len(values) - before
                rows += array("i", [row]) * came
                ended = came < wanted
                left -= came or 1
                if left <= 0:
                    pace.look()
                    left = pace.rows
                    late = time.monotonic() - since > LONGEST
                if len(values) >= MOST or (late and values):
                    yield rows, values
                    rows, values, since, late = array("i"), [], time.monotonic(), False
                    pace.wait_over()
        finally:
            if (close := getattr(items, "close", None)) is not None:
                close()
    if values:
        yield rows, values
