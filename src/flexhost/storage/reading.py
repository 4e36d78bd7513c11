"""One read of a result, from its opening to its end."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from flexhost.arrow.batches import size_of
from flexhost.arrow.joined import Joined
from flexhost.call import Call, running
from flexhost.contract import Stream
from flexhost.errors import Cancelled, HostError
from flexhost.functions.failures import failure
from flexhost.storage.kept import Opened
from flexhost.telemetry.events import ReadEnded
from flexhost.telemetry.spans import ReadSpans

if TYPE_CHECKING:
    from flexhost.results import Results


class Reading:
    """One read of a result. Whoever opened it closes it; any thread may, any number of times.

    streamed:   it is no table.
    table:      the data, when it is a table, which may be sent as it is (`whole`). Iterating gives
                it in pieces, and a stream table by table.
    size:       of the table, in bytes.
    to_the_end: it matters whether all of it is taken: iterate.
    cut:        breaks the connection to the reader; for one that takes nothing more.
    """

    def __init__(
        self,
        call: Call,
        data: Opened | Stream,
        results: Results,
        cut: Callable[[], object] | None = None,
    ) -> None:
        self.call = call
        self.streamed = isinstance(data, Stream)
        self.table: pa.Table | None = None
        self.size = 0
        self._stream: Stream | None = None
        self._joined: Joined | None = None
        self._tables: Iterator[pa.Table]
        # each time that gRPC calls it is in a new one: what a function binds would be lost
        self._context = contextvars.Context()
        if isinstance(data, Stream):
            self.schema: pa.Schema = data.schema
            self._stream = data
            self._context.run(running.set, call)
            self._tables = self._joined = Joined(data.batches(), self._context)
        else:
            self.schema = data.table.schema
            self.table, self.size, self._close_table = data
            self._tables = _chunks(data.table)
        self.to_the_end = results.after_read is not None
        self._spans: ReadSpans | None = None
        self._results = results
        self._cut = cut
        self._opened = results.clock()
        self._given_at: float | None = None  # when the reader got what it still takes
        self._rows = self._bytes = 0
        self._complete = False
        self._error: HostError | None = None

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        """Raises the error it was closed with, and FunctionFailed."""
        self._given_at = None
        try:
            if self._error is not None:
                raise self._error
            table = next(self._tables)
        except StopIteration:
            if self._error is not None:
                raise self._error from None
            self._complete = True
            raise
        except BaseException as error:
            if self._error is None:  # or it was closed meanwhile, under its hands
                self._error = failure(error, self.call.function)
                self._error.id, self._error.function = self.call.id, self.call.function.name
            raise self._error from None
        self._rows += table.num_rows
        self._bytes += size_of(table)
        self._given_at = self._results.clock()
        return table

    def whole(self) -> pa.Table:
        """The table, for somebody who sends all of it."""
        assert self.table is not None
        self._rows, self._bytes = self.table.num_rows, self.size
        self._complete = True
        return self.table

    def stalled(self, now: float, seconds: float) -> bool:
        """Whether the reader has taken nothing of what it was given last for so long."""
        return self._given_at is not None and now - self._given_at >= seconds

    def cut(self) -> None:
        """Give up on a reader that has stalled: its connection is broken."""
        self.close(Cancelled("the reader took nothing more"))
        if self._cut is not None:
            self._cut()

    def close(self, error: HostError | None = None) -> None:
        """error: why the rest of a stream cannot be had; whoever iterates gets it."""
        if not self._results.forget(self):
            return
        if error is not None and not self._complete:
            self._error = error
        if self._stream is not None:
            self._close_stream(self._stream)
        if self._joined is not None:
            self._joined.close()
        if self.table is not None:
            self.table, self._tables = None, iter(())
            self._close_table()
            if self._complete:
                self._results.was_read(self.call)
        if self._spans is not None:
            self._spans.end(self._rows, self._bytes, self._error)
        self._results.emit(
            ReadEnded(
                call=self.call,
                rows=self._rows,
                bytes=self._bytes,
                seconds=self._results.clock() - self._opened,
                complete=self._complete,
                error=self._error,
                stream=self._stream is not None,
            )
        )

    def trace(self, spans: ReadSpans) -> None:
        self._spans = spans
        self._context.run(spans.begin)

    def _close_stream(self, stream: Stream) -> None:
        """With the author's `finally`, in the context of what came before it."""
        self.call.stops.all()
        try:
            self._context.run(stream.close)
        except RuntimeError:  # another thread is at work in it, and closes it there
            stream.close()


def _chunks(table: pa.Table) -> Iterator[pa.Table]:
    for batch in table.to_batches():
        yield pa.Table.from_batches([batch])
