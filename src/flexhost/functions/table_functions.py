"""`@table_function`: a table function without a class."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import pyarrow as pa

from flexhost.function import Headers
from flexhost.functions.cache_policy import CachePolicy
from flexhost.functions.flex_fun import FlexFun
from flexhost.values.parameters import class_of

# Arguments of a function that are not parameters: what an object of a class has or is called with.
INJECTED = ("columns", "context", "filters", "headers", "caller")

_F = TypeVar("_F", bound=Callable[..., Any])


def table_function(
    schema: pa.Schema,
    *,
    name: str | None = None,
    metadata: dict[str, Any] | None = None,
    cache: CachePolicy | None = None,
    deadline_sec: float | None = None,
    max_running: int | None = None,
    executor: str | None = None,
    labels: dict[str, str] | None = None,
    apply_filters: bool = False,
    label_elements: str | None = None,
) -> Callable[[_F], _F]:
    """Serve a plain, a generator or an `async` function, which stays what it is for Python.

    Its arguments, all with type hints, are the caller's parameters, but for those named `columns`,
    `context`, `filters`, `headers` and `caller`: these get what an object of a class has.

    name: what callers say, in place of the function's own.

    Raises TypeError.
    """
    if not isinstance(schema, pa.Schema):
        raise TypeError(f"@table_function(schema) needs a pyarrow.Schema, it was given {schema!r}")

    def declare(function: _F) -> _F:
        if not inspect.isfunction(function):
            raise TypeError(f"@table_function stands on {function!r}, expected a function")
        if "." in function.__qualname__.rpartition("<locals>.")[2]:
            raise TypeError(
                f"@table_function stands on the method {function.__qualname__}, expected a "
                "function outside of any class; a class of its own is a FlexFun"
            )
        if name is None and not function.__name__.isidentifier():
            raise TypeError(f"@table_function stands on {function!r}, which needs a name=...")
        function.__dict__[_ATTRIBUTE] = {
            "Name": function.__name__ if name is None else name,
            "Schema": schema,
            "Metadata": metadata,
            "Cache": cache,
            "DeadlineSec": deadline_sec,
            "MaxRunning": max_running,
            "Executor": executor,
            "Labels": labels or {},
            "ApplyFilters": apply_filters,
            "LabelElements": label_elements,
        }
        return function

    return declare


_ATTRIBUTE = "__table_function__"


def is_declared(function: object) -> bool:
    return inspect.isfunction(function) and _ATTRIBUTE in function.__dict__


def flex_fun(function: Callable[..., Any], where: str) -> type[FlexFun]:
    """The class that stands for a declared function. Raises StartError."""
    parameters = class_of(function, INJECTED, where)
    arguments = inspect.signature(function).parameters
    names = [name for name in arguments if name not in INJECTED]
    told = [name for name in arguments if name in ("context", "filters", "caller")]
    columns_too, headers_too = "columns" in arguments, "headers" in arguments

    def call(
        self: FlexFun, parameters: dict[str, Any], columns: tuple[str, ...] | None, headers: Headers
    ) -> Any:
        given = {name: getattr(self.params, name) for name in names}
        for name in told:
            given[name] = getattr(self, name)
        if columns_too:
            given["columns"] = columns
        if headers_too:
            given["headers"] = headers
        return function(**given)

    attributes = {
        **function.__dict__[_ATTRIBUTE],
        "Parameters": parameters,
        "call": call,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
    }
    return type(function.__name__, (FlexFun,), attributes)
