"""What an author wrote → a Function. The only place where that happens."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from flexhost import declarations, signature, table_functions, udf_options
from flexhost.batch_arguments import ByName, ByPosition
from flexhost.cache_policy import CachePolicy
from flexhost.errors import StartError
from flexhost.flex_fun import FlexFun
from flexhost.function import Function
from flexhost.hinted import Hinted, flex_fun
from flexhost.parameters import Parameters
from flexhost.signature import Signature

_NONE: Mapping[str, Any] = MappingProxyType({})


def describe(
    source: Any, *, fiscal_year_start_month: int = 1, executors: Mapping[str, str] = _NONE
) -> Function:
    """The Function that something stands for: a FlexFun or a class of that shape, a
    `@table_function`, a plain function with type hints.

    executors: patterns of names, as of files → the executor of functions that name none.

    Raises StartError that says what is wrong with it.
    """
    where = f"{source.__module__}.{source.__qualname__}"
    if table_functions.is_declared(source):
        where = f"table function {where}"
        made = _describe(table_functions.flex_fun(source, where), where, source, executors)
    elif inspect.isfunction(source):
        where = f"function {where}"
        made = _hinted(source, signature.read(source, where), where, executors)
    else:
        code = getattr(source, "call", None)
        made = _describe(source, f"function class {where}", code, executors)
    return made.but(source=source, fiscal_year_start_month=fiscal_year_start_month)


def _hinted(function: Any, found: Signature, where: str, executors: Mapping[str, str]) -> Function:
    options = udf_options.options_of(function)
    by_name = Hinted(
        found,
        lambda: contextlib.nullcontext(function),
        batched=False,
        null_in_null_out=options.null_in_null_out,
        file=_file(function.__module__),
    )
    over = dataclasses.replace(by_name, batched=True)
    name = function.__name__ if options.name is None else options.name
    cls = flex_fun(by_name, name, function, options)
    read = ByName(found, where)
    made = dataclasses.replace(
        _describe(cls, where, function, executors),
        parameters=read,
        metadata={"parameters": read.schema},
        told=("params",),
        kind=found.kind,
        style=found.style,
        arguments=found.needed,
        deterministic=options.deterministic is not False,
    )
    return dataclasses.replace(
        made,
        over_batches=dataclasses.replace(
            made,
            schema=over.schema,
            create=flex_fun(over, name, function, options).create,
            parameters=ByPosition(name, found),
        ),
    )


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
        file=_file(cls.__module__),
    )


def _file(module: str) -> str:
    return getattr(sys.modules.get(module), "__file__", None) or ""


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


def is_function(member: Any) -> bool:
    """Whether what a module has means to be a function."""
    if issubclass(type(member), type):
        return _is_function_class(member)
    return table_functions.is_declared(member)


def is_plain(member: Any) -> bool:
    """Whether what a module has may be a plain function."""
    return (
        inspect.isfunction(member)
        and not member.__name__.startswith("_")
        and not table_functions.is_declared(member)
    )


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
