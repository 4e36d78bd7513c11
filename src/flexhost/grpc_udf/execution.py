"""One scalar function with arguments and result as bytes of a row, called through the host."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from flexhost.arrow.casts import lossless
from flexhost.caller import Caller
from flexhost.contract import Stream
from flexhost.errors import BadCall, FunctionFailed, Internal
from flexhost.function import SCALAR, Function, Headers
from flexhost.grpc_udf.row_codec import RowCodec
from flexhost.host import Host


class Execution:
    """arguments, result: the types of the bytes, when they are others than the function's own."""

    def __init__(
        self,
        function: Function,
        arguments: pa.Schema | None = None,
        result: pa.Schema | None = None,
    ) -> None:
        """Raises BadCall when the function cannot be called so."""
        over = function.over_batches
        if function.kind != SCALAR or over is None or function.arguments is None:
            raise BadCall(
                f"{function.name!r} is a {function.kind} function, expected one that gives one "
                "value for a row"
            )
        self.name = function.name
        self._arguments = RowCodec(function.arguments if arguments is None else arguments)
        self._result = RowCodec(over.schema if result is None else result, what="result")
        self._type: pa.DataType = self._result.schema.field(0).type
        assert over.parameters is not None
        # as each call will be, so that types which do not fit are told at once
        over.parameters.read(pa.RecordBatch.from_pylist([], self._arguments.schema))
        given = over.schema.field(0).type
        try:
            lossless(pa.chunked_array([], given), self._type)
        except (ValueError, pa.ArrowException) as error:
            raise BadCall(f"the result is {given}, the spec has {self._type}: {error}") from None

    def call(
        self,
        payload: bytes,
        host: Host,
        headers: Headers,
        caller: Caller,
        gone: Callable[[], bool],
    ) -> bytes:
        """The bytes of the result.

        gone: whether the caller has left, see `Waiters`.

        Raises BadCall when it is no such row, and as the call does.
        """
        row = self._arguments.decode(payload)
        call = host.submit(self.name, row, None, headers, caller=caller)
        host.wait(call, gone)
        try:
            data = call.result()
            if isinstance(data, Stream):
                raise Internal(f"scalar function {self.name!r} answered with a stream")
            table, _, close = data.open()
            try:
                return self._result.encode(self._fitted(table))
            finally:
                close()
        finally:
            host.forget(call)

    def _fitted(self, table: pa.Table) -> pa.Table:
        column = table.column(0)
        if column.type == self._type:
            return table
        try:
            return pa.table([lossless(column, self._type)], schema=self._result.schema)
        except (ValueError, pa.ArrowException) as error:
            raise FunctionFailed(f"the result cannot be told as {self._type}: {error}") from None
