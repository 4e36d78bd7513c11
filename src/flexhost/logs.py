"""How a log line looks. The standard library's logging underneath, so that a logging file can set
levels and handlers; loggers of structlog come out the same way (`telemetry/structured.py`)."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import sys
import threading
import tomllib
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from flexhost.call import running
from flexhost.errors import SettingsError, name_of
from flexhost.telemetry.masks import masked
from flexhost.telemetry.structured import configure_once_imported

# Attributes that every record has: the rest was given by whoever logged.
STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "fields", "taskName"}


class Line(logging.LogRecord):
    """A record of the host itself: settled, nobody else has it. All that was logged with it is in
    `fields`, plain values, none of them under `timestamp`, `level` or `logger`, none a secret by
    its name or its look.

    There is one for each call, so it is made without asking what thread and process this is.
    """

    fields: dict[str, Any]

    @classmethod
    def of(
        cls, logger: logging.Logger, level: int, text: str, at: float, fields: dict[str, Any]
    ) -> Line:
        """at: seconds since the epoch."""
        line = cls.__new__(cls)
        vars(line).update(
            _ANY_LINE,
            name=logger.name,
            levelno=level,
            levelname=logging.getLevelName(level),
            msg=text,
            created=at,
            msecs=at % 1 * 1e3,
            fields=fields,
        )
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
            return json.dumps(fields, default=shown)

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            self.event_key: record.msg if type(record) is Line else record.getMessage(),
        }
        if isinstance(record, Line):
            fields.update(record.fields)
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
        given |= {k: v for k, v in vars(record).items() if k not in STANDARD}
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
        return trace_of(ei)


def trace_of(ei: Any) -> str:
    # with an explicit limit: sys.tracebacklimit is 0 while the Flight server runs
    return "".join(traceback.format_exception(*ei, limit=100)).rstrip()


class ReadableLines(JsonLines):
    """The same for a person at a terminal."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        import structlog.dev

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
    configure_once_imported()
    logger = logging.getLogger("flexhost")
    threading.excepthook = lambda args: _uncaught(
        logger, f"in thread {args.thread.name if args.thread else '?'}", args.exc_value
    )
    sys.unraisablehook = lambda args: _uncaught(logger, f"in {args.object!r}", args.exc_value)


def shown(value: Any) -> str:
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


def _uncaught(logger: logging.Logger, where: str, error: BaseException | None) -> None:
    if error is None or isinstance(error, SystemExit):
        return
    traceback_: TracebackType | None = error.__traceback__
    logger.error("uncaught exception %s", where, exc_info=(type(error), error, traceback_))
