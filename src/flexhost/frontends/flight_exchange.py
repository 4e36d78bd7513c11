"""DoExchange: a function that is called with batches, as RisingWave and Databend call it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.flight as fl

from flexhost.caller import Caller
from flexhost.contract import Stream
from flexhost.errors import BadCall, Cancelled, FunctionFailed, ShuttingDown
from flexhost.exchanges import NO_BATCH, Exchange
from flexhost.host import Host
from flexhost.reading import Reading


class Signature(NamedTuple):
    """What a function takes, and what its answers look like."""

    arguments: pa.Schema
    result: pa.Schema


def _healthy(batch: pa.RecordBatch) -> list[pa.Array]:
    return [pa.array([1] * batch.num_rows, pa.int32())]


def _echo(batch: pa.RecordBatch) -> list[pa.Array]:
    return [*batch.columns]


_TEXT = pa.schema([("text", pa.string())])
# Functions by which Databend finds out whether a server is well. They are answered at once, however
# much there is to do.
BUILTINS: dict[str, tuple[Signature, Callable[[pa.RecordBatch], list[pa.Array]]]] = {
    "builtin_healthy": (
        Signature(pa.schema([]), pa.schema([("result", pa.int32())])),
        _healthy,
    ),
    "builtin_echo": (Signature(_TEXT, pa.schema([("result", pa.string())])), _echo),
}


def signature(host: Host, name: str, caller: Caller) -> Signature:
    """Raises UnknownFunction, Unauthorized, BadCall, NotReady."""
    if name in BUILTINS:
        return BUILTINS[name][0]
    function = host.functions.get(name, caller).called_with(NO_BATCH)
    assert function.arguments is not None  # as of each that takes batches
    return Signature(function.arguments, function.schema)


class Batches:
    """What a client sends and takes in one exchange.

    One thread does both, in turns: pyarrow has no way to end a read but a batch, the client's end,
    or a broken connection, and the process dies when a request is over that is still being read
    (measured). So nobody may be reading while there may be an error to tell.

    most: bytes of a batch.
    gone: whether the client has left. Not to be asked after the request.
    """

    def __init__(self, reader: Any, writer: Any, most: int, gone: Callable[[], bool]) -> None:
        self._reader = reader
        self._writer = writer
        self._most = most
        self.gone = gone

    def begin(self, answers: pa.Schema) -> pa.Schema:
        """Tell the schema of the answers; that of the batches. Raises BadCall and Cancelled."""
        try:
            self._writer.begin(answers)
        except fl.FlightInternalError:
            raise Cancelled(_GONE) from None
        try:
            return self._reader.schema
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(error) from None

    def read(self) -> pa.RecordBatch | None:
        """The next one; None at the end. Raises BadCall."""
        batch = None
        try:
            while batch is None:  # there may be messages without one
                batch = self._reader.read_chunk().data
            size = batch.get_total_buffer_size()
            if size <= self._most:
                batch.validate(full=True)  # what is wrong in it would take the process down
        except StopIteration:
            return None
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(error) from None
        if size > self._most:
            too_large = BadCall(f"the batch has {size} bytes, at most {self._most} are taken")
            too_large.reason = "max_batch_bytes"
            raise too_large
        return batch

    def write(self, batch: pa.RecordBatch) -> None:
        """Raises Cancelled."""
        try:
            self._writer.write_batch(batch)
        except fl.FlightInternalError:
            raise Cancelled(_GONE) from None


_GONE = "the caller has gone"


def _unreadable(error: Exception) -> BadCall:
    return BadCall(f"what was sent cannot be read: {error}")


def answer_builtin(name: str, batches: Batches) -> None:
    """Raises BadCall and Cancelled."""
    (arguments, result), make = BUILTINS[name]
    given = batches.begin(result)
    if given.types != arguments.types:
        raise BadCall(f"{name} takes {_types(arguments)}, {_types(given)} was sent")
    while (batch := batches.read()) is not None:
        batches.write(pa.RecordBatch.from_arrays(make(batch), schema=result))


def _types(schema: pa.Schema) -> str:
    return ", ".join(map(str, schema.types)) or "no argument"


def answer(host: Host, exchange: Exchange, batches: Batches) -> None:
    """Call the function with each batch and answer it, until the client ends the exchange.

    A scalar has one batch with as many rows for each. A table function has any number but none: a
    client may wait for it.

    Raises BadCall, Busy, Cancelled, ShuttingDown, and the errors of calls.
    """
    answers = _Answers(exchange, batches)
    exchange.check(batches.begin(exchange.function.schema))
    while (batch := batches.read()) is not None:
        exchange.busy = True
        exchange.batches += 1
        exchange.rows += batch.num_rows
        if batch.num_rows:
            _call(host, exchange, batch, batches.gone, answers)
        else:
            answers.give(exchange.nothing)
        exchange.busy = False
        if not host.ready:
            raise ShuttingDown("this host is stopping and takes no more batches")


def _call(
    host: Host,
    exchange: Exchange,
    batch: pa.RecordBatch,
    gone: Callable[[], bool],
    answers: _Answers,
) -> None:
    call = host.submit(
        exchange.function.name,
        batch,
        None,
        exchange.headers,
        caller=exchange.caller,
        exchange=exchange,
    )
    try:
        host.wait(call, gone)
        data = call.result()
        if isinstance(data, Stream):
            answers.stream(host.read(call.id, exchange.cut, caller=exchange.caller), host)
        else:
            table, _, close = data.open()
            try:
                answers.table(table, batch.num_rows)
            finally:
                close()
    finally:
        host.forget(call)


class _Answers:
    """Gives the data of calls to the client of an exchange."""

    def __init__(self, exchange: Exchange, batches: Batches) -> None:
        self._exchange = exchange
        self._batches = batches

    def table(self, table: pa.Table, rows: int) -> None:
        """rows: of the batch that it answers. Raises FunctionFailed."""
        if not self._exchange.scalar:
            for batch in table.to_batches() or [self._exchange.nothing]:
                self.give(batch)
            return
        if table.num_rows != rows:
            name = self._exchange.function.name
            raise FunctionFailed(
                f"function {name!r} gave {table.num_rows} values for a batch of {rows} rows"
            )
        batches = table.to_batches()
        if len(batches) > 1:  # cut for messages of 4 MiB; but a client takes one as the answer
            batches = table.combine_chunks().to_batches()
        self.give(batches[0])

    def stream(self, reading: Reading, host: Host) -> None:
        given = self._exchange.answered
        with contextlib.closing(reading):
            while (table := self._next(reading, host)) is not None:
                for batch in table.to_batches():
                    self.give(batch)
        if given == self._exchange.answered:
            self.give(self._exchange.nothing)

    def give(self, batch: pa.RecordBatch) -> None:
        """Raises Cancelled."""
        exchange = self._exchange
        exchange.given_at = time.monotonic()
        self._batches.write(batch)
        exchange.given_at = None
        exchange.answered += batch.num_rows

    def _next(self, reading: Reading, host: Host) -> pa.Table | None:
        watch = host.watch(reading, self._batches.gone)
        try:
            return next(reading, None)
        finally:
            watch.leave()
