"""DoExchange: a function that is called with batches, as RisingWave and Databend call it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.flight as fl

from flexhost.call import Call
from flexhost.caller import Caller
from flexhost.calls.exchanges import Exchange
from flexhost.contract import Stream
from flexhost.errors import Busy, FunctionFailed, ShuttingDown
from flexhost.frontends import flight_batches
from flexhost.frontends.flight_batches import Batches
from flexhost.function import Headers
from flexhost.host import Host
from flexhost.storage.reading import Reading

# Batches that are called with and not answered yet, of a client that sends on meanwhile.
AHEAD = 2
# Seconds that such a client has to send the next one, or its end, when there is an error to tell.
_PATIENCE = 5.0
# Seconds that a token is good for which was: an exchange may go on for hours after it was removed.
_GOOD_FOR = 1.0
# How often a batch is tried that has no place, since that of the one before it is free only some
# microseconds after its answer; and the seconds in between.
_TRIES, _PAUSE = 10, 0.005


class Asked(NamedTuple):
    """An exchange that a client asks for.

    again: see `Admitted`. cut: see `Exchange`.
    """

    descriptor: fl.FlightDescriptor
    headers: Headers
    caller: Caller
    again: Callable[[], Caller] | None
    cut: Callable[[], object]


def exchange(host: Host, asked: Asked, batches: Batches) -> None:
    """The whole of one.

    Raises UnknownFunction, Unauthorized, NotReady, and what `_answer` raises.
    """
    name, headers = flight_batches.name_in(asked.descriptor), asked.headers
    if name in flight_batches.BUILTINS:
        flight_batches.answer_builtin(name, batches)
        return
    with host.exchange(name, headers, asked.cut, caller=asked.caller) as one:
        ahead = any(map(headers.__contains__, flight_batches.SENDS_ON))
        _answer(host, one, batches, asked.again, ahead=ahead)


def _answer(
    host: Host,
    exchange: Exchange,
    batches: Batches,
    again: Callable[[], Caller] | None,
    *,
    ahead: bool,
) -> None:
    """Call the function with each batch and answer it, until the client ends the exchange.

    A scalar has one batch with as many rows for each. A table function has any number but none: a
    client may wait for it.

    ahead: the client sends on without an answer: the next batch is read, and called with, while a
           call runs. Of another nobody reads as long as there may be an error to tell: who waits
           for the answer to the batch that failed sends nothing that would end the read.

    Raises BadCall, Busy, Cancelled, ShuttingDown, Unauthenticated, Unauthorized, and the errors of
    calls.
    """
    answers = _Answers(host, exchange, batches, again)
    exchange.check(batches.begin(exchange.function.schema))
    if ahead:
        _Ahead(answers).run()
        return
    while (batch := batches.read()) is not None:
        answers.give(answers.call(batch), batch.num_rows)
        if not host.ready:
            raise ShuttingDown("this host is stopping and takes no more batches")


class _Answers:
    """host:    runs the calls.
    batches: what the client of the exchange sends and takes.
    again:   see `Asked`.
    """

    def __init__(
        self,
        host: Host,
        exchange: Exchange,
        batches: Batches,
        again: Callable[[], Caller] | None,
    ) -> None:
        self._host = host
        self._again = again
        self._asked_at = time.monotonic()
        self.exchange = exchange
        self.batches = batches

    def call(self, batch: pa.RecordBatch) -> Call | None:
        """None for a batch without rows. Raises BadCall, Busy, ShuttingDown, and Unauthenticated or
        Unauthorized when its caller is not any more who it was."""
        exchange = self.exchange
        if self._again is not None and time.monotonic() >= self._asked_at + _GOOD_FOR:
            caller = self._again()
            self._host.functions.get(exchange.function.name, caller)
            exchange.caller, self._asked_at = caller, time.monotonic()
        call = self._submitted(batch) if batch.num_rows else None
        exchange.rows += batch.num_rows
        exchange.batches += 1
        return call

    def _submitted(self, batch: pa.RecordBatch) -> Call:
        exchange = self.exchange
        for left in reversed(range(_TRIES if exchange.batches else 1)):
            try:
                return self._host.submit(
                    exchange.function.name,
                    batch,
                    None,
                    exchange.headers,
                    caller=exchange.caller,
                    exchange=exchange,
                )
            except Busy:
                if not left:
                    raise
            time.sleep(_PAUSE)
        raise AssertionError("it was tried")

    def give(self, call: Call | None, rows: int) -> None:
        """Wait for the call of a batch of so many rows, and give its answer.

        Raises Cancelled and the error of the call.
        """
        if call is None:
            self._write(self.exchange.nothing)
        else:
            try:
                self._host.wait(call, self.batches.gone)
                self._give(call, rows)
            finally:
                self._host.forget(call)
        self.exchange.answered += 1

    def drop(self, call: Call | None) -> None:
        """Nobody wants its answer any more."""
        if call is not None:
            self._host.cancel(call.id, call.caller)
            self._host.forget(call)

    def _give(self, call: Call, rows: int) -> None:
        data = call.result()
        if isinstance(data, Stream):
            reading = self._host.read(call.id, self.exchange.cut, caller=call.caller)
            with contextlib.closing(reading):
                self._stream(reading)
        else:
            table, _, close = data.open()
            try:
                self._table(table, rows)
            finally:
                close()

    def _table(self, table: pa.Table, rows: int) -> None:
        exchange = self.exchange
        if not exchange.scalar:
            for batch in table.to_batches() or [exchange.nothing]:
                self._write(batch)
            return
        if table.num_rows != rows:
            name = exchange.function.name
            raise FunctionFailed(
                f"function {name!r} gave {table.num_rows} values for a batch of {rows} rows"
            )
        batches = table.to_batches()
        self._write(batches[0] if len(batches) == 1 else table.combine_chunks().to_batches()[0])

    def _stream(self, reading: Reading) -> None:
        given = False
        while (table := self._next(reading)) is not None:
            for batch in table.to_batches():
                self._write(batch)
                given = True
        if not given:
            self._write(self.exchange.nothing)

    def _next(self, reading: Reading) -> pa.Table | None:
        watch = self._host.watch(reading, self.batches.gone)
        try:
            return next(reading, None)
        finally:
            watch.leave()

    def _write(self, batch: pa.RecordBatch) -> None:
        """Raises Cancelled."""
        exchange = self.exchange
        exchange.given_at = time.monotonic()
        self.batches.write(batch)
        exchange.given_at = None
        exchange.answered_rows += batch.num_rows


class _Ahead:
    """The thread that it is run in reads; another one gives the answers, in order, each as soon as
    it is there."""

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers
        self._room = threading.Semaphore(AHEAD)
        self._calls: queue.SimpleQueue[tuple[Call | None, int] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None  # of an answer

    def run(self) -> None:
        """Raises what `_answer` raises, after the answers to what came before."""
        ended_by: BaseException | None = None
        writer = threading.Thread(target=self._give_all, name="answers", daemon=True)
        writer.start()
        try:
            self._read_all()
        except BaseException as error:
            ended_by = error
        self._calls.put(None)
        writer.join()
        if self._error is not None:
            raise self._error
        if ended_by is not None:
            raise ended_by

    def _read_all(self) -> None:
        while (batch := self._answers.batches.read()) is not None:
            self._room.acquire()
            if self._error is not None:
                return
            try:
                call = self._answers.call(batch)
            except Busy:
                call = self._call_alone(batch)
            self._calls.put((call, batch.num_rows))

    def _call_alone(self, batch: pa.RecordBatch) -> Call | None:
        """When all before it is answered. Raises Busy when there is no place even so."""
        for _ in range(AHEAD - 1):
            self._room.acquire()
        try:
            return self._answers.call(batch)
        finally:
            self._room.release(AHEAD - 1)

    def _give_all(self) -> None:
        while True:
            try:
                given = self._calls.get(timeout=None if self._error is None else _PATIENCE)
            except queue.Empty:  # the client waits, though it said that it would not
                self._answers.exchange.cut()
                continue
            if given is None:
                return
            call, rows = given
            try:
                if self._error is None:
                    self._answers.give(call, rows)
                else:
                    self._answers.drop(call)
            except BaseException as error:
                self._error = error
            self._room.release()
