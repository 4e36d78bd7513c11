"""Calls of functions of single values: a loop over the rows of a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from flexhost.arrow import compute as pc
from flexhost.functions.hinted import ROW, Hinted
from flexhost.functions.row_loop import LONGEST, MOST, Pace, arguments, results


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
        given = _Given(function, asked, len(numbers))
        try:
            while True:
                try:
                    more = given.more()
                except BaseException as error:
                    raise hinted.failed(error, numbers[given.row]) from None
                if given.values:
                    yield hinted.batch(given.values, given.rows(numbers))
                if not more:
                    return
                given.begin_batch()
        finally:
            given.close()


class _Given:
    """What a table function gives, one batch after another.

    values: of this batch.
    row:    the last that the function was called for.
    """

    def __init__(
        self, function: Callable[..., Any], columns: Sequence[Sequence[Any]], rows: int
    ) -> None:
        self.values: list[Any] = []
        self.row = -1
        self._starts: list[int] = []  # in `values`, of each row from the first of this batch
        self._function = function
        self._arguments = arguments(columns, rows)
        self._items: Any = None
        self._each = chain.from_iterable(self._of_each())
        self._pace = Pace()
        self._since = time.monotonic()

    def more(self) -> bool:
        """Fill the batch; whether there may be another one. Raises Cancelled, and what the function
        raises."""
        values, pace = self.values, self._pace
        while (before := len(values)) < MOST:
            wanted = min(pace.rows, MOST - before)
            values.extend(islice(self._each, wanted))
            if len(values) - before < wanted:
                return False
            pace.look()
            if time.monotonic() - self._since > LONGEST:
                break
        return True

    def rows(self, numbers: Sequence[int]) -> pa.Array:
        """The number of the row of each value."""
        offsets = pa.array([*self._starts, len(self.values)], pa.int32())
        lists = pa.ListArray.from_arrays(offsets, pa.nulls(len(self.values)))
        first = self.row + 1 - len(self._starts)
        rows = pc.add(pc.list_parent_indices(lists), first)
        if not isinstance(numbers, range):
            rows = pa.array(numbers, ROW.type).take(rows)
        return rows.cast(ROW.type)

    def begin_batch(self) -> None:
        """With what comes of the row that is under way."""
        self.values, self._starts = [], [0]
        self._since = time.monotonic()
        self._pace.wait_over()

    def close(self) -> None:
        """The author's generator, if it is one."""
        if (close := getattr(self._items, "close", None)) is not None:
            close()

    def _of_each(self) -> Iterator[Any]:
        """The rows that it gives for each row, each of which may be many or none."""
        function, pace, left = self._function, self._pace, 1
        for given in self._arguments:
            self.row += 1
            self._starts.append(len(self.values))
            self._items = function(*given)
            yield self._items
            left -= 1
            if not left:
                pace.look()
                left = pace.rows
