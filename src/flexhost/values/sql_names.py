"""The names that Flink SQL has for Arrow types."""

from __future__ import annotations

import re

import pyarrow as pa

LONGEST = 2**31 - 1  # STRING is VARCHAR of it, BYTES is VARBINARY of it
UNITS = {0: "s", 3: "ms", 6: "us", 9: "ns"}
_DIGITS = {unit: digits for digits, unit in UNITS.items()}
_OF_UTC = ("UTC", "+00:00")  # by the name, and as RisingWave writes it
_INTERVAL = "INTERVAL DAY TO SECOND"
PLAIN = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "NULL": pa.null(),
}
_SQL_OF_PLAIN = {
    **{type_: name for name, type_ in PLAIN.items()},
    pa.utf8(): f"VARCHAR({LONGEST})",
    pa.binary(): f"VARBINARY({LONGEST})",
    pa.duration("ms"): _INTERVAL,
}
_ROOTS = {"TIMESTAMP_LTZ": "LOCALZONEDTIMESTAMP", "INTERVAL": "DAYTIMEINTERVAL"}


def sql(type_: pa.DataType, nullable: bool = True) -> str:
    """In full, as Flink can read it: `VARCHAR(2147483647) NOT NULL`. Raises TypeError."""
    return _name(type_) + suffix(nullable)


def sql_root(type_: pa.DataType) -> str:
    """The bare name, without length and precision: `VARCHAR`, `DECIMAL`. Raises TypeError."""
    return root_of(_name(type_))


def root_of(text: str) -> str:
    """The bare name of a type that is written in full."""
    name = re.split(r"[ (<]", text, maxsplit=1)[0]
    return _ROOTS.get(name, name)


def quoted(name: str) -> str:
    """The name of a field."""
    return "`" + name.replace("`", "``") + "`"


def suffix(nullable: bool) -> str:
    return "" if nullable else " NOT NULL"


def _name(type_: pa.DataType) -> str:
    known = _SQL_OF_PLAIN.get(type_)
    if known is not None:
        return known
    is_ = pa.types
    if is_.is_fixed_size_binary(type_) and not is_.is_decimal(type_):
        return f"BINARY({type_.byte_width})"
    if is_.is_decimal128(type_) and 0 <= type_.scale <= type_.precision:
        return f"DECIMAL({type_.precision}, {type_.scale})"
    if is_.is_time(type_):
        return f"TIME({_DIGITS[type_.unit]})"
    if is_.is_timestamp(type_) and type_.tz in (None, *_OF_UTC):
        return f"TIMESTAMP{'_LTZ' if type_.tz else ''}({_DIGITS[type_.unit]})"
    if is_.is_list(type_):
        return f"ARRAY<{_inner(type_.value_field)}>"
    if is_.is_map(type_):
        return f"MAP<{_inner(type_.key_field)}, {_inner(type_.item_field)}>"
    if is_.is_struct(type_):
        return f"ROW<{', '.join(f'{quoted(f.name)} {_inner(f)}' for f in type_)}>"
    raise TypeError(f"the Arrow type {type_} has no SQL name")


def _inner(field: pa.Field) -> str:
    return sql(field.type, field.nullable)
