"""The values of a column as JSON has them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def plain(column: Any) -> list[Any]:
    """column: an Array or a ChunkedArray.

    Dates and times become text as in ISO 8601, instants in UTC; durations the number of their unit;
    the rest what msgspec writes: decimals as text, bytes in base64, NaN and the infinities as null.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain(column.cast(kind.value_type))
    if pa.types.is_timestamp(kind):
        return _moments(column)
    if pa.types.is_date(kind) or pa.types.is_time(kind):
        return list(column.cast(pa.string()).to_pylist())
    if pa.types.is_duration(kind):
        return list(column.cast(pa.int64()).to_pylist())
    if pa.types.is_float16(kind):
        return list(column.cast(pa.float32()).to_pylist())
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return [_nested(scalar) for scalar in column]
    return list(column.to_pylist())


def _moments(column: Any) -> list[str | None]:
    """Raises ArrowInvalid for a moment that has no date."""
    if column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    texts = column.cast(pa.string())
    if pc.any(pc.starts_with(texts, "<")).as_py():  # Arrow writes a remark, and no error
        raise pa.ArrowInvalid(f"a {column.type} is beyond the years that can be written")
    return list(pc.replace_substring(texts, " ", "T", max_replacements=1).to_pylist())


def _nested(scalar: pa.Scalar) -> Any:
    if not scalar.is_valid:
        return None
    if pa.types.is_struct(scalar.type):
        fields = [(field.name, scalar[i]) for i, field in enumerate(scalar.type)]
        return {name: plain(pa.array([value], value.type))[0] for name, value in fields}
    values = plain(scalar.values)
    if pa.types.is_map(scalar.type):
        return [[one["key"], one["value"]] for one in values]
    return values
