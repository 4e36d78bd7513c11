"""`@udf`: what a plain function says of itself beside its type hints."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class UdfOptions:
    """name: what callers say; None for its own. deterministic: None for what its object says, else
    True. The others are as of a FlexFun."""

    name: str | None = None
    deterministic: bool | None = None
    null_in_null_out: bool = False
    deadline_sec: float | None = None
    max_running: int | None = None
    executor: str | None = None


NONE = UdfOptions()


@overload
def udf(function: _F, /) -> _F: ...


@overload
def udf(
    *,
    name: str | None = None,
    deterministic: bool | None = None,
    null_in_null_out: bool = False,
    deadline_sec: float | None = None,
    max_running: int | None = None,
    executor: str | None = None,
) -> Callable[[_F], _F]: ...


def udf(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    deterministic: bool | None = None,
    null_in_null_out: bool = False,
    deadline_sec: float | None = None,
    max_running: int | None = None,
    executor: str | None = None,
) -> Any:
    """Options of a hinted function, or of a class with `eval`, which stays what it is for Python.
    Without any of them no `@udf` is needed.

    name:             what callers say, in place of its own.
    deterministic:    whether equal arguments give equal results; True unless said.
    null_in_null_out: it is not called for a row with a NULL in it: a scalar answers NULL, a table
                      function no row.

    Raises TypeError.
    """
    options = UdfOptions(name, deterministic, null_in_null_out, deadline_sec, max_running, executor)

    def declare(function: _F) -> _F:
        if not (is_function(function) or isinstance(function, type)):
            raise TypeError(f"@udf stands on {function!r}, expected a function or a class")
        setattr(function, _ATTRIBUTE, options)
        return function

    return declare if function is None else declare(function)


_ATTRIBUTE = "__udf__"


def is_function(source: Any) -> bool:
    """Also one whose results `functools.cache` keeps."""
    return inspect.isfunction(source) or isinstance(source, functools._lru_cache_wrapper)


def is_marked(source: Any) -> bool:
    return _ATTRIBUTE in getattr(source, "__dict__", {})


def options_of(source: Any) -> UdfOptions:
    """Of one that is not marked: all as they are by themselves. A class has none of its bases."""
    options = getattr(source, "__dict__", {}).get(_ATTRIBUTE, NONE)
    assert isinstance(options, UdfOptions)
    return options
