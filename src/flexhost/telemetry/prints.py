"""What functions print, as log lines that carry the id of the call; everything else as it was."""

from __future__ import annotations

import logging
import sys
import threading
from contextvars import ContextVar
from typing import Any, TextIO
from weakref import WeakKeyDictionary

from flexhost.call import Call, running
from flexhost.telemetry.events import CallEnded, Emit, Event, ReadEnded

# Characters of one line; what is longer becomes several.
_LONGEST = 8_000

# Whether this thread writes a line right now: a handler may print, too.
_writing: ContextVar[bool] = ContextVar("writing", default=False)


class Prints:
    """Stands for `stream`: what is written while a call runs goes to the logger of its name, line
    by line; what is written otherwise, and all that is no writing, to the stream itself."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._logger = logging.getLogger(name)
        self._begun: WeakKeyDictionary[Call, str] = WeakKeyDictionary()
        self.some_begun = False  # as far as is known: to look is not for each call that ends
        # a call may print from several threads, and from a `__del__` in the midst of it
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        call = running.get()
        if call is None or _writing.get():
            return self._stream.write(text)
        with self._lock:
            *lines, rest = (self._begun.pop(call, "") + text).split("\n")
            while len(rest) > _LONGEST:
                lines.append(rest[:_LONGEST])
                rest = rest[_LONGEST:]
            if rest:
                self._begun[call] = rest
                self.some_begun = True
        for line in lines:
            self._log(call, line)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def end(self, call: Call) -> None:
        """The call is over: what it began is a line."""
        with self._lock:
            rest = self._begun.pop(call, "")
            self.some_begun = len(self._begun) > 0
        self._log(call, rest)

    def _log(self, call: Call, line: str) -> None:
        token, of = _writing.set(True), running.set(call)
        try:
            for start in range(0, len(line), _LONGEST):
                self._logger.info("%s", line[start : start + _LONGEST].rstrip("\r"))
        finally:
            running.reset(of)
            _writing.reset(token)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def capture(emit: Emit) -> Emit:
    """From now on prints of calls are logged. `emit`, but with what a call printed before its end.

    To be called once, in a process of its own.
    """
    out, err = Prints(sys.stdout, "stdout"), Prints(sys.stderr, "stderr")
    sys.stdout, sys.stderr = out, err

    def told(event: Event) -> None:
        if out.some_begun:
            _end(out, event)
        if err.some_begun:
            _end(err, event)
        emit(event)

    return told


def _end(prints: Prints, event: Event) -> None:
    if isinstance(event, (CallEnded, ReadEnded)):
        prints.end(event.call.execution or event.call)
