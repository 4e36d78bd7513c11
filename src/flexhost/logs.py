"""How a log line looks. The standard library's logging underneath, so that a logging file can set
levels and handlers; structlog loggers of authors come out the same way."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import io
import json
import logging
import logging.config
import sys
import threading
import tomllib
import traceback
from collections.abc import Callable, MutableMapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeGuard

import msgspec
import structlog

from flexhost.call import running
from flexhost.errors import SettingsError, name_of, text_of
from flexhost.masks import masked, masked_text

# Attributes that every record has: the rest was given by whoever logged.
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "fields", "taskName"}


class Line(logging.LogRecord):
    """A record of the host itself: settled, nobody else has it. All that was logged with it is in
    `fields`, plain values, none of them under `timestamp`, `level` or `logger`, none a secret by
    its name.

    There is one for each call, so it is made without asking what thread and process this is.
    """

    fields: dict[str, Any]

    @classmethod
    def of(
        cls, logger: logging.Logger, level: int, text: str, at: float, fields: dict[str, Any]
    ) -> Line:
        """at: seconds since the epoch."""
        line = cls.__new__(cls)
        own = {"name": logger.name, "levelno": level, "levelname": logging.getLevelName(level)}
        own |= {"msg": text, "created": at, "msecs": at % 1 * 1e3, "fields": fields}
        vars(line).update(_ANY_LINE, **own)
        return line


_ANY_LINE = vars(logging.LogRecord("", logging.INFO, "", 0, "", (), None))


class JsonLines(logging.Formatter):
    """A JSON object a line: timestamp, level, logger, event, and what was logged with it. Within a
    call `call_id`, `function` and, where it is known, `caller`.

    In a logging file: `class=flexhost.logs.JsonLines`.
    """

    event_key = "event"
    trace_fields: Callable[[], dict[str, str]] | None = None  # of the span it was logged in

    def format(self, record: logging.LogRecord) -> str:
        fields = self.fields(record)
        try:
            return msgspec.json.encode(fields, enc_hook=str).decode()
        except Exception:  # a value that is no text either, or a lone surrogate
            return json.dumps(fields, default=_shown)

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            self.event_key: record.getMessage(),
        }
        if isinstance(record, Line):
            for key, value in record.fields.items():
                fields[key] = masked_text(value) if type(value) is str else value
            return fields
        own = frozenset(fields)
        given: dict[str, Any] = {}
        call = running.get()
        if call is not None:
            given = {"call_id": call.id, "function": call.function.name}
            if call.caller.name:
                given["caller"] = call.caller.name
        if JsonLines.trace_fields is not None:
            given |= JsonLines.trace_fields()
        given |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
        given |= getattr(record, "fields", {})
        # `level` is what alerts look for, whatever somebody else means by it
        fields |= {f"{key}_" if key in own else key: value for key, value in given.items()}
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            fields["exception"] = record.exc_text
        if record.stack_info:
            fields["stack"] = record.stack_info
        return {key: masked(value, key) for key, value in fields.items()}

    def formatException(self, ei: Any) -> str:  # noqa: N802  # the library's name
        return _trace(ei)


def _trace(ei: Any) -> str:
    # with an explicit limit: sys.tracebacklimit is 0 while the Flight server runs
    return "".join(traceback.format_exception(*ei, limit=100)).rstrip()


class ReadableLines(JsonLines):
    """The same for a person at a terminal."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._render = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), event_key=self.event_key
        )

    def format(self, record: logging.LogRecord) -> str:
        fields = self.fields(record)
        fields["timestamp"] = fields["timestamp"][11:23]
        fields = {key: value for key, value in fields.items() if value is not None}
        return str(self._render(None, record.levelname, fields))


def configure(
    *, readable: bool = False, config: str | None = None, event_key: str = "event"
) -> None:
    """Set up logging for this process: to stderr, from INFO on, unless the file `config` says
    otherwise: TOML for `logging.config.dictConfig`, else the ini format of `fileConfig`.

    Raises SettingsError that names the file.
    """
    JsonLines.event_key = event_key
    handler = logging.StreamHandler()
    handler.setFormatter(ReadableLines() if readable else JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    if config is not None:
        _configure_from(config)
    logging.captureWarnings(True)  # of Python
    configure_structlog()
    logger = logging.getLogger("flexhost")
    threading.excepthook = lambda args: _uncaught(
        logger, f"in thread {args.thread.name if args.thread else '?'}", args.exc_value
    )
    sys.unraisablehook = lambda args: _uncaught(logger, f"in {args.object!r}", args.exc_value)


def configure_structlog(*, cache: bool = True) -> None:
    """Have loggers of structlog log with those of the standard library.

    cache: they stay as they are from their first line on.
    """
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, _to_record],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=cache,
    )


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
        self._sinks: dict[logging.Handler, _Sink] = {}
        for handler in handlers:
            if _is_plain(handler):
                self._sinks[handler] = _Sink(handler)

    def handle(self, record: logging.LogRecord) -> bool:
        wanted = [handler for handler in self._handlers if record.levelno >= handler.level]
        if not wanted:
            return False
        if isinstance(record, Line) and self._sinks.keys() >= set(wanted):
            for handler in wanted:
                self._write_text(self._sinks[handler], record)
            return True
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
        line.exc_text = record.exc_text or _trace(record.exc_info)
        line.exc_info = None
    if fields := values.pop("fields", None):
        line.fields = {key: _copied(value) for key, value in fields.items()}
    for key in values.keys() - _STANDARD:
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
        return _shown(value)


def _size(value: Any) -> int:
    """Characters of the texts in what `_copied` gives."""
    if isinstance(value, str):
        return len(value)
    if type(value) in _PLAIN:
        return 0
    if isinstance(value, dict):
        return sum(_size(key) + _size(one) for key, one in value.items())
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 0


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{name_of(value)} that cannot be shown>"


def _configure_from(file: str) -> None:
    try:
        text = Path(file).read_text("utf-8")
        if file.endswith(".toml"):
            logging.config.dictConfig({"disable_existing_loggers": False, **tomllib.loads(text)})
        else:
            logging.config.fileConfig(io.StringIO(text), disable_existing_loggers=False)
    except OSError as error:
        raise SettingsError(f"cannot read the logging file {file}: {error.strerror}") from None
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise SettingsError(f"the logging file {file} cannot be used: {cause}") from None


def _to_record(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The last structlog processor: its key-values as one attribute, where none can collide."""
    call: dict[str, Any] = {"msg": str(event.pop("event", ""))}
    for key in ("exc_info", "stack_info"):
        if key in event:
            call[key] = event.pop(key)
    # the message is not a %-format: no args are passed
    return {**call, "extra": {"fields": dict(structlog.contextvars.get_contextvars(), **event)}}


def _uncaught(logger: logging.Logger, where: str, error: BaseException | None) -> None:
    if error is None or isinstance(error, SystemExit):
        return
    traceback_: TracebackType | None = error.__traceback__
    logger.error("uncaught exception %s", where, exc_info=(type(error), error, traceback_))
