"""What a function class declares beside its name, schema and `call`: parameters and limits."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa

from flexhost.errors import StartError
from flexhost.function import COROUTINES, EXECUTORS, THREADS
from flexhost.functions.flex_fun import CALL_ATTRIBUTES, FlexFun
from flexhost.values.parameters import Parameters


def parameters_of(cls: type[Any], where: str) -> Parameters | None:
    """Of a FlexFun: to another class `Parameters` may be anything. Raises StartError."""
    declared = getattr(cls, "Parameters", None) if issubclass(cls, FlexFun) else None
    return None if declared is None else Parameters(declared, where)


def with_parameters(
    metadata: dict[str, Any] | None, parameters: Parameters | None, where: str
) -> dict[str, Any] | None:
    """The author's metadata and the JSON Schema of the parameters. Raises StartError."""
    if parameters is None:
        return metadata
    if "parameters" in (metadata or {}):
        raise StartError(
            f"{where}: Metadata has 'parameters', where the schema of its Parameters goes"
        )
    return {**(metadata or {}), "parameters": parameters.schema}


def deadline_of(cls: type[Any], where: str) -> float | None:
    """Seconds. Raises StartError."""
    seconds = getattr(cls, "DeadlineSec", None)
    if seconds is None:
        return None
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 0 < seconds < math.inf:
        raise StartError(f"{where}: DeadlineSec is {seconds!r}, expected seconds, more than 0")
    return float(seconds)


def max_running_of(cls: type[Any], where: str) -> int | None:
    """Raises StartError."""
    most = getattr(cls, "MaxRunning", None)
    if most is not None and (type(most) is not int or most < 1):
        raise StartError(f"{where}: MaxRunning is {most!r}, expected a whole number from 1")
    return most


def executor_of(
    cls: type[Any], name: str, patterns: Mapping[str, str], where: str, codes: Iterable[Any]
) -> str:
    """Its own, else that of the first pattern that its name fits, else what suits its code.

    codes: what the author wrote to be called. Raises StartError.
    """
    own = getattr(cls, "Executor", None) if issubclass(cls, FlexFun) else None
    if own is not None and own not in EXECUTORS:
        expected = ", ".join(map(repr, EXECUTORS))
        raise StartError(f"{where}: Executor is {own!r}, expected one of {expected}")
    fitting = (one for pattern, one in patterns.items() if fnmatchcase(name, pattern))
    said = own or next(fitting, None)
    plain = [getattr(code, "__name__", "call") for code in codes if not is_async(code)]
    if said == COROUTINES and plain:
        raise StartError(
            f"{where}: its executor is {COROUTINES!r}, and {plain[0]!r} is not async: it would "
            "hold up all other calls there"
        )
    return said or (THREADS if plain else COROUTINES)


def is_async(code: Any) -> bool:
    return inspect.iscoroutinefunction(code) or inspect.isasyncgenfunction(code)


def told_of(cls: type[Any], parameters: Parameters | None) -> tuple[str, ...]:
    """The attributes that its objects are given: none that the class uses for something else."""
    if not issubclass(cls, FlexFun):
        return ()
    typed = parameters is not None
    free = [name for name in CALL_ATTRIBUTES if not hasattr(cls, name)]
    return tuple(dict.fromkeys([*free, *(["params"] if typed else [])]))


def labels_of(cls: type[Any], schema: pa.Schema, where: str) -> dict[str, str]:
    """Raises StartError."""
    labels = getattr(cls, "Labels", None) if issubclass(cls, FlexFun) else None
    if labels is None:
        return {}
    if not isinstance(labels, dict) or not all(isinstance(name, str) for name in labels):
        raise StartError(f"{where}: Labels is {labels!r}, expected a dict of texts")
    for label, column in labels.items():
        if column not in schema.names:
            raise StartError(
                f"{where}: Labels: {label!r} stands for {column!r}, which is no column"
            )
    return dict(labels)


def applies_filters(cls: type[Any], where: str) -> bool:
    """Raises StartError."""
    applies = getattr(cls, "ApplyFilters", False) if issubclass(cls, FlexFun) else False
    if not isinstance(applies, bool):
        raise StartError(f"{where}: ApplyFilters is {applies!r}, expected True or False")
    return applies


def narrows_elements(cls: type[Any], where: str) -> bool:
    """Raises StartError."""
    by = getattr(cls, "LabelElements", None) if issubclass(cls, FlexFun) else None
    if by not in (None, "host"):
        raise StartError(f'{where}: LabelElements is {by!r}, expected "host" or None')
    if by is not None and callable(getattr(cls, "label_elements", None)):
        raise StartError(f'{where}: LabelElements is "host", and it has label_elements: which one?')
    return by is not None


def elements_of(cls: type[Any], where: str) -> Any:
    """Its own `label_elements`, or None. Raises StartError."""
    elements = getattr(cls, "label_elements", None) if issubclass(cls, FlexFun) else None
    if not callable(elements):
        return None
    try:
        inspect.signature(elements).bind(None, parameters=None, columns=None, headers=None)
    except TypeError as error:
        raise StartError(
            f"{where}: label_elements cannot be called with (parameters, columns, headers): {error}"
        ) from None
    return elements


def reads_context(cls: type[Any], code: Any) -> bool:
    """Whether something here is about it: what is not, is not refused for a context that is wrong.

    code: what the author wrote to be called.
    """
    if not issubclass(cls, FlexFun):
        return False
    asked = {"context", "filters"} & set(inspect.signature(code).parameters)
    named = (cls.Labels, cls.ApplyFilters, cls.LabelElements, getattr(cls, "label_elements", None))
    return bool(asked) or any(named)
