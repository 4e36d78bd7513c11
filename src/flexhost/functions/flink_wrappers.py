"""What PyFlink's `udf` and `udtf` make of a function, known by its shape: no PyFlink is needed.

https://nightlies.apache.org/flink/flink-docs-stable/docs/dev/python/table/udfs/python_udfs/
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from flexhost.errors import StartError, text_of
from flexhost.function import PANDAS, ROW, SCALAR, TABLE
from flexhost.functions import signature
from flexhost.functions.signature import Argument, Signature
from flexhost.values import types
from flexhost.values.types import Typed

_SHAPE = ("_func", "_input_types", "_deterministic", "_func_type")


class Aggregate(StartError):
    """A function of many rows that gives one value."""


def is_wrapper(source: Any) -> bool:
    own = getattr(source, "__dict__", {})
    if issubclass(type(source), type) or not all(name in own for name in _SHAPE):
        return False
    return "_result_type" in own or "_result_types" in own


def module_of(wrapper: Any) -> str:
    """Where what is wrapped was written."""
    return str(_written(wrapper._func).__module__)


def name_of(wrapper: Any, variable: str) -> str:
    """variable: that it stands in, for a wrapper that was given no name."""
    given, of_func = getattr(wrapper, "_name", None), _own_name(wrapper._func)
    return str(given) if given and given != of_func else variable or of_func


def _own_name(func: Any) -> str:
    return str(getattr(func, "__name__", type(func).__name__))


def is_object(wrapper: Any) -> bool:
    """Whether it wraps an object with `eval`."""
    return hasattr(wrapper._func, "eval")


def code_of(wrapper: Any) -> Callable[..., Any]:
    """What the author wrote to be called."""
    func = wrapper._func
    if is_object(wrapper):
        return func.eval  # type: ignore[no-any-return]
    return func if inspect.isroutine(func) else _named(func)


def _named(func: Any) -> Callable[..., Any]:
    """A partial, or an object that can be called, as a function: those have a name and a module."""

    def call(*given: Any) -> Any:
        return func(*given)

    of = _written(func)
    hinted = of if inspect.isroutine(of) else of.__call__
    named: Any = functools.update_wrapper(call, hinted, updated=())
    named.__module__, named.__name__, named.__qualname__ = (
        of.__module__,
        of.__name__,
        of.__qualname__,
    )
    named.__signature__ = inspect.signature(func)
    return named  # type: ignore[no-any-return]


def _written(func: Any) -> Any:
    """The function or the class of it that the author wrote."""
    while isinstance(func, functools.partial):
        func = func.func
    return func if inspect.isroutine(func) else type(func)


def says_deterministic(wrapper: Any) -> bool | None:
    given = wrapper._deterministic
    return None if given is None else bool(given)


def copier(wrapper: Any, where: str) -> Callable[[], Any]:
    """Makes objects like the one that it wraps, which is never opened itself. Raises StartError."""
    try:
        copy.deepcopy(wrapper._func)
    except Exception as error:
        raise StartError(f"{where}: its object cannot be copied: {text_of(error)}") from None
    return lambda: copy.deepcopy(wrapper._func)


def read(wrapper: Any, where: str) -> Signature:
    """Raises Aggregate, StartError."""
    own = vars(wrapper)
    if "_accumulator_type" in own or hasattr(wrapper._func, "accumulate"):
        raise Aggregate(f"{where} is an aggregate function, which is not served")
    if own.get("_takes_row_as_input"):
        raise StartError(f"{where} takes a whole row, expected one argument for each column")
    if own["_func_type"] not in ("general", "pandas"):
        raise StartError(
            f"{where}: func_type is {own['_func_type']!r}, expected 'general' or 'pandas'"
        )
    pandas = own["_func_type"] == "pandas"
    arguments = _arguments(wrapper, where)
    kind = TABLE if "_result_types" in own else SCALAR
    given = own["_result_types"] if kind == TABLE else own["_result_type"]
    result = _result(given, f"{where}: its result")
    if not pandas:
        return Signature(arguments, result, kind, ROW)
    if kind == TABLE:
        raise StartError(f"{where}: a table function of pandas is not served")
    of_series = [replace(one, typed=replace(one.typed, vector=PANDAS)) for one in arguments]
    return Signature(tuple(of_series), replace(result, vector=PANDAS), kind, PANDAS)


def _arguments(wrapper: Any, where: str) -> tuple[Argument, ...]:
    """Those without defaults, by the names that they have in Python."""
    code, given = code_of(wrapper), wrapper._input_types
    names = []
    for argument in inspect.signature(code).parameters.values():
        if argument.kind is argument.KEYWORD_ONLY and argument.default is not argument.empty:
            continue
        signature.check_kind(argument, where)
        if argument.default is argument.empty:
            names.append(argument.name)
    if given is None:
        return _hinted(code, names, where)
    given = list(given) if isinstance(given, list | tuple) else [given]
    if len(given) != len(names):
        which = f": argument {names[len(given)]!r} has none" if len(given) < len(names) else ""
        raise StartError(
            f"{where} has {len(given)} input_types for {len(names)} arguments "
            f"({', '.join(names)}){which}"
        )
    pairs = zip(names, given, strict=True)
    return tuple(Argument(n, _typed(one, f"{where}: argument {n!r}")) for n, one in pairs)


def _hinted(code: Callable[..., Any], names: list[str], where: str) -> tuple[Argument, ...]:
    """Of a function without input_types, which PyFlink need not be told."""
    hints = signature.hints_of(code, where)
    for name in names:
        if name not in hints:
            raise StartError(f"{where} has no input_types: argument {name!r} has no type")
    typed = [signature.typed_of(hints[name], f"{where}: argument {name!r}") for name in names]
    return tuple(map(Argument, names, typed))


def _result(given: Any, where: str) -> Typed:
    """Several types of a table function are the fields of its rows."""
    if not isinstance(given, list | tuple):
        return _typed(given, where)
    found = [_typed(one, where) for one in given]
    if len(found) == 1:
        return found[0]
    fields = [pa.field(f"f{n}", one.type, one.nullable) for n, one in enumerate(found)]
    return types.of_type(pa.struct(fields), nullable=False)


def _typed(data_type: Any, where: str) -> Typed:
    try:
        return types.typed_of_flink(data_type)
    except TypeError as error:
        raise StartError(f"{where}: {error}") from None


def adapted(function: Callable[..., Any], found: Signature) -> Callable[..., Any]:
    """The function, with tuples for its rows."""
    if found.style == PANDAS:
        return function
    struct = pa.types.is_struct(found.result.type)
    if found.kind == SCALAR:
        return (lambda *given: _row(function(*given))) if struct else function

    def each(*given: Any) -> Iterator[Any]:
        items = function(*given)
        for item in () if items is None else items:
            item = _row(item)
            yield item[0] if not struct and isinstance(item, tuple) and len(item) == 1 else item

    return each


def _row(value: Any) -> Any:
    """A Row of PyFlink as a tuple."""
    return tuple(value) if hasattr(value, "get_row_kind") else value
