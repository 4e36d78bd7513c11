"""An exception of a function → the error of its call."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from flexhost.errors import FunctionFailed, HostError, name_of, text_of
from flexhost.functions.modules import authors_frames


class Written(Protocol):
    """file: see `Function`."""

    @property
    def file(self) -> str: ...


def failure(error: BaseException, of: Written, *, where: str | None = None) -> HostError:
    """An exception of the function as the error of its call, without its frames: they would pin
    the memory of the call for as long as the error is kept. Never raises.

    of:    the function.
    where: of a function of rows, the row: no exception of it says that its arguments are wrong,
           other than a BadArgument.
    """
    kind = type(error)
    if issubclass(kind, HostError) and kind.__module__ == HostError.__module__:
        assert isinstance(error, HostError)
        error.__traceback__ = error.__cause__ = error.__context__ = None
        if where:  # it may be raised again
            error = error.copy()
            error.args = (f"{where}{error}",)
        return error
    try:
        text, name = text_of(error), name_of(error)
        # an explicit limit, because sys.tracebacklimit is 0 in a serving process
        frames = authors_frames(error) or error.__traceback__
        trace = "".join(traceback.format_exception(kind, error, frames, limit=100))
        said = f"{name}: {text}"
        detail = "\n".join([said, *_own_lines(error, of.file)])
        error.__traceback__ = error.__cause__ = error.__context__ = None
        # a ValueError of pyarrow is no word about the caller's arguments
        bad = issubclass(kind, ValueError) and not issubclass(kind, pa.ArrowException)
        if where is not None:
            text, bad = f"{where}{said}", False
        return FunctionFailed(
            text, detail=detail, trace=trace, cause=error, said=said, bad_argument=bad
        )
    except BaseException:  # of an exception that fails at everything
        what = "the function failed with an exception that cannot be described"
        return FunctionFailed(what, no_result=True)


def _own_lines(error: BaseException, file: str) -> Iterator[str]:
    """Where in the author's own file it happened: a file name without its path, no source text."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == file:
            yield f"{Path(file).name}:{line} in {frame.f_code.co_name}"
