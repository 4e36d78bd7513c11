"""Where an error of the host becomes an error of the wire."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

import pyarrow.flight as fl

from flexhost.errors import HostError, Internal


class Telling:
    """Inside it, an error of the host is raised as an error of the wire.

    tell: the error of the wire for one of the host, the request, its caller, and whether it is in a
          stream.
    span: is entered and left with it, and sees the error of the host.
    """

    __slots__ = ("_of", "_span", "_tell")

    def __init__(
        self,
        tell: Callable[[HostError, str, str, bool], fl.FlightError],
        request: str,
        caller: str,
        in_stream: bool,
        span: AbstractContextManager[None] | None = None,
    ) -> None:
        self._tell = tell
        self._of = request, caller, in_stream
        self._span = span

    def __enter__(self) -> None:
        if self._span is None:
            return
        try:
            self._span.__enter__()
        except BaseException as error:
            self._span = None
            self.__exit__(type(error), error, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._span is not None:
            try:
                self._span.__exit__(kind, error, trace)
            except BaseException as raised:
                error = raised
        if error is None or isinstance(error, (fl.FlightError, StopIteration, GeneratorExit)):
            return
        told = error if isinstance(error, HostError) else _internal(error)
        # an error may be kept with its call, and its frames would keep this request
        told.__traceback__ = told.__context__ = None
        # no name for what is raised: it would be in a frame that it keeps itself
        raise self._tell(told, *self._of) from None


def _internal(error: BaseException) -> HostError:
    trace = "".join(traceback.format_exception(error, limit=100))
    return Internal("the host failed in a way it should not", trace=trace)
