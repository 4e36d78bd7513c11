"""Log lines of a worker process: handed to the host, which has them written as if they were its
own."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable
from typing import Any

from flexhost import logs
from flexhost.telemetry import put_off

# Values of a record's attributes, plain enough for another process.
Line = dict[str, Any]


class Forward(logging.Handler):
    """Stands for all handlers in a worker process."""

    def __init__(self, send: Callable[[Line], object]) -> None:
        super().__init__()
        self._hand_over = send

    def emit(self, record: logging.LogRecord) -> None:
        line = vars(put_off.settled(record))
        if logs.JsonLines.trace_fields is not None and (of := logs.JsonLines.trace_fields()):
            line["fields"] = {**of, **line.get("fields", {})}
        self._hand_over(line)


def forward(send: Callable[[Line], object], levels: dict[str, int]) -> None:
    """From now on all lines of this process from these levels on, by loggers, are handed over."""
    logs.configure()
    logging.root.handlers = [Forward(send)]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def levels() -> dict[str, int]:
    """Of the loggers that have one; of the root under the name `root`."""
    known = {"root": logging.root, **logging.root.manager.loggerDict}
    loggers = {name: one for name, one in known.items() if isinstance(one, logging.Logger)}
    return {name: one.level for name, one in loggers.items() if one.level}


def write(line: Line, context: contextvars.Context) -> None:
    """context: of the call that logged it."""
    logger = logging.getLogger(line["name"])
    if logger.isEnabledFor(line["levelno"]):
        context.run(logger.handle, logging.makeLogRecord(line))
