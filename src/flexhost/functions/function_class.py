"""A class that declares a table function → a Function."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from flexhost.errors import StartError
from flexhost.function import Function
from flexhost.functions import declarations
from flexhost.functions.cache_policy import CachePolicy
from flexhost.functions.flex_fun import FlexFun
from flexhost.values.parameters import Parameters


def of_class(cls: type[Any], where: str, code: Any, executors: Mapping[str, str]) -> Function:
    """code: what the author wrote to be called. Raises StartError."""
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
        file=file_of(cls.__module__),
        loads=_on_load(cls),
    )


def _on_load(cls: type[Any]) -> Any:
    loads = getattr(cls, "on_load", None)
    return None if loads is FlexFun.on_load else loads


def file_of(module: str) -> str:
    """Where its source is, '' if nowhere."""
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
