"""What pytest gets of the kit: `serve` and `logged`, and in words how two tables differ."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any, TextIO, cast

import pyarrow as pa
import pytest
import structlog

from flexhost import logs
from flexhost.call import running
from flexhost.telemetry import structured
from flexhost.telemetry.prints import Prints
from flexhost.testing.differences import differences
from flexhost.testing.served import Serving, serving


@pytest.fixture
def serve() -> Iterator[Callable[..., Serving]]:
    """`serve(Function, settings=...)` is `serving` until the end of the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *given, **named: stack.enter_context(serving(*given, **named))


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """What calls log and print, from DEBUG on, line by line, as the host would write it."""
    lines: list[dict[str, Any]] = []
    root, handler = logging.getLogger(), _Lines(lines)
    level, configured = root.level, structlog.get_config() if structlog.is_configured() else None
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    structured.configure(cache=False)
    yield lines
    structlog.reset_defaults()
    if configured is not None:
        structlog.configure(**configured)
    root.setLevel(level)
    root.removeHandler(handler)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """`logged` has what is printed here: after the fixtures pytest puts stdout in place anew."""
    with contextlib.ExitStack() as stack:
        if "logged" in pyfuncitem.fixturenames:
            stack.enter_context(contextlib.redirect_stdout(_prints(sys.stdout, "stdout")))
            stack.enter_context(contextlib.redirect_stderr(_prints(sys.stderr, "stderr")))
        return (yield)


def _prints(stream: TextIO, name: str) -> TextIO:
    return cast(TextIO, Prints(stream, name))


class _Lines(logging.Handler):
    """Keeps the lines of calls."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        if running.get() is not None:
            self._lines.append(logs.JsonLines().fields(record))


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    if op != "==" or not isinstance(left, pa.Table) or not isinstance(right, pa.Table):
        return None
    told = differences(left, right) or ["but for NaN, which equals nothing, they are the same"]
    return ["two tables:", *told]
