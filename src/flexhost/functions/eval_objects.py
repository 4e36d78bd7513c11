"""Functions that are objects: a class with `eval`, and `open` and `close` around all calls."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flexhost.errors import FunctionFailed, StartError
from flexhost.functions import modules
from flexhost.functions.flex_fun import FlexFun, LoadContext


class NotMade(StartError):
    """A class whose objects cannot be made without arguments."""


class JobContext:
    """What `open` gets, if it takes anything.

    settings: see `LoadContext`.
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def get_job_parameter(self, key: str, default_value: Any = None) -> Any:
        """What the settings have, as a text: "my.url" is `url` of the section [my]."""
        value = None if self.settings is None else self.settings.get(key)
        return default_value if value is None else str(value)


class Objects:
    """Objects of one class, none of which is ever used by two calls at once, since they may hold
    state: one is made whenever a call finds none free, and kept until the host ends. `max_running`
    bounds how many there are; a worker process has one.

    make:    a new object, which is not open yet.
    adapted: its `eval` as the host calls it.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        where: str,
        adapted: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda code: code,
    ) -> None:
        """where: it was found, for errors."""
        self._make = make
        self._where = where
        self._adapted = adapted
        self._context: LoadContext | None = None
        self._free: list[Any] = []
        self._lock = threading.Lock()

    def load(self, context: LoadContext) -> None:
        """Make the first one. Raises StartError."""
        self._context = context
        self._free.append(self._opened())

    @contextmanager
    def lent(self) -> Iterator[Callable[..., Any]]:
        """The `eval` of one of them, for a call. Raises FunctionFailed when it cannot be opened."""
        with self._lock:
            found = self._free.pop() if self._free else None
        if found is None:
            try:
                found = self._opened()
            except StartError as error:
                raise FunctionFailed(str(error), trace=error.trace, said=str(error)) from None
        try:
            yield self._adapted(found.eval)
        finally:
            with self._lock:
                self._free.append(found)

    def _opened(self) -> Any:
        """Raises StartError."""
        context = self._context
        try:
            made = self._make()
            if callable(open_ := getattr(made, "open", None)):
                settings = None if context is None else context.settings
                open_(*([JobContext(settings)] if _takes_one(open_) else []))
        except BaseException as error:
            raise modules.failure(f"{self._where} cannot be opened", error) from None
        close = getattr(made, "close", None)
        if callable(close) and context is not None:
            context.on_close(close)
        return made


def is_eval_class(source: Any) -> bool:
    """Whether it is a class with `eval` that is no FlexFun, nor of that shape."""
    if not issubclass(type(source), type) or issubclass(source, FlexFun):
        return False
    by_shape = all(hasattr(source, name) for name in ("Name", "Schema", "call"))
    return callable(getattr(source, "eval", None)) and not by_shape


def eval_of(cls: type[Any]) -> tuple[Callable[..., Any], bool]:
    """Its `eval`, and whether the first argument of that is the object."""
    bound = isinstance(inspect.getattr_static(cls, "eval"), staticmethod | classmethod)
    return cls.eval, not bound


def made(cls: type[Any], where: str) -> Any:
    """An object of it. Raises NotMade, StartError."""
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise NotMade(f"{where}: its class cannot be made without arguments: {error}") from None
    except ValueError:  # of a class that has no signature
        pass
    try:
        return cls()
    except BaseException as error:
        raise modules.failure(f"{where}: an object of it cannot be made", error) from None


def says_deterministic(instance: Any, where: str) -> bool | None:
    """What it says of itself; None when it says nothing. Raises StartError."""
    asked = getattr(instance, "is_deterministic", None)
    if not callable(asked):
        return None
    try:
        return bool(asked())
    except BaseException as error:
        raise modules.failure(f"{where}: is_deterministic failed", error) from None


def check(cls: Any, where: str) -> None:
    """Raises StartError for an `open` or a `close` that cannot be called."""
    for name in ("open", "close"):
        method = getattr(cls, name, None)
        if inspect.iscoroutinefunction(method):
            raise StartError(f"{where}: its {name} is async, and runs outside of any event loop")


def _takes_one(open_: Callable[..., Any]) -> bool:
    try:
        inspect.signature(open_).bind(None)
    except TypeError:
        return False
    return True
