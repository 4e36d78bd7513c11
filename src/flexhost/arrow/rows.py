"""Rows as dicts → a table of the declared types, or which row and column does not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from flexhost.contract import fit_column
from flexhost.errors import FunctionFailed, name_of
from flexhost.values.problems import shown

# What can go wrong when values become an array.
_UNFIT = (FunctionFailed, pa.ArrowException, TypeError, ValueError, OverflowError)


def table_of(rows: Sequence[Any], schema: pa.Schema, function: str) -> pa.Table:
    """Every declared column; keys that are not declared are dropped. Raises FunctionFailed."""
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise FunctionFailed(
                f"function {function!r}: row {number} is {shown(row)}, expected a dict"
            )
    if not schema.names:
        return pa.table({"": pa.nulls(len(rows))}).select([])
    columns = []
    for declared in schema:
        values = [_value(row, number, declared, function) for number, row in enumerate(rows)]
        columns.append(_column(values, declared, function))
    return pa.Table.from_arrays(columns, schema=schema)


def _value(row: Mapping[str, Any], number: int, declared: pa.Field, function: str) -> Any:
    try:
        return row[declared.name]
    except KeyError:
        raise FunctionFailed(
            f"function {function!r}: row {number} has no {declared.name!r} (declared "
            f"{declared.type}); it has {shown(list(row))}"
        ) from None


def _column(values: list[Any], declared: pa.Field, function: str) -> pa.ChunkedArray:
    """Values of one Python type at a time: Arrow would take the type of the first for all, and cut
    a time to a day."""
    groups: dict[Any, list[int]] = {}
    for number, value in enumerate(values):
        zoned = getattr(value, "tzinfo", None) is not None
        groups.setdefault((type(value), zoned), []).append(number)
    nulls = groups.pop((type(None), False), [])
    if nulls and not declared.nullable:
        raise _unfit(function, nulls[0], declared, None)
    if len(groups) == 1:  # as ever, nulls or not
        [(kind, _)] = groups
        return _built(values, range(len(values)), kind, declared, function)
    parts = [pa.chunked_array([pa.nulls(len(nulls), declared.type)])] if nulls else []
    for (kind, _), numbers in groups.items():
        parts.append(_built([values[i] for i in numbers], numbers, kind, declared, function))
    order = [*nulls, *(number for numbers in groups.values() for number in numbers)]
    if not order:
        return pa.chunked_array([], declared.type)
    places = sorted(range(len(order)), key=order.__getitem__)
    whole = pa.chunked_array([chunk for part in parts for chunk in part.chunks])
    return whole.combine_chunks().take(pa.array(places))


def _built(
    values: list[Any], numbers: Sequence[int], kind: type, declared: pa.Field, function: str
) -> pa.ChunkedArray:
    """numbers: the row of each value, for the error."""
    try:
        return _array(values, kind, declared, function)
    except _UNFIT as error:
        reason = error
    for number, value in zip(numbers, values, strict=True):
        if value is None:
            continue
        try:
            _array([value], kind, declared, function)
        except _UNFIT:
            raise _unfit(function, number, declared, value) from None
    raise FunctionFailed(
        f"function {function!r}: column {declared.name!r} is declared {declared.type}, "
        f"its values do not go together: {reason}"
    )


def _array(values: list[Any], kind: type, declared: pa.Field, function: str) -> pa.ChunkedArray:
    type_ = declared.type
    if kind is int and (pa.types.is_integer(type_) or pa.types.is_decimal(type_)):
        array = pa.array(values, type_)  # also those past the 64 bits that Arrow takes it for
    elif pa.types.is_nested(type_):
        array = pa.array(values, type_)
        if not all(map(_same, values, array.to_pylist())):
            raise ValueError("values would change")
    elif isinstance(type_, pa.BaseExtensionType):
        array = pa.array(values, type_)
    elif kind is float and pa.types.is_floating(type_):
        array = pa.array(values, type_)  # rounded: Python has no narrow floats
        if not all(map(_near, values, array.to_pylist())):
            raise ValueError("too large")
    else:
        array = pa.array(values)
    return fit_column(pa.chunked_array([array]), declared, function)


def _same(value: Any, came: Any) -> bool:
    """Whether a value below the top is still what it was: Arrow cuts times to days, and takes flags
    for numbers and local times for those of UTC."""
    if isinstance(value, Mapping):
        if isinstance(came, list):  # a map
            return _same(list(value.items()), came)
        return isinstance(came, dict) and all(_same(value.get(key), came[key]) for key in came)
    if isinstance(value, (list, tuple)):
        return len(value) == len(came) and all(map(_same, value, came))
    if isinstance(value, float) and isinstance(came, float):
        return _near(value, came)
    return isinstance(value, bool) == isinstance(came, bool) and bool(value == came)


def _near(value: float | None, came: float | None) -> bool:
    if value is None or came is None or math.isnan(value):
        return True
    return math.isinf(value) == math.isinf(came)


def _unfit(function: str, number: int, declared: pa.Field, value: Any) -> FunctionFailed:
    try:
        came = str(pa.array([value]).type)
    except _UNFIT:
        came = name_of(value)
    type_ = declared.type if declared.nullable else f"{declared.type} not null"
    return FunctionFailed(
        f"function {function!r}: row {number}, column {declared.name!r} is declared {type_}, "
        f"the row has {shown(value)} ({came})"
    )
