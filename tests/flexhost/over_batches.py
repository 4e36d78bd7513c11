"""Functions that take batches, made by hand: of columns of Arrow, without type hints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flexhost.errors import BadCall
from flexhost.function import SCALAR, TABLE, Function

LONG = pa.int64()


class Columns:
    """The `parameters` of such a function: its columns, by position."""

    def __init__(self, arguments: pa.Schema) -> None:
        self._arguments = arguments

    def read(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if len(batch.schema) != len(self._arguments):
            raise BadCall(f"{len(batch.schema)} columns, expected {len(self._arguments)}")
        for came, wanted in zip(batch.schema, self._arguments, strict=True):
            if came.type != wanted.type:
                raise BadCall(f"column {wanted.name!r} is {came.type}, expected {wanted.type}")
        return batch


def over_batches(
    call: Callable[..., Any],
    name: str = "add",
    arguments: pa.Schema | None = None,
    result: pa.DataType = LONG,
    *,
    kind: str = SCALAR,
    **more: Any,
) -> Function:
    """A function around `call(batch)`: of a scalar it gives the column of results, of a table
    function batches of (row, result)."""
    if arguments is None:
        arguments = pa.schema([("a", LONG), ("b", LONG)])
    fields = [pa.field("result", result)]
    if kind == TABLE:
        fields.insert(0, pa.field("row", pa.int32(), nullable=False))

    class Instance:
        def call(self, batch: Any, columns: Any, headers: Any) -> Any:
            given = call(batch)
            if kind == SCALAR:
                return pa.record_batch([given], schema=pa.schema(fields))
            return given

        def cancel(self) -> bool:
            return bool(getattr(call, "cancel", bool)())

    over = Function(
        name=name,
        schema=pa.schema(fields),
        create=Instance,
        source=call,
        by_name=False,
        parameters=Columns(arguments),  # type: ignore[arg-type]
        kind=kind,
        arguments=arguments,
        **more,
    )
    return Function(
        name=name,
        schema=pa.schema(fields[-1:]),
        create=Instance,
        source=call,
        kind=kind,
        arguments=arguments,
        over_batches=over,
        **more,
    )


def add(batch):
    return pc.add(batch.column(0), batch.column(1))


def series(batch):
    """For each row n: 0 to n - 1, a batch for each row that has any."""
    for row, n in enumerate(batch.column(0).to_pylist()):
        rows = pa.array([row] * n, pa.int32())
        yield pa.record_batch({"row": rows, "result": pa.array(range(n), pa.int64())})
