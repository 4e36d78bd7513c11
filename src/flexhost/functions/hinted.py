"""A function with type hints, and how a batch becomes its arguments, and its results a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import pyarrow as pa

from flexhost.arrow import compute as pc
from flexhost.errors import BadCall, FunctionFailed, HostError
from flexhost.function import SCALAR
from flexhost.functions.failures import failure
from flexhost.functions.signature import RESULT, Signature
from flexhost.values import columns
from flexhost.values.problems import shown

ROW = pa.field("row", pa.int32(), False)


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

    @property
    def scalar(self) -> bool:
        return self.signature.kind == SCALAR

    @cached_property
    def result(self) -> pa.Field:
        """Of a scalar, or of a row that a table function gives."""
        typed = self.signature.result
        nullable = typed.nullable or (self.scalar and self.null_in_null_out)
        return typed.field(RESULT).with_nullable(nullable)

    @cached_property
    def schema(self) -> pa.Schema:
        """Of its answers. A struct is its fields, where nothing has to say which row it is for."""
        if self.scalar:
            return pa.schema([self.result])
        if self.batched:
            return pa.schema([ROW, self.result])
        if not pa.types.is_struct(self.result.type):
            return pa.schema([self.result])
        typed = self.signature.result
        named = zip(typed.type.names, typed.parts, strict=True)
        fields = [part.field(name) for name, part in named]
        return pa.schema([one.with_nullable(one.nullable or typed.nullable) for one in fields])

    def asked(self, batch: pa.RecordBatch) -> tuple[list[list[Any]], Sequence[int]]:
        """The columns of values that the function is called with, and the number of each row.

        Raises BadCall for a value that Python cannot hold, and what `failed` makes of an exception
        of the author's class.
        """
        numbers: Sequence[int] = range(batch.num_rows)
        missing = [column for column in batch.columns if column.null_count]
        if self.null_in_null_out and missing:
            there = pc.indices_nonzero(reduce(pc.and_, [column.is_valid() for column in missing]))
            numbers, batch = there.to_pylist(), batch.take(there)
        found = []
        for argument, column in zip(self.signature.arguments, batch.columns, strict=False):
            try:
                found.append(columns.values(column, argument.typed))
            except columns.Unfit as error:
                what = f"argument {argument.name!r} is {shown(error.value)}, {error.why}"
                raise BadCall(f"{self._at(numbers[error.index])}{what}") from None
            except columns.Unmade as error:
                raise self.failed(error.cause, numbers[error.index]) from None
        return found, numbers

    def table(self, results: list[Any], numbers: Sequence[int], rows: int) -> pa.Table:
        """Of a scalar. numbers: the row of each result, of `rows` in all. Raises FunctionFailed."""
        if len(results) < rows:
            there = dict(zip(numbers, results, strict=True))
            results = [there.get(row) for row in range(rows)]
        return pa.Table.from_arrays([self._column(results, range(rows))], schema=self.schema)

    def batch(self, results: list[Any], numbers: pa.Array) -> pa.RecordBatch:
        """Of a table function. numbers: the row of each result. Raises FunctionFailed."""
        column = self._column(results, numbers)
        if self.batched:
            made = [numbers, column]
        else:
            made = column.flatten() if pa.types.is_struct(column.type) else [column]
        return pa.RecordBatch.from_arrays(made, schema=self.schema)

    def failed(self, error: BaseException, row: int | None = None) -> HostError:
        """What an exception of the author's code is for the caller."""
        return failure(error, self, where="" if row is None else self._at(row))

    def _column(self, results: list[Any], numbers: Any) -> pa.Array:
        try:
            return columns.array(results, self.result.type, self.result.nullable)
        except columns.Unfit as error:
            what = f"the result is {shown(error.value)}, {error.why} ({self.result.type})"
            raise FunctionFailed(f"{self._at(int(numbers[error.index]))}{what}") from None

    def _at(self, row: int) -> str:
        return f"row {row}: " if self.batched else ""
