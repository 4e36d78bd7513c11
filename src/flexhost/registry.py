"""Name → Function. Filled at start-up from the modules of the configuration, then only read, so it
needs no lock."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from flexhost import modules
from flexhost.caller import Caller
from flexhost.errors import StartError, Unauthorized, UnknownFunction
from flexhost.function import CachePolicy, FlexFun, Function, LoadContext


class Registry:
    def __init__(self, functions: Iterable[Function]) -> None:
        """Raises StartError when two functions have one name."""
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


def load(names: Iterable[str], ctx: LoadContext | None) -> Registry:
    """Every function of these modules, each one's `on_load` called once, in the order listed.

    ctx: for `on_load`; None to leave that out.

    A module stands for the classes defined in it, for a package also those of its submodules that
    it imports, and for whatever its `__all__` names. Raises StartError.
    """
    classes: dict[type[Any], None] = {}
    for name in names:
        module = modules.load(name, "function")
        found = list(modules.classes_of(module, "function", _is_function))
        if not found:
            raise StartError(f"module {name!r} defines no function")
        classes.update(dict.fromkeys(found))
    registry = Registry([_described(cls) for cls in classes])
    if ctx is not None:
        for cls in classes:
            _on_load(cls, ctx)
    return registry


def _described(cls: type[Any]) -> Function:
    """`describe`, whatever a class does when it is looked at."""
    try:
        return describe(cls)
    except StartError:
        raise
    except BaseException as error:
        raise modules.failure(f"class {cls!r} cannot be inspected", error) from None


def describe(cls: type[Any]) -> Function:
    """The Function that a class stands for. Raises StartError that says what is wrong with it."""
    where = f"function class {cls.__module__}.{cls.__qualname__}"
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
    return Function(
        name=name,
        schema=schema,
        create=create,
        by_name=by_name,
        wants_caller=wants_caller,
        metadata=_metadata(cls, where),
        cache=_cache(cls, where),
        module=cls.__module__,
        file=getattr(sys.modules.get(cls.__module__), "__file__", None) or "",
    )


def _how_called(cls: type[Any], where: str) -> tuple[bool, bool]:
    """Whether `call` takes its arguments by the names the protocol gives them, and whether it has a
    `caller` besides."""
    call = getattr(cls, "call", None)
    if not callable(call) or call is FlexFun.call or inspect.isabstract(cls):
        raise StartError(f"{where} has no call(self, parameters, columns, headers)")
    if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
        raise StartError(f"{where}: call is async, which this version does not serve yet")
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


def _cache(cls: type[Any], where: str) -> CachePolicy | None:
    policy = getattr(cls, "Cache", None)
    if policy is None:
        return None
    if not isinstance(policy, CachePolicy):
        raise StartError(f"{where}: Cache is {policy!r}, expected a CachePolicy or None")
    if inspect.isgeneratorfunction(cls.call) or _is_stream(cls.call):
        raise StartError(f"{where}: call returns a stream, which cannot be cached: return a Table")
    if policy.shared and "caller" in inspect.signature(cls.call).parameters:
        raise StartError(f"{where}: call takes its caller, so callers cannot share: shared is True")
    return policy


def _is_stream(call: Any) -> bool:
    """Whether its annotation says that it returns a stream, and never a table."""
    annotation = inspect.signature(call).return_annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return "Table" not in text and bool(_STREAMS.search(text))


_STREAMS = re.compile(r"\b(\w*Reader|Iterator|Iterable|Generator)\b")


def _metadata(cls: type[Any], where: str) -> dict[str, Any] | None:
    """Metadata as plain values, so that it can be written whenever it is asked for."""
    metadata = getattr(cls, "Metadata", None)
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise StartError(f"{where}: Metadata is {metadata!r}, expected a dict or None")
    try:
        text = json.dumps(metadata, allow_nan=False, ensure_ascii=False)
        return dict(json.loads(text.encode()))
    except (TypeError, ValueError, RecursionError) as error:
        raise StartError(f"{where}: Metadata cannot be written as JSON: {error}") from None


def _is_function(cls: type[Any]) -> bool:
    """Whether a class means to be a function. One without a Name that others derive from, or whose
    own name begins with an underscore, is a base class."""
    if cls is FlexFun:
        return False
    named = isinstance(getattr(cls, "Name", None), str)
    if issubclass(cls, FlexFun):
        return named or not (cls.__subclasses__() or cls.__name__.startswith("_"))
    by_shape = all(hasattr(cls, attribute) for attribute in ("Name", "Schema", "call"))
    return by_shape and (named or not (cls.__subclasses__() or inspect.isabstract(cls)))


def _on_load(cls: type[Any], ctx: LoadContext) -> None:
    on_load = getattr(cls, "on_load", None)
    if on_load is None:
        return
    try:
        on_load(ctx)
    except BaseException as error:
        raise modules.failure(f"on_load of function {cls.Name!r} failed", error) from None
