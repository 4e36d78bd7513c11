"""Python values → a column of a type; or which of them does not fit, and why."""

from __future__ import annotations

import datetime as dt
import math
import operator
from array import array as packed
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate, chain
from numbers import Real
from typing import Any

import pyarrow as pa

from flexhost.values.problems import shown
from flexhost.values.typed import python_class


class Unfit(ValueError):
    """A value that does not fit.

    index: its place in the column.
    why:   a part of a sentence after the value.
    """

    def __init__(self, index: int, value: Any, why: str) -> None:
        super().__init__(f"value {index} is {shown(value)}, {why}")
        self.index = index
        self.value = value
        self.why = why


def array(values: Iterable[Any], type_: pa.DataType, nullable: bool = True) -> pa.Array:
    """A column of exactly these values. Raises Unfit for the first that does not fit."""
    values = values if isinstance(values, list) else list(values)
    kind = python_class(type_)
    build = _BUILDERS.get(kind)
    built = _scalars(values, type_, kind) if build is None else build(values, type_)
    if not nullable and built.null_count:
        index = built.is_null().to_pylist().index(True)
        raise Unfit(index, values[index], "and the type has no None")
    return built


def place(ends: Sequence[int], index: int) -> int:
    """Which of several lists has an element of all of them, one after the other."""
    return bisect_right(ends, index) - 1


def _scalars(values: list[Any], type_: pa.DataType, kind: Any) -> pa.Array:
    told = _TOLD_BY_ARROW.get(kind)
    try:
        if kind is int and len(values) <= _FEW and set(map(type, values)) == {int}:
            built = pa.Array.from_buffers(
                told, len(values), [None, pa.py_buffer(packed("q", values))]
            )
            return built if told == type_ else built.cast(type_)
        if told is not None and (kind is int or told == type_):
            built = pa.array(values)
            if built.type == told:
                return built if told == type_ else built.cast(type_)
        elif set(map(type, values)) <= {kind, type(None)}:
            return _exactly(values, type_, kind)
    except _FAULTS:
        pass  # it is told below which value does not fit
    clean, expected = _CLEANERS.get(kind, (_only(), "None"))
    cleaned: list[Any] = []
    for index, value in enumerate(values):
        try:
            cleaned.append(None if value is None else clean(value))
        except _FAULTS:
            raise Unfit(index, value, f"expected {_named(type_, expected)}") from None
    try:
        return _exactly(cleaned, type_, kind)
    except _FAULTS:
        for index, value in enumerate(cleaned):
            if not _fits(value, type_, kind):
                why = f"expected {_named(type_, expected)}"
                raise Unfit(index, values[index], why) from None
        raise


# The type that Arrow finds for values is this one only when all of them are of it. (A flag among
# floats is 1.0 or 0.0, and an int is a float if it can be, as type checkers have it.)
_TOLD_BY_ARROW = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.utf8()}
# Up to so many integers it takes Arrow longer to find out what they are than it takes Python.
_FEW = 1024


def _fits(value: Any, type_: pa.DataType, kind: Any) -> bool:
    try:
        _exactly([value], type_, kind)
    except _FAULTS:
        return False
    return True


def _exactly(values: list[Any], type_: pa.DataType, kind: Any) -> pa.Array:
    """Arrow cuts what is finer than the unit of a type in silence; a cast does not."""
    if kind is dt.timedelta:
        return pa.array(values, pa.duration("us")).cast(type_)
    if kind is dt.time:
        if {value.tzinfo for value in values if value is not None} - {None}:
            raise ValueError("a time with a zone")
        return pa.array(values, pa.time64("us")).cast(type_)
    if kind is dt.datetime:
        zones = {value.tzinfo for value in values if value is not None}
        if None in zones if type_.tz else zones - {None}:
            raise ValueError("a zone that is not there, or one too much")
        return pa.array(values, pa.timestamp("us", type_.tz)).cast(type_)
    built = pa.array(values, type_)
    if type_ == pa.float32() and not all(map(_near, values, built.to_pylist())):
        raise OverflowError("past what float32 holds")
    return built


def _near(value: Any, came: Any) -> bool:
    return came is None or not math.isinf(came) or math.isinf(value)


def _flag(value: Any) -> bool:
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # that of numpy
        return bool(value)
    raise TypeError


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _number(value: Any) -> float:
    if isinstance(value, Real):  # also those of numpy
        return value if isinstance(value, int) else float(value)
    raise TypeError


def _decimal(value: Any) -> Decimal:
    if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
        return Decimal(value)
    raise TypeError


def _octets(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError


def _only(*kinds: type, but: tuple[type, ...] = ()) -> Callable[[Any], Any]:
    def clean(value: Any) -> Any:
        if isinstance(value, kinds) and not isinstance(value, but):
            return value
        raise TypeError

    return clean


_CLEANERS: dict[Any, tuple[Callable[[Any], Any], str]] = {
    bool: (_flag, "True or False"),
    int: (_whole, "a whole number of {bits} bits"),
    float: (_number, "a number that a float of {bits} bits can hold"),
    str: (_only(str), "a text"),
    bytes: (_octets, "bytes"),
    Decimal: (_decimal, "a Decimal that {type} can hold"),
    dt.date: (_only(dt.date, but=(dt.datetime,)), "a date"),
    dt.time: (_only(dt.time), "a time without a zone, no finer than {unit}"),
    dt.datetime: (_only(dt.datetime), "a datetime {zone} zone, no finer than {unit}"),
    dt.timedelta: (_only(dt.timedelta), "a timedelta, no finer than {unit}"),
}


def _named(type_: pa.DataType, expected: str) -> str:
    if pa.types.is_fixed_size_binary(type_):
        return f"{type_.byte_width} bytes"
    zone = "with a" if getattr(type_, "tz", None) else "without a"
    unit = getattr(type_, "unit", "")
    bits = type_.bit_width if pa.types.is_primitive(type_) else 0
    return expected.format(bits=bits, type=type_, unit=unit, zone=zone)


def _lists(values: list[Any], type_: pa.DataType) -> pa.Array:
    _all_are(values, (list, tuple), "a list")
    present = _present(values)
    offsets, ends = _offsets(values, present)
    flat = list(chain.from_iterable(present))
    items = _held(flat, type_.value_field, "item {}", values, ends)
    return pa.ListArray.from_arrays(offsets, items, type=type_)


def _maps(values: list[Any], type_: pa.DataType) -> pa.Array:
    _all_are(values, (dict, Mapping), "a dict")
    present = _present(values)
    offsets, ends = _offsets(values, present)
    keys = list(chain.from_iterable(present))
    items = list(chain.from_iterable(value.values() for value in present))
    return pa.MapArray.from_arrays(
        offsets,
        _held(keys, type_.key_field, "key {}", values, ends),
        _held(items, type_.item_field, "value {}", values, ends),
        type=type_,
    )


def _offsets(values: list[Any], present: list[Any]) -> tuple[pa.Array, list[int]]:
    """For Arrow, which has NULL for what is None, and as numbers."""
    if present is values:
        ends = list(accumulate(map(len, values), initial=0))
        return pa.array(ends, pa.int32()), ends
    ends = list(accumulate((0 if value is None else len(value) for value in values), initial=0))
    starts = [None if value is None else end for value, end in zip(values, ends, strict=False)]
    return pa.array([*starts, ends[-1]], pa.int32()), ends


def _held(
    flat: list[Any], field: pa.Field, name: str, values: list[Any], ends: list[int]
) -> pa.Array:
    try:
        return array(flat, field.type, field.nullable)
    except Unfit as error:
        index = place(ends, error.index)
        which = name.format(error.index - ends[index])
        why = f"its {which} is {shown(error.value)}, {error.why}"
        raise Unfit(index, values[index], why) from None


def _structs(values: list[Any], type_: pa.DataType) -> pa.Array:
    some = _present(values)
    present = range(len(values)) if some is values else _numbers_of_present(values)
    fields = list(type_)
    built = []
    for position, field in enumerate(fields):
        column = _fields(some, present, field.name, position)
        try:
            built.append(array(column, field.type, field.nullable))
        except Unfit as error:
            index = present[error.index]
            why = f"its {field.name!r} is {shown(error.value)}, {error.why}"
            raise Unfit(index, values[index], why) from None
    if not fields:
        whole = pa.array([{}] * len(some), type_)
    else:
        whole = pa.StructArray.from_arrays(built, fields=fields)
    if some is values:
        return whole
    order = iter(range(len(some)))
    return whole.take(pa.array([None if v is None else next(order) for v in values], pa.int64()))


def _fields(some: list[Any], numbers: Sequence[int], name: str, position: int) -> list[Any]:
    """numbers: of each value, for the error."""
    readers = {kind: _reader(kind, name, position) for kind in set(map(type, some))}
    try:
        if len(readers) == 1:
            [read] = readers.values()
            return list(map(read, some))
        return [readers[type(value)](value) for value in some]
    except (AttributeError, LookupError):
        for number, value in zip(numbers, some, strict=True):
            try:
                readers[type(value)](value)
            except (AttributeError, LookupError):
                raise Unfit(number, value, f"expected what has {name!r}") from None
        raise


def _reader(kind: type, name: str, position: int) -> Callable[[Any], Any]:
    """Of an object by its name; of a tuple without names by its position."""
    if issubclass(kind, Mapping):
        return operator.itemgetter(name)
    if issubclass(kind, tuple) and not hasattr(kind, "_fields"):
        return operator.itemgetter(position)
    return operator.attrgetter(name)


def _numbers_of_present(values: list[Any]) -> list[int]:
    return [index for index, value in enumerate(values) if value is not None]


def _present(values: list[Any]) -> list[Any]:
    if any(value is None for value in values):
        return [value for value in values if value is not None]
    return values


def _all_are(values: list[Any], kinds: tuple[type, ...], expected: str) -> None:
    if set(map(type, values)) <= {*kinds, type(None)}:
        return
    for index, value in enumerate(values):
        if value is not None and not isinstance(value, kinds):
            raise Unfit(index, value, f"expected {expected}")


_FAULTS = (pa.ArrowException, TypeError, ValueError, OverflowError)
_BUILDERS: dict[Any, Callable[[list[Any], pa.DataType], pa.Array]] = {
    list: _lists,
    dict: _maps,
    tuple: _structs,
}
