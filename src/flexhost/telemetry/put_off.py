"""Records of loggers that are handed to the one thread that writes them."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeGuard

import msgspec

from flexhost.errors import name_of, text_of
from flexhost.logs import STANDARD, Line, shown, trace_of


class Later(Protocol):
    """Of `Writer`."""

    def later(self, write: Callable[[], None], size: int) -> bool: ...
    def text_later(self, sink: Callable[[str], None], text: str) -> bool: ...


def write_later(later: Later) -> None:
    """From now on nobody waits for a log: records of all loggers are handed to `later`, whose
    writer calls it, in the context that they were logged in."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        if isinstance(logger, logging.Logger) and logger.handlers:
            logger.handlers = [_Later(logger.handlers, later)]


class _Later(logging.Handler):
    """Stands for the handlers of a logger."""

    def __init__(self, handlers: list[logging.Handler], later: Later) -> None:
        super().__init__()
        self._handlers = handlers
        self._later = later
        # of all of them, or of none
        self._sinks = [_Sink(handler) for handler in handlers if _is_plain(handler)]
        if len(self._sinks) < len(handlers):
            self._sinks = []

    def handle(self, record: logging.LogRecord) -> bool:
        if self._sinks and type(record) is Line:
            for sink in self._sinks:
                if record.levelno >= sink.handler.level:
                    self._write_text(sink, record)
            return True
        wanted = [handler for handler in self._handlers if record.levelno >= handler.level]
        if not wanted:
            return False
        context = contextvars.copy_context()
        try:
            line = record if isinstance(record, Line) else settled(record)
            size = sum(map(_size, vars(line).values()))
        except Exception:  # whoever logs is told of no mistake in that, as by the library
            self.handleError(record)
            return False
        write = functools.partial(context.run, _write, line, wanted)
        if not self._later.later(write, size):
            write()
        return True

    def _write_text(self, sink: _Sink, line: Line) -> None:
        """As a text that others are written together with."""
        text = sink.handler.format(line) + sink.handler.terminator
        if not self._later.text_later(sink, text):
            sink(text)


class _Sink:
    """Writes texts as its handler would."""

    def __init__(self, handler: logging.StreamHandler[Any]) -> None:
        self.handler = handler

    def __call__(self, text: str) -> None:
        with self.handler.lock or contextlib.nullcontext():
            self.handler.stream.write(text)
            self.handler.flush()


def _is_plain(handler: logging.Handler) -> TypeGuard[logging.StreamHandler[Any]]:
    """Whether it only formats and writes: none of an author's own, and none that opens files."""
    if type(handler) not in (logging.StreamHandler, logging.FileHandler) or handler.filters:
        return False
    return getattr(handler, "stream", None) is not None


def _write(record: logging.LogRecord, handlers: list[logging.Handler]) -> None:
    for handler in handlers:
        handler.handle(record)


def settled(record: logging.LogRecord) -> logging.LogRecord:
    """The record without what could change, or would keep frames, until it is written."""
    line = logging.LogRecord.__new__(type(record))  # a handler of the author may have this one
    values = vars(line)
    values.update(vars(record))
    if record.args or type(record.msg) is not str:
        line.msg, line.args = _message(record), None
    if record.exc_info and record.exc_info[0] is not None:
        line.exc_text = record.exc_text or trace_of(record.exc_info)
        line.exc_info = None
    if fields := values.pop("fields", None):
        line.fields = {key: _copied(value) for key, value in fields.items()}
    for key in values.keys() - STANDARD:
        values[key] = _copied(values[key])
    return line


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        what = record.msg if type(record.msg) is str else name_of(record.msg)
        return f"{what!r}, which cannot be formatted: {name_of(error)}: {text_of(error)}"


_PLAIN = {type(None), bool, int, float, str}


def _copied(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    try:
        return msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=str, str_keys=True)
    except Exception:  # no text either, or keys that are none
        return shown(value)


def _size(value: Any) -> int:
    """Characters of the texts in what `_copied` gives."""
    if isinstance(value, str):
        return len(value)
    if type(value) in _PLAIN:
        return 0
    if isinstance(value, dict):
        return sum(_size(key) + _size(one) for key, one in value.items())
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 0
