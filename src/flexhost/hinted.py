"""A function with type hints, called with a batch that has its arguments of each row."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import islice
from typing import Any

import pyarrow as pa

from flexhost import columns, series
from flexhost import compute as pc
from flexhost.errors import BadCall, FunctionFailed, HostError, name_of
from flexhost.failures import failure
from flexhost.flex_fun import FlexFun
from flexhost.function import BATCH, PANDAS, SCALAR, Headers
from flexhost.problems import shown
from flexhost.row_loop import Pace, arguments, results
from flexhost.signature import RESULT, Signature
from flexhost.udf_options import UdfOptions

# Rows of one batch that a table function gives, and seconds after which one goes with fewer.
MOST, LONGEST = 8192, 0.2
ROW_COLUMN = pa.field("row", pa.int32(), False)


@dataclass(frozen=True)
class Hinted:
    """lent:             gives the function for the time of one call.
    batched:          it is called with batches, whose rows errors name; else with one row alone,
                      of parameters.
    null_in_null_out: see `udf`.
    file:             see `Function`.
    """

    signature: Signature
    lent: Callable[[], AbstractContextManager[Callable[..., Any]]]
    batched: bool
    null_in_null_out: bool = False
    file: str = ""

    @cached_property
    def result(self) -> pa.Field:
        """Of a scalar, or of a row that a table function gives."""
        typed = self.signature.result
        nullable = typed.nullable or (self.scalar and self.null_in_null_out)
        return pa.field(RESULT, typed.type, nullable)

    @cached_property
    def schema(self) -> pa.Schema:
        """Of its answers. A struct is its fields, where nothing has to say which row it is for."""
        if self.scalar:
            return pa.schema([self.result])
        if self.batched:
            return pa.schema([ROW_COLUMN, self.result])
        if not pa.types.is_struct(self.result.type):
            return pa.schema([self.result])
        nullable = self.result.nullable
        return pa.schema([one.with_nullable(one.nullable or nullable) for one in self.result.type])

    @property
    def scalar(self) -> bool:
        return self.signature.kind == SCALAR

    def answer(self, batch: pa.RecordBatch) -> pa.Table | Iterator[pa.RecordBatch]:
        """Raises HostError."""
        return self._scalar(batch) if self.scalar else self._batches(batch)

    def _scalar(self, batch: pa.RecordBatch) -> pa.Table:
        with self.lent() as function:
            if self.signature.style == BATCH:
                column = self._of_arrays(function, batch)
            elif self.signature.style == PANDAS:
                column = self._of_series(function, batch)
            else:
                column = self._of_rows(function, batch)
        return pa.table([column], [RESULT])

    def _of_rows(self, function: Callable[..., Any], batch: pa.RecordBatch) -> pa.Array:
        asked, numbers = self._asked(batch)
        out: list[Any] = []
        try:
            results(function, self._values(asked), asked.num_rows, out)
        except BaseException as error:
            raise self._failed(error, numbers[len(out)]) from None
        if len(out) < batch.num_rows:
            there = dict(zip(numbers, out, strict=True))
            out = [there.get(row) for row in range(batch.num_rows)]
        return self._array(out, range(batch.num_rows))

    def _of_arrays(self, function: Callable[..., Any], batch: pa.RecordBatch) -> Any:
        try:
            given = function(*batch.columns)
        except BaseException as error:
            raise self._failed(error) from None
        if not isinstance(given, pa.Array | pa.ChunkedArray):
            raise FunctionFailed(f"the function gave {name_of(given)}, expected a pyarrow.Array")
        return _as_long(given, batch.num_rows)

    def _of_series(self, function: Callable[..., Any], batch: pa.RecordBatch) -> pa.Array:
        given = [series.of_array(column) for column in batch.columns]
        try:
            given = function(*given)
        except BaseException as error:
            raise self._failed(error) from None
        return series.array(_as_long(given, batch.num_rows), self.result)

    def _batches(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        asked, numbers = self._asked(batch)
        with self.lent() as function:
            each = zip(numbers, arguments(self._values(asked), asked.num_rows), strict=True)
            for rows, values in self._rows(function, each):
                given = self._array(values, rows)
                if self.batched:
                    buffers = [None, pa.py_buffer(rows)]
                    made = [pa.Array.from_buffers(pa.int32(), len(rows), buffers), given]
                else:
                    made = given.flatten() if pa.types.is_struct(given.type) else [given]
                yield pa.RecordBatch.from_arrays(made, schema=self.schema)

    def _rows(
        self, function: Callable[..., Any], each: Iterator[tuple[int, tuple[Any, ...]]]
    ) -> Iterator[tuple[array[int], list[Any]]]:
        """What the function gives, with the number of the row that it was called for."""
        pace, rows, values = Pace(), array("i"), list[Any]()
        left, since, late = pace.rows, time.monotonic(), False
        for row, given in each:
            items: Any = None
            try:
                items = iter(self._tried(row, function, *given))
                ended = False
                while not ended:
                    before, wanted = len(values), min(left, MOST - len(values))
                    self._tried(row, values.extend, islice(items, wanted))
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

    def _tried(self, row: int, what: Callable[..., Any], *given: Any) -> Any:
        """Of what the author wrote. Raises HostError."""
        try:
            return what(*given)
        except BaseException as error:
            raise self._failed(error, row) from None

    def _asked(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Sequence[int]]:
        """The rows that the function is called for, and their numbers."""
        missing = [column for column in batch.columns if column.null_count]
        if not (self.null_in_null_out and missing):
            return batch, range(batch.num_rows)
        there = reduce(pc.and_, [column.is_valid() for column in missing])
        numbers = pc.indices_nonzero(there)
        return batch.take(numbers), numbers.to_pylist()

    def _values(self, batch: pa.RecordBatch) -> list[list[Any]]:
        """Raises BadCall for a value that Python cannot hold."""
        found = []
        given = zip(self.signature.arguments, batch.columns, strict=False)
        for argument, column in given:
            try:
                found.append(columns.values(column, argument.typed))
            except columns.Unfit as error:
                what = f"argument {argument.name!r} is {shown(error.value)}, {error.why}"
                raise BadCall(f"{self._at(error.index)}{what}") from None
        return found

    def _array(self, values: Sequence[Any], rows: Sequence[int]) -> pa.Array:
        """rows: the number of each one's row. Raises FunctionFailed for one that does not fit."""
        try:
            return columns.array(values, self.result.type, self.result.nullable)
        except columns.Unfit as error:
            what = f"the result is {shown(error.value)}, {error.why} ({self.result.type})"
            raise FunctionFailed(f"{self._at(rows[error.index])}{what}") from None

    def _failed(self, error: BaseException, row: int | None = None) -> HostError:
        return failure(error, self, where="" if row is None else self._at(row))

    def _at(self, row: int) -> str:
        return f"row {row}: " if self.batched else ""


def _as_long(given: Any, rows: int) -> Any:
    """Raises FunctionFailed."""
    if len(given) != rows:
        raise FunctionFailed(f"the function gave {len(given)} values for {rows} rows")
    return given


def flex_fun(
    hinted: Hinted, name: str, function: Callable[..., Any], options: UdfOptions
) -> type[FlexFun]:
    """The class that stands for it. function: as it was written."""

    def call(
        self: FlexFun, parameters: Any, columns: tuple[str, ...] | None, headers: Headers
    ) -> Any:
        return hinted.answer(self.params)

    attributes = {
        "Name": name,
        "Schema": hinted.schema,
        "DeadlineSec": options.deadline_sec,
        "MaxRunning": options.max_running,
        "Executor": options.executor,
        "call": call,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
    }
    return type(function.__name__, (FlexFun,), attributes)
