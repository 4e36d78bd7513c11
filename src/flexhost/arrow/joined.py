"""A stream of tables on its way out, tiny ones joined."""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TypeAlias

import pyarrow as pa

from flexhost.arrow import batches
from flexhost.system.affinity import on_every_core

# Seconds that what came last waits for more to be joined with.
GAP = 0.1
# Seconds that the first of a group waits at most, however steadily others come.
LONGEST = 1.0
# Bytes that are taken from the source ahead of the reader.
AHEAD = 4 << 20

# A batch, with its size in bytes.
Piece: TypeAlias = tuple[pa.RecordBatch, int]


class Joined:
    """The tables of `source`, cut and joined. The first goes at once; later small ones are joined
    while they come less than GAP apart.

    That takes a thread that takes from the source, because whoever waits for its next table cannot
    send the ones before: it starts with the first small table after the first. One thread iterates;
    any may close.

    context: that the source works in, in whichever thread: what it binds is there until its end.
    """

    def __init__(
        self,
        source: Iterator[pa.Table | pa.RecordBatch],
        context: contextvars.Context | None = None,
    ) -> None:
        self._source = _pieces(source)
        self._context = context or contextvars.copy_context()
        self._begun = False
        self._thread: threading.Thread | None = None
        self._waiting: deque[Piece] = deque()
        self._rows = self._size = 0
        self._first_at = self._last_at = 0.0
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        """Raises what the source raises, after what came before."""
        if self._thread is None and (table := self._without_thread()) is not None:
            return table
        with self._lock:
            while not self._due():
                self._changed.wait(self._patience())
            group = self._group()
            if self._size <= AHEAD:
                self._changed.notify()
            if not group:
                if self._error is not None:
                    raise self._error
                raise StopIteration
        return pa.Table.from_batches(batches.join(group))

    def _without_thread(self) -> pa.Table | None:
        """The first of all, or a large one, which go as they are. None when it was a small one, for
        which the thread is started."""
        piece = self._context.run(next, self._source, None)
        if piece is None:
            raise StopIteration
        batch, size = piece
        if not self._begun or not batches.small(batch, size):
            self._begun = True
            return pa.Table.from_batches([batch])
        self._add(batch, size)
        self._thread = threading.Thread(target=self._take, name="stream", daemon=True)
        self._thread.start()
        return None

    def close(self) -> None:
        """The source is let go, at its next table if it works on one right now."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            if self._thread is None:
                self._source = iter(())
            self._changed.notify_all()

    def _take(self) -> None:
        on_every_core()
        source, self._source = self._source, iter(())
        try:
            while self._context.run(self._fill, source):
                with self._lock:
                    while self._size > AHEAD and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        return
        except BaseException as error:
            self._error = error
        finally:
            del source
            with self._lock:
                self._ended = True
                self._changed.notify()

    def _fill(self, source: Iterator[Piece]) -> bool:
        """Take until enough waits. Not to be entered for each table, which would cost as much as to
        take it. False when there is no more, or nobody wants it."""
        for batch, size in source:
            with self._lock:
                if self._closed:
                    return False
                was_full = self._full()
                self._add(batch, size)
                if len(self._waiting) == 1 or (not was_full and self._full()):
                    self._changed.notify()
                if self._size > AHEAD:
                    return True
        return False

    def _add(self, batch: pa.RecordBatch, size: int) -> None:
        self._last_at = time.monotonic()
        if not self._waiting:
            self._first_at = self._last_at
        self._waiting.append((batch, size))
        self._rows += batch.num_rows
        self._size += size

    def _full(self) -> bool:
        return self._rows >= batches.ROWS or self._size >= batches.JOINED

    def _due(self) -> bool:
        if self._ended or self._closed or self._full():
            return True
        patience = self._patience()
        return patience is not None and patience <= 0

    def _patience(self) -> float | None:
        """Seconds until what waits is sent; None while nothing waits."""
        if not self._waiting:
            return None
        return min(self._last_at + GAP, self._first_at + LONGEST) - time.monotonic()

    def _group(self) -> list[pa.RecordBatch]:
        """What is sent next, out of what waits: one large batch, or small ones."""
        group: list[pa.RecordBatch] = []
        rows = size = 0
        while self._waiting:
            batch, its_size = self._waiting[0]
            its_rows = batch.num_rows
            rows, size = rows + its_rows, size + its_size
            if group and (rows > batches.ROWS or size > batches.JOINED):
                break
            self._waiting.popleft()
            group.append(batch)
            self._rows -= its_rows
            self._size -= its_size
        self._first_at = time.monotonic()
        return group


def _pieces(source: Iterator[pa.Table | pa.RecordBatch]) -> Iterator[Piece]:
    sizes: batches.Sizes | None = None
    for data in source:
        for batch in (data,) if isinstance(data, pa.RecordBatch) else data.to_batches():
            if sizes is None:
                sizes = batches.Sizes(batch.schema)
            for piece in sizes.cut(batch):
                yield piece, sizes.of(piece)
