"""Types as PyFlink's `DataTypes` make them, known by their shape: PyFlink is not imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flexhost.errors import name_of
from flexhost.values.sql_names import quoted
from flexhost.values.sql_types import Declared, read_sql

# https://nightlies.apache.org/flink/flink-docs-stable/api/python/reference/pyflink.table/data_types.html
_BARE = {
    "NullType": "NULL",
    "BooleanType": "BOOLEAN",
    "TinyIntType": "TINYINT",
    "SmallIntType": "SMALLINT",
    "IntType": "INT",
    "BigIntType": "BIGINT",
    "FloatType": "FLOAT",
    "DoubleType": "DOUBLE",
    "DateType": "DATE",
}
_WITH_LENGTH = {
    "CharType": "CHAR",
    "VarCharType": "VARCHAR",
    "BinaryType": "BINARY",
    "VarBinaryType": "VARBINARY",
}
_WITH_PRECISION = {
    "TimeType": "TIME",
    "TimestampType": "TIMESTAMP",
    "LocalZonedTimestampType": "TIMESTAMP_LTZ",
}
_DEEPEST = 50


def read_flink(data_type: Any) -> Declared:
    """Of a PyFlink DataType, or of a text in SQL. Raises TypeError."""
    return read_sql(data_type if isinstance(data_type, str) else _text(data_type, 0))


def _text(data_type: Any, depth: int) -> str:
    """In SQL."""
    if depth > _DEEPEST:
        raise TypeError(f"a type is nested more than {_DEEPEST} deep")
    kind = name_of(data_type)
    try:
        nullable = data_type._nullable
        if kind in _BARE:
            text = _BARE[kind]
        elif kind in _WITH_LENGTH:
            text = f"{_WITH_LENGTH[kind]}({data_type.length})"
        elif kind in _WITH_PRECISION:
            text = f"{_WITH_PRECISION[kind]}({data_type.precision})"
        elif kind in _WRITERS:
            text = _WRITERS[kind](data_type, depth + 1)
        else:
            raise TypeError(f"the PyFlink type {kind} is not one that it can have")
    except AttributeError as error:
        raise TypeError(
            f"{kind} is no type, expected a type of PyFlink's or one in SQL: it has no "
            f"{error.name!r}"
        ) from None
    return text if nullable else f"{text} NOT NULL"


def _row(data_type: Any, depth: int) -> str:
    fields = [(field.name, _text(field.data_type, depth)) for field in data_type.fields]
    return f"ROW<{', '.join(f'{quoted(name)} {text}' for name, text in fields)}>"


def _interval(data_type: Any, depth: int) -> str:
    units = {
        "DAY": f"DAY({data_type.day_precision})",
        "SECOND": f"SECOND({data_type.fractional_precision})",
    }
    names = data_type.resolution.name.split("_TO_")  # such as DAY_TO_SECOND
    return f"INTERVAL {' TO '.join(units.get(name, name) for name in names)}"


_WRITERS: dict[str, Callable[[Any, int], str]] = {
    "DecimalType": lambda of, depth: f"DECIMAL({of.precision}, {of.scale})",
    "ArrayType": lambda of, depth: f"ARRAY<{_text(of.element_type, depth)}>",
    "MapType": lambda of, depth: f"MAP<{_text(of.key_type, depth)}, {_text(of.value_type, depth)}>",
    "RowType": _row,
    "DayTimeIntervalType": _interval,
}
