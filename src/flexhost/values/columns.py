"""A whole column ↔ Python values, as the hints of a function mean them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import pairwise, repeat, starmap
from typing import Any, TypeVar

import pyarrow as pa

from flexhost.values.building import Unfit, array, place
from flexhost.values.typed import Typed, python_class

__all__ = ["Unfit", "Unmade", "array", "values"]

_T = TypeVar("_T")
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_DAY_0 = dt.date(1970, 1, 1).toordinal()
_START = dt.datetime(1970, 1, 1)
_START_UTC = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


class Unmade(Exception):
    """The class of an author made no object of what it was given.

    index: the place of that in the column. cause: what it raised.
    """

    def __init__(self, index: int, cause: BaseException) -> None:
        super().__init__(f"value {index} cannot be made")
        self.index = index
        self.cause = cause


def values(column: pa.Array, typed: Typed) -> list[Any]:
    """All values of a column of the type `typed.type`: NULL is None, a struct an object of its
    class, a map a dict; a time with a zone is one of UTC.

    Raises Unfit for what Python cannot hold: a year past 9999, nanoseconds; and Unmade.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    read = _READERS.get(python_class(typed.type))
    if read is None:
        plain: list[Any] = column.to_pylist()
        return plain
    return read(column, typed)


def _numbers(column: pa.Array, typed: Typed | None = None) -> list[Any]:
    """Without nulls, out of the memory of the column: a little faster than to_pylist, and with
    pyarrow 19 that is twenty times as slow."""
    if column.null_count or not len(column):
        plain: list[Any] = column.to_pylist()
        return plain
    width = column.type.bit_width // 8
    own = column.buffers()[1].slice(column.offset * width, len(column) * width)
    return memoryview(own).cast(_FORMATS[column.type]).tolist()


_FORMATS: dict[pa.DataType, Any] = {
    pa.int8(): "b",
    pa.int16(): "h",
    pa.int32(): "i",
    pa.int64(): "q",
    pa.float32(): "f",
    pa.float64(): "d",
}


def _lists(column: pa.Array, typed: Typed) -> list[Any]:
    [item] = typed.parts
    if _is_plain(item):
        plain: list[Any] = column.to_pylist()
        return plain
    ends, (items,) = _flat(column, [column.values], typed.parts)
    lists = [items[start:end] for start, end in pairwise(ends)]
    return _with_nulls(lists, column)


def _maps(column: pa.Array, typed: Typed) -> list[Any]:
    if all(map(_is_plain, typed.parts)):
        return [None if pairs is None else dict(pairs) for pairs in column.to_pylist()]
    ends, (keys, items) = _flat(column, [column.keys, column.items], typed.parts)
    pairs = list(zip(keys, items, strict=True))
    return _with_nulls([dict(pairs[start:end]) for start, end in pairwise(ends)], column)


def _flat(
    column: pa.Array, held: list[pa.Array], parts: tuple[Typed, ...]
) -> tuple[list[int], list[list[Any]]]:
    """What a column of lists or maps holds, one after the other, and where each of them ends."""
    offsets = column.offsets.to_pylist()
    first, last = offsets[0], offsets[-1]
    ends = [offset - first for offset in offsets]
    flat = []
    for part, typed in zip(held, parts, strict=True):
        try:
            flat.append(values(part.slice(first, last - first), typed))
        except Unfit as error:
            raise Unfit(place(ends, error.index), error.value, error.why) from None
        except Unmade as error:
            raise Unmade(place(ends, error.index), error.cause) from None
    return ends, flat


def _structs(column: pa.Array, typed: Typed) -> list[Any]:
    make, names = typed.make, typed.type.names
    if make is None and all(map(_is_plain, typed.parts)):
        dicts: list[Any] = column.to_pylist()
        return dicts
    columns = []
    for name, part, field in zip(names, typed.parts, column.flatten(), strict=True):
        try:
            columns.append(values(field, part))
        except Unfit as error:
            raise Unfit(error.index, error.value, f"{error.why} (in {name!r})") from None
    rows = zip(*columns, strict=True) if columns else repeat((), len(column))
    if make is None:
        return _with_nulls([dict(zip(names, row, strict=True)) for row in rows], column)
    made: list[Any] = []
    try:
        if not column.null_count:
            made.extend(starmap(make, rows))
        else:
            nulls = column.is_null().to_pylist()
            pairs = zip(nulls, rows, strict=True)
            made.extend(None if null else make(*row) for null, row in pairs)
    except BaseException as error:
        raise Unmade(len(made), error) from None
    return made


def _is_plain(typed: Typed) -> bool:
    """Whether pyarrow is the fastest to read it inside of lists and maps."""
    read = _READERS.get(python_class(typed.type))
    return read is None or read is _numbers


def _with_nulls(found: list[Any], column: pa.Array) -> list[Any]:
    if not column.null_count:
        return found
    nulls = column.is_null().to_pylist()
    return [None if null else value for null, value in zip(nulls, found, strict=True)]


def _decimals(column: pa.Array, typed: Typed) -> list[Any]:
    # twice as fast as to_pylist
    return _each(Decimal, column.cast(pa.utf8()).to_pylist(), column)


def _dates(column: pa.Array, typed: Typed) -> list[Any]:
    days = _numbers(column.cast(pa.int32()))
    of_day = dt.date.fromordinal
    return _each(lambda day: of_day(day + _DAY_0), days, column)


def _times(column: pa.Array, typed: Typed) -> list[Any]:
    return _each(_time, _microseconds(column), column)


def _time(microseconds: int) -> dt.time:
    seconds, microsecond = divmod(microseconds, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return dt.time(hour, minute, second, microsecond)


def _datetimes(column: pa.Array, typed: Typed) -> list[Any]:
    start = _START_UTC if typed.type.tz else _START
    delta = dt.timedelta
    return _each(lambda number: start + delta(0, 0, number), _microseconds(column), column)


def _timedeltas(column: pa.Array, typed: Typed) -> list[Any]:
    delta = dt.timedelta
    return _each(lambda number: delta(0, 0, number), _microseconds(column), column)


def _microseconds(column: pa.Array) -> list[int | None]:
    """Raises Unfit where there are nanoseconds besides."""
    bits = pa.int32() if column.type.bit_width == 32 else pa.int64()
    numbers: list[int | None] = _numbers(column.cast(bits))
    if column.type.unit == "ns":
        for index, number in enumerate(numbers):
            if number is not None and number % 1000:
                raise Unfit(index, number, "which has nanoseconds, Python has none")
        return [None if number is None else number // 1000 for number in numbers]
    factor = _MICROSECONDS[column.type.unit]
    if factor == 1:
        return numbers
    return [None if number is None else number * factor for number in numbers]


def _each(make: Callable[[Any], _T], numbers: Iterable[Any], column: pa.Array) -> list[_T | None]:
    try:
        if not column.null_count:
            return [make(number) for number in numbers]
        return [None if number is None else make(number) for number in numbers]
    except (OverflowError, ValueError):
        for index, number in enumerate(numbers):
            try:
                if number is not None:
                    make(number)
            except (OverflowError, ValueError):
                why = f"a {column.type} that Python cannot hold"
                raise Unfit(index, number, why) from None
        raise


# Of all others to_pylist is the fastest. These make their values of numbers, which saves the object
# that pyarrow makes for each cell: 2 to 10 times as fast.
_READERS: dict[Any, Callable[[pa.Array, Typed], list[Any]]] = {
    int: _numbers,
    float: _numbers,
    Decimal: _decimals,
    dt.date: _dates,
    dt.time: _times,
    dt.datetime: _datetimes,
    dt.timedelta: _timedeltas,
    list: _lists,
    dict: _maps,
    tuple: _structs,
}
