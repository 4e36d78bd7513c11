"""A row of values as bytes, as Flink's coders write it: what a call over gRPC carries.

One value after the other, without a count: a byte that is 0, or 1 for null, and then the value. All
numbers are big-endian.

| Arrow                        | after the null byte                                              |
| ---------------------------- | ---------------------------------------------------------------- |
| bool                         | 1 byte, 0 or 1                                                   |
| int8, int16, int32, int64    | 1, 2, 4 or 8 bytes                                               |
| float32, float64             | IEEE 754                                                         |
| utf8, binary                 | int32 bytes that follow, and they                                |
| date32                       | int32 days since 1970-01-01                                      |
| time                         | int32 milliseconds of the day                                    |
| timestamp                    | int64 milliseconds; if it is finer, int32 nanoseconds besides    |
| decimal                      | up to 18 digits int64 unscaled; else int32 bytes that follow, and |
|                              | they: the unscaled value in two's complement                     |
| duration                     | int64 milliseconds                                               |
| month_day_nano_interval      | int32 months                                                     |
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any, NamedTuple

import pyarrow as pa

from flexhost.errors import BadCall, FunctionFailed


class Kind(NamedTuple):
    """How values of a type are read and written, the null byte aside.

    read:  the bytes and where a value begins → what `pa.array` takes for it, and where it ends.
    write: a scalar that is no null → its bytes.

    Both raise ValueError that says what is wrong, `read` struct.error where the bytes end too soon.
    """

    read: Callable[[bytes, int], tuple[Any, int]]
    write: Callable[[Any], bytes]


class RowCodec:
    """Rows of one schema. Whether a value may be null is not its business.

    what: a value is called in messages.
    """

    def __init__(self, schema: pa.Schema, what: str = "argument") -> None:
        """Raises BadCall for a type that rows cannot have."""
        self.schema = pa.schema([field.with_nullable(True) for field in schema])
        self._what = what
        self._kinds = [self._kind(number, field) for number, field in enumerate(schema, 1)]

    def decode(self, data: bytes) -> pa.RecordBatch:
        """A batch of one row. Raises BadCall that says at which byte and argument."""
        at, arrays = 0, []
        for number, (field, kind) in enumerate(zip(self.schema, self._kinds, strict=True), 1):
            begin = at
            try:
                value = None
                if (is_null := data[at]) not in (0, 1):
                    raise ValueError(f"begins with the byte {is_null}, expected 0, or 1 for null")
                at += 1
                if not is_null:
                    value, at = kind.read(data, at)
                arrays.append(pa.array([value], field.type))
            except (struct.error, IndexError):
                why = f"ends too soon: there are {len(data)} bytes in all"
                raise BadCall(f"{self._name(number)}, at byte {begin}: {why}") from None
            except (ValueError, OverflowError) as error:  # those of pyarrow are ValueErrors too
                raise BadCall(f"{self._name(number)}, at byte {begin}: {error}") from None
        if left := len(data) - at:
            raise BadCall(
                f"{left} bytes are left over at byte {at}, after the last of "
                f"{len(self._kinds)} {self._what}s"
            )
        if not arrays:  # from which alone pyarrow would not know that there is a row
            return pa.RecordBatch.from_struct_array(pa.array([{}], pa.struct([])))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def encode(self, row: pa.RecordBatch | pa.Table) -> bytes:
        """The first row, of the types of this. Raises FunctionFailed for a value out of range."""
        parts = []
        for number, kind in enumerate(self._kinds, 1):
            scalar = row.column(number - 1)[0]
            if not scalar.is_valid:
                parts.append(b"\x01")
                continue
            try:
                parts.append(b"\x00" + kind.write(scalar))
            except (struct.error, OverflowError, ValueError) as error:
                why = str(error) if type(error) is ValueError else "is out of range"
                raise FunctionFailed(f"{self._name(number)}: {_shown(scalar)} {why}") from None
        return b"".join(parts)

    def _kind(self, number: int, field: pa.Field) -> Kind:
        if (kind := kind_of(field.type)) is None:
            raise BadCall(
                f"{self._name(number)} is of type {field.type}, which cannot travel as bytes of a "
                "row"
            )
        return kind

    def _name(self, number: int) -> str:
        return f"{self._what} {number} {self.schema.field(number - 1).name!r}"


def _shown(scalar: Any) -> str:
    try:
        return str(scalar)[:100]
    except (OverflowError, ValueError):  # of a time that Python has no object for
        return str(scalar.value)


def kind_of(type_: pa.DataType) -> Kind | None:
    """None for a type that rows cannot have."""
    if (plain := _PLAIN.get(type_)) is not None:
        return plain
    if pa.types.is_fixed_size_binary(type_):
        return _bytes(lambda data: _of_length(data, type_.byte_width))
    if pa.types.is_time(type_):
        return _time(_PER_SECOND[type_.unit])
    if pa.types.is_timestamp(type_):
        return _timestamp(_PER_SECOND[type_.unit])
    if pa.types.is_duration(type_):
        return _duration(_PER_SECOND[type_.unit])
    if pa.types.is_decimal(type_):
        return _decimal(type_.precision, type_.scale)
    return None


_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_NANOS_PER_MS = 1_000_000
_DAY_MS = 86_400_000
_INT32, _INT64 = struct.Struct(">i"), struct.Struct(">q")
_TIMESTAMP = struct.Struct(">qi")
# Of 28 digits, as the usual one, the longest decimals would be rounded.
_WIDE = Context(prec=100)


def _number(form: str) -> Kind:
    packed = struct.Struct(form)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        return packed.unpack_from(data, at)[0], at + packed.size

    return Kind(read, lambda scalar: packed.pack(scalar.as_py()))


def _date() -> Kind:
    return Kind(
        lambda data, at: (_INT32.unpack_from(data, at)[0], at + 4),
        lambda scalar: _INT32.pack(scalar.value),
    )


def _bool() -> Kind:
    def read(data: bytes, at: int) -> tuple[bool, int]:
        if (byte := data[at]) > 1:
            raise ValueError(f"is the byte {byte}, expected 0 for false or 1 for true")
        return byte == 1, at + 1

    return Kind(read, lambda scalar: b"\x01" if scalar.as_py() else b"\x00")


def _bytes(check: Callable[[bytes], Any], write: Callable[[Any], bytes] = lambda one: one) -> Kind:
    """check: the bytes → the value. write: the value → its bytes."""

    def read(data: bytes, at: int) -> tuple[Any, int]:
        [length] = _INT32.unpack_from(data, at)
        begin, end = at + 4, at + 4 + length
        if length < 0:
            raise ValueError(f"has {length} bytes, as it says")
        if end > len(data):
            raise ValueError(f"has {length} bytes, as it says, and {len(data) - begin} are there")
        return check(data[begin:end]), end

    def framed(scalar: Any) -> bytes:
        data = write(scalar.as_py())
        return _INT32.pack(len(data)) + data

    return Kind(read, framed)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"is no UTF-8: {error.reason} at byte {error.start} of it") from None


def _of_length(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise ValueError(f"has {len(data)} bytes, expected {length}")
    return data


def _time(per_second: int) -> Kind:
    def read(data: bytes, at: int) -> tuple[int, int]:
        [ms] = _INT32.unpack_from(data, at)
        if not 0 <= ms < _DAY_MS:
            raise ValueError(f"is {ms} ms, which no time of the day is")
        return _scaled(ms, 1_000, per_second), at + 4

    return Kind(read, lambda scalar: _INT32.pack(_scaled(scalar.value, per_second, 1_000)))


def _timestamp(per_second: int) -> Kind:
    if per_second <= 1_000:
        return _duration(per_second)

    def read(data: bytes, at: int) -> tuple[int, int]:
        ms, nanos = _TIMESTAMP.unpack_from(data, at)
        if not 0 <= nanos < _NANOS_PER_MS:
            raise ValueError(f"has {nanos} ns within its millisecond, of which there are 1000000")
        in_nanos = ms * _NANOS_PER_MS + nanos
        return _scaled(in_nanos, 1_000_000_000, per_second), at + 12

    def write(scalar: Any) -> bytes:
        nanos = _scaled(scalar.value, per_second, 1_000_000_000)
        return _TIMESTAMP.pack(*divmod(nanos, _NANOS_PER_MS))

    return Kind(read, write)


def _duration(per_second: int) -> Kind:
    def read(data: bytes, at: int) -> tuple[int, int]:
        return _scaled(_INT64.unpack_from(data, at)[0], 1_000, per_second), at + 8

    return Kind(read, lambda scalar: _INT64.pack(_scaled(scalar.value, per_second, 1_000)))


def _scaled(count: int, of: int, to: int) -> int:
    """So many of one unit in another; both as parts of a second. Nothing is cut off."""
    scaled, rest = divmod(count * to, of)
    if rest:
        raise ValueError(f"cannot be told in units of 1/{to} s: it is finer")
    return scaled


def _decimal(precision: int, scale: int) -> Kind:
    most = 10**precision

    def value(unscaled: int) -> Decimal:
        if not -most < unscaled < most:
            raise ValueError(
                f"has more than the {precision} digits of DECIMAL({precision},{scale})"
            )
        return Decimal(unscaled).scaleb(-scale, _WIDE)

    def read_long(data: bytes, at: int) -> tuple[Decimal, int]:
        return value(_INT64.unpack_from(data, at)[0]), at + 8

    def from_bytes(data: bytes) -> Decimal:
        if not data:
            raise ValueError("is a decimal of no bytes")
        return value(int.from_bytes(data, "big", signed=True))

    def unscaled(given: Decimal) -> int:
        return int(given.scaleb(scale, _WIDE))

    def to_bytes(given: Decimal) -> bytes:
        number = unscaled(given)
        bits = (number if number >= 0 else ~number).bit_length()
        return number.to_bytes(bits // 8 + 1, "big", signed=True)

    if precision <= 18:
        return Kind(read_long, lambda scalar: _INT64.pack(unscaled(scalar.as_py())))
    return _bytes(from_bytes, to_bytes)


def _months() -> Kind:
    def write(scalar: Any) -> bytes:
        months, days, nanos = scalar.as_py()
        if days or nanos:
            raise ValueError("has days or parts of them, expected whole months")
        return _INT32.pack(months)

    return Kind(lambda data, at: ((_INT32.unpack_from(data, at)[0], 0, 0), at + 4), write)


_TEXT, _BYTES = _bytes(_text, str.encode), _bytes(lambda data: data)
_PLAIN: dict[pa.DataType, Kind] = {
    pa.bool_(): _bool(),
    pa.int8(): _number(">b"),
    pa.int16(): _number(">h"),
    pa.int32(): _number(">i"),
    pa.int64(): _number(">q"),
    pa.float32(): _number(">f"),
    pa.float64(): _number(">d"),
    pa.utf8(): _TEXT,
    pa.large_utf8(): _TEXT,
    pa.binary(): _BYTES,
    pa.large_binary(): _BYTES,
    pa.date32(): _date(),
    pa.month_day_nano_interval(): _months(),
}
