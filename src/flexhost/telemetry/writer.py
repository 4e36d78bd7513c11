"""The one thread that writes the log, so that nobody else waits for it."""

from __future__ import annotations

import functools
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import NamedTuple, TypeAlias

_logger = logging.getLogger("flexhost")

# Seconds that lines are left together, to be written at once.
_BATCH = 0.05
# What may wait to be written: lines, and characters of their texts. Past it lines are only counted:
# a log that cannot be written must not take the memory of the host.
MOST = 50_000
MOST_TEXT = 64 << 20

# Writes lines, each with its end.
Sink: TypeAlias = Callable[[str], object]


class _Line(NamedTuple):
    """make:  gives other lines, when it is its turn.
    write: for a line that is not written together with others; else `text` goes to `sink`.
    """

    size: int
    make: Callable[[], object] | None = None
    write: Callable[[], object] | None = None
    sink: Sink | None = None
    text: str = ""


class Writer:
    """Never raises: a broken log must not cost a call."""

    def __init__(self) -> None:
        self.left_out = 0
        self._lines: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()
        self._text = 0  # characters that wait
        self._lock = threading.Lock()
        self._made: list[_Line] | None = None  # of the one that is being made
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def later(self, write: Callable[[], object], size: int = 0) -> bool:
        """Whether `write` is called in its turn, or left out since too many wait. False for whoever
        has to do it: the writer itself, and everybody once this is closed.

        size: characters of what it writes.
        """
        return self._put(_Line(size, write=write))

    def text_later(self, sink: Sink, text: str) -> bool:
        """The same for a line that is made already. Those of one sink are written together."""
        return self._put(_Line(len(text), sink=sink, text=text))

    def made_later(self, make: Callable[[], object], size: int) -> bool:
        """The same for what hands over its lines, in one of these ways, when it is called: many are
        made one after the other, at a fraction of what each would cost alone."""
        return self._put(_Line(size, make))

    def close(self, seconds: float) -> None:
        """Write what came until now, for at most so long."""
        self._closing.set()
        self._lines.put(None)
        self._thread.join(seconds)
        if not self._thread.is_alive():
            self._write(self._waiting())  # what came together with the end

    def _put(self, line: _Line) -> bool:
        if self._made is not None and threading.get_ident() == self._thread.ident:
            self._made.append(line._replace(size=0))  # it is counted already
            return True
        if self._closing.is_set() or threading.get_ident() == self._thread.ident:
            return False
        with self._lock:
            if self._lines.qsize() > MOST or self._text > MOST_TEXT:
                self.left_out += 1
            else:
                self._text += line.size
                self._lines.put(line)
        return True

    def _write_all(self) -> None:
        while True:
            first = self._lines.get()
            self._closing.wait(_BATCH)
            lines = [first, *self._waiting()]
            self._write(lines)
            if None in lines:
                return
            del first, lines  # and with them what they were logged in
            if self.left_out and self._lines.empty():
                left_out, self.left_out = self.left_out, 0
                _logger.error("%d lines are left out: the log is too slow", left_out)

    def _waiting(self) -> list[_Line | None]:
        return [self._lines.get() for _ in range(self._lines.qsize())]

    def _write(self, lines: list[_Line | None]) -> None:
        for sink, those in groupby(self._all_made(lines), lambda line: line.sink):
            if sink is not None:
                together = list(those)
                text = "".join(line.text for line in together)
                self._do(functools.partial(sink, text), sum(line.size for line in together))
                continue
            for line in those:
                assert line.write is not None
                self._do(line.write, line.size)

    def _all_made(self, lines: list[_Line | None]) -> Iterator[_Line]:
        for line in filter(None, lines):
            if line.make is None:
                yield line
                continue
            made: list[_Line] = []
            self._made = made
            try:
                self._do(line.make, line.size)
            finally:
                self._made = None
            yield from made

    def _do(self, write: Callable[[], object], size: int) -> None:
        try:
            write()
        except Exception:
            _logger.exception("a line of the log was lost")
        with self._lock:
            self._text -= size
