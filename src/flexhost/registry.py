"""Name → Function. Filled at start-up from the modules of the configuration, then only read, so it
needs no lock."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from flexhost import declarations, modules, table_functions
from flexhost.caller import Caller
from flexhost.errors import StartError, Unauthorized, UnknownFunction
from flexhost.function import CachePolicy, Elsewhere, FlexFun, Function, LoadContext
from flexhost.parameters import Parameters

_NONE: Mapping[str, Any] = MappingProxyType({})


class Registry:
    def __init__(self, functions: Iterable[Function], modules: Iterable[str] = ()) -> None:
        """modules: that they were loaded from.

        Raises StartError when two functions have one name.
        """
        self.modules = tuple(modules)
        self._functions: dict[str, Function] = {}
        for function in functions:
            if (other := self._functions.get(function.name)) is not None:
                raise StartError(
                    f"two functions are named {function.name!r}: "
                    f"one in {other.module}, one in {function.module}"
                )
            self._functions[function.name] = function

    def __getitem__(self, name: str) -> Function:
        try:
            return self._functions[name]
        except KeyError:
            raise UnknownFunction(f"no function is named {name!r}") from None

    def get(self, name: str, caller: Caller) -> Function:
        """Raises UnknownFunction, and Unauthorized whether there is such a function or not."""
        if not caller.may_call(name):
            raise Unauthorized(f"caller {caller.name!r} may not call function {name!r}")
        return self[name]

    def of(self, caller: Caller) -> list[Function]:
        """Those that the caller may list and call."""
        return [one for one in self if caller.may_call(one.name)]

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions.values())

    def __len__(self) -> int:
        return len(self._functions)


def load(
    names: Iterable[str],
    ctx: LoadContext | None,
    *,
    fiscal_year_start_month: int = 1,
    executors: Mapping[str, str] = _NONE,
    elsewhere: Mapping[str, Callable[[str], Elsewhere]] = _NONE,
    before: Iterable[Function] = (),
) -> Registry:
    """Every function of these modules, each one's `on_load` called once, in the order listed.

    ctx:       for `on_load`; None to leave that out.
    executors: see `describe`.
    elsewhere: of executors that run calls in other processes: a function's name to its `elsewhere`.
               Its `on_load` is called there.
    before:    functions that were loaded before, and are kept where their code is the same object.

    A module stands for the classes and table functions defined in it, for a package also those of
    its submodules that it imports, and for whatever its `__all__` names. Raises StartError.
    """
    sources: dict[Any, None] = {}
    names = tuple(names)
    for name in names:
        module = modules.load(name, "function")
        found = list(modules.members_of(module, "function", _is_function))
        if not found:
            raise StartError(
                f"module {name!r} defines no function: expected a class with Name, Schema and "
                "call, or a @table_function"
            )
        sources.update(dict.fromkeys(found))
    known = {one.source: one for one in before}
    described = (
        known.get(source) or _described(source, fiscal_year_start_month, executors, elsewhere)
        for source in sources
    )
    registry = Registry(described, names)
    if ctx is not None:
        for function in registry:
            if function.source not in known and function.elsewhere is None:
                on_load(function, ctx)
    return registry


def on_load(function: Function, ctx: LoadContext) -> None:
    """Raises StartError."""
    loads = getattr(function.source, "on_load", None) if isinstance(function.source, type) else None
    if loads is None:
        return
    try:
        loads(ctx)
    except BaseException as error:
        raise modules.failure(f"on_load of function {function.name!r} failed", error) from None


def _described(
    source: Any,
    fiscal_year_start_month: int,
    executors: Mapping[str, str],
    elsewhere: Mapping[str, Callable[[str], Elsewhere]],
) -> Function:
    """`describe`, whatever a class does when it is looked at."""
    try:
        made = describe(
            source, fiscal_year_start_month=fiscal_year_start_month, executors=executors
        )
        if (there := elsewhere.get(made.executor)) is None:
            return made
        return dataclasses.replace(made, elsewhere=there(made.name))
    except StartError:
        raise
    except BaseException as error:
        raise modules.failure(f"{source!r} cannot be inspected", error) from None


def describe(
    source: Any, *, fiscal_year_start_month: int = 1, executors: Mapping[str, str] = _NONE
) -> Function:
    """The Function that a class, or a `@table_function`, stands for.

    executors: patterns of names, as of files → the executor of functions that name none.

    Raises StartError that says what is wrong with it.
    """
    where = f"{source.__module__}.{source.__qualname__}"
    if table_functions.is_declared(source):
        where = f"table function {where}"
        made = _describe(table_functions.flex_fun(source, where), where, source, executors)
    else:
        code = getattr(source, "call", None)
        made = _describe(source, f"function class {where}", code, executors)
    return dataclasses.replace(made, source=source, fiscal_year_start_month=fiscal_year_start_month)


def _describe(cls: type[Any], where: str, code: Any, executors: Mapping[str, str]) -> Function:
    """code: what the author wrote to be called."""
    name = getattr(cls, "Name", None)
    if not isinstance(name, str) or not name.strip():
        raise StartError(f"{where} has no Name: expected a non-empty str, found {name!r}")
    schema = getattr(cls, "Schema", None)
    if not isinstance(schema, pa.Schema):
        raise StartError(f"{where} has no Schema: expected a pyarrow.Schema, found {schema!r}")
    for column, times in Counter(schema.names).items():
        if times > 1:
            raise StartError(f"the Schema of {where} has {times} columns named {column!r}")
    create = getattr(cls, "create", cls)
    if not callable(create):
        raise StartError(f"{where}: create is {create!r}, expected a class method")
    by_name, wants_caller = _how_called(cls, where)
    parameters = declarations.parameters_of(cls, where)
    elements = declarations.elements_of(cls, where)
    codes = [code] if elements is None else [code, elements]
    return Function(
        name=name,
        schema=schema,
        create=create,
        by_name=by_name,
        wants_caller=wants_caller,
        metadata=_metadata(cls, where, parameters),
        cache=_cache(cls, where, code),
        parameters=parameters,
        told=declarations.told_of(cls, parameters),
        deadline=declarations.deadline_of(cls, where),
        max_running=declarations.max_running_of(cls, where),
        asynchronous=any(map(declarations.is_async, codes)),
        executor=declarations.executor_of(cls, name, executors, where, codes),
        labels=declarations.labels_of(cls, schema, where),
        applies_filters=declarations.applies_filters(cls, where),
        narrows_elements=declarations.narrows_elements(cls, where),
        has_elements=elements is not None,
        reads_context=declarations.reads_context(cls, code),
        module=cls.__module__,
        file=getattr(sys.modules.get(cls.__module__), "__file__", None) or "",
    )


def _how_called(cls: type[Any], where: str) -> tuple[bool, bool]:
    """Whether `call` takes its arguments by the names the protocol gives them, and whether it has a
    `caller` besides."""
    call = getattr(cls, "call", None)
    if not callable(call) or call is FlexFun.call or inspect.isabstract(cls):
        raise StartError(f"{where} has no call(self, parameters, columns, headers)")
    signature = inspect.signature(call)
    for more in (["caller"], []) if "caller" in signature.parameters else ([],):
        for arguments, names in (((), ("parameters", "columns", "headers")), ((None,) * 3, ())):
            try:
                signature.bind(None, *arguments, **dict.fromkeys([*names, *more]))
                return bool(names), bool(more)
            except TypeError as error:
                reason = error
    raise StartError(
        f"{where}: call{signature} cannot be called with (parameters, columns, headers): {reason}"
    )


def _cache(cls: type[Any], where: str, code: Any) -> CachePolicy | None:
    policy = getattr(cls, "Cache", None)
    if policy is None:
        return None
    if not isinstance(policy, CachePolicy):
        raise StartError(f"{where}: Cache is {policy!r}, expected a CachePolicy or None")
    generates = inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code)
    if generates or _is_stream(code):
        raise StartError(f"{where}: call returns a stream, which cannot be cached: return a Table")
    if policy.shared and "caller" in inspect.signature(code).parameters:
        raise StartError(f"{where}: call takes its caller, so callers cannot share: shared is True")
    return policy


def _is_stream(call: Any) -> bool:
    """Whether its annotation says that it returns a stream, and never a table."""
    annotation = inspect.signature(call).return_annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return "Table" not in text and bool(_STREAMS.search(text))


_STREAMS = re.compile(r"\b(\w*Reader|Iterator|Iterable|Generator)\b")


def _metadata(cls: type[Any], where: str, parameters: Parameters | None) -> dict[str, Any] | None:
    """Metadata as plain values, so that it can be written whenever it is asked for."""
    metadata = getattr(cls, "Metadata", None)
    if metadata is not None and not isinstance(metadata, dict):
        raise StartError(f"{where}: Metadata is {metadata!r}, expected a dict or None")
    metadata = declarations.with_parameters(metadata, parameters, where)
    if metadata is None:
        return None
    try:
        text = json.dumps(metadata, allow_nan=False, ensure_ascii=False)
        return dict(json.loads(text.encode()))
    except (TypeError, ValueError, RecursionError) as error:
        raise StartError(f"{where}: Metadata cannot be written as JSON: {error}") from None


def _is_function(member: Any) -> bool:
    """Whether what a module has means to be a function."""
    if issubclass(type(member), type):
        return _is_function_class(member)
    return table_functions.is_declared(member)


def _is_function_class(cls: type[Any]) -> bool:
    """One without a Name that others derive from, or whose own name begins with an underscore, is a
    base class."""
    if cls is FlexFun:
        return False
    named = isinstance(getattr(cls, "Name", None), str)
    if issubclass(cls, FlexFun):
        return named or not (cls.__subclasses__() or cls.__name__.startswith("_"))
    by_shape = all(hasattr(cls, attribute) for attribute in ("Name", "Schema", "call"))
    return by_shape and (named or not (cls.__subclasses__() or inspect.isabstract(cls)))
