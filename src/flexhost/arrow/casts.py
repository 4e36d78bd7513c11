"""Casts that lose nothing: value and kind survive."""

from __future__ import annotations

import pyarrow as pa

from flexhost.arrow import compute as pc


def lossless(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """Cast where value and kind survive. Raises ValueError or ArrowException that says why not."""
    if column.type.equals(target):
        return column
    if not same_kind(column.type, target):
        raise ValueError("not the same kind")
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    cast = _cast(column, target)
    if not _as_before(column, cast):
        raise ValueError("values would change")
    return cast


def _cast(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type) and not pa.types.is_dictionary(target):
        return _cast(column.cast(column.type.value_type), target)
    if pa.types.is_decimal(target) and pa.types.is_integer(column.type):
        # straight, pyarrow wants room for the largest integer of the type, not for these
        return column.cast(pa.decimal256(76, target.scale)).cast(target)
    return column.cast(target)


def _as_before(column: pa.ChunkedArray, cast: pa.ChunkedArray) -> bool:
    """Whether the cast values, taken back, are the values that came."""
    if pa.types.is_null(column.type):
        return True
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_nested(column.type) and "null" in str(column.type):
        return str(cast.to_pylist()) == str(column.to_pylist())  # there is no way back to nothing
    back = _cast(cast, column.type)
    if pa.types.is_floating(column.type):  # NaN is not equal to itself
        column, back = (pc.if_else(pc.is_nan(a), None, a) for a in (column, back))
    if back.equals(column):
        return True
    # below the top a NaN is not equal to itself either, but written the same
    return pa.types.is_nested(column.type) and str(back.to_pylist()) == str(column.to_pylist())


def same_kind(actual: pa.DataType, declared: pa.DataType) -> bool:
    """Whether values of one type may be cast to the other where that is lossless."""
    if actual.equals(declared) or pa.types.is_null(actual):
        return True
    actual, declared = (_values_of(type_) for type_ in (actual, declared))
    if _is_list(actual) and _is_list(declared):
        return same_kind(actual.value_type, declared.value_type)
    if pa.types.is_map(actual) and pa.types.is_map(declared):
        keys = same_kind(actual.key_type, declared.key_type)
        return keys and same_kind(actual.item_type, declared.item_type)
    if pa.types.is_struct(actual) and pa.types.is_struct(declared):
        fields = list(zip(actual, declared, strict=False))
        return actual.num_fields == declared.num_fields and all(
            a.name == d.name and same_kind(a.type, d.type) for a, d in fields
        )
    return _kind(actual) == _kind(declared)


def _values_of(type_: pa.DataType) -> pa.DataType:
    """The type of the values of a dictionary or a run-end encoding."""
    encoded = pa.types.is_dictionary(type_) or pa.types.is_run_end_encoded(type_)
    return type_.value_type if encoded else type_


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_))


def _kind(type_: pa.DataType) -> str:
    """Types of one kind may be cast to each other; any other only to itself."""
    return next((k for k, tests in _KINDS.items() if any(t(type_) for t in tests)), str(type_))


def _has_zone(type_: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(type_) and type_.tz is not None)


def _is_decimal(type_: pa.DataType) -> bool:
    """Of a scale past the digits of its type pyarrow reads outside of its memory when it is cast:
    the process dies (measured, 26.0)."""
    return bool(pa.types.is_decimal(type_) and abs(type_.scale) <= _DIGITS[type_.bit_width])


_DIGITS = {32: 9, 64: 18, 128: 38, 256: 76}
_KINDS = {
    "text": (pa.types.is_string, pa.types.is_large_string, lambda t: t == pa.string_view()),
    "binary": (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
        lambda t: t == pa.binary_view(),
    ),
    "number": (pa.types.is_integer, pa.types.is_floating, _is_decimal),
    # an instant is neither a day nor a local time: which of them depends on the zone
    "instant": (_has_zone,),
    "date": (pa.types.is_date, pa.types.is_timestamp),
    "time": (pa.types.is_time,),
    "duration": (pa.types.is_duration,),
}
