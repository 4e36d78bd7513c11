"""The values of filters, which are text, as values of a column's type.

A value is kept in the form that all renderings take it from: text, int, float (rounded to the
column's width), Decimal (with the column's scale), bool and date as they are; timestamps and times
as whole numbers of the column's unit, since Python's own have no nanoseconds.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from datetime import date, datetime, timedelta, tzinfo
from decimal import Context, Decimal
from typing import TypeAlias

import pyarrow as pa

from flexhost.filters.periods import instant, is_skipped

Literal: TypeAlias = str | int | float | Decimal | bool | date
Reader: TypeAlias = Callable[[str], Literal | None]

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
INT64 = range(-(1 << 63), 1 << 63)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_TIME = r"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?"
_TIMES = re.compile(_TIME, re.ASCII)
_MOMENTS = re.compile(rf"(\d{{4}}-\d\d-\d\d)(?:[T ]{_TIME}(Z|[+-]\d\d:\d\d)?)?", re.ASCII)


def plain(type_: pa.DataType) -> pa.DataType:
    """The type of the values themselves: that of a dictionary's, the ordinary one of a view."""
    if pa.types.is_dictionary(type_):
        return plain(type_.value_type)
    return pa.large_string() if type_ == pa.string_view() else type_


def is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def reader(type_: pa.DataType, zone: tzinfo) -> Reader | None:
    """Reads a text as a value of a plain type; None for a text that is none, or that such a column
    cannot hold. None instead of a reader when values of the type have no text.

    zone: of local times in a column of instants.
    """
    if is_text(type_):
        return _text
    if pa.types.is_boolean(type_):
        return _flag
    if pa.types.is_integer(type_):
        return lambda text: _integer(text, type_)
    if pa.types.is_floating(type_):
        return lambda text: _floating(text, type_)
    if pa.types.is_decimal(type_):
        return lambda text: _decimal(text, type_)
    if pa.types.is_date(type_):
        return _day
    if pa.types.is_timestamp(type_):
        return lambda text: _timestamp(text, type_, zone)
    if pa.types.is_time(type_):
        return lambda text: _time(text, type_)
    return None


def rounded(value: float, type_: pa.DataType) -> float | None:
    """A float as a column of this width holds it; None when it is too large for it."""
    code = {16: "e", 32: "f", 64: "d"}[type_.bit_width]
    try:
        return float(struct.unpack(code, struct.pack(code, value))[0])
    except OverflowError:
        return None


def encodable(text: str) -> bool:
    """Half a character (a lone surrogate, which JSON can carry) is in no column."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(text: str) -> str | None:
    return text if encodable(text) else None


def _flag(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.lower()) if text.isascii() else None


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _integer(text: str, type_: pa.DataType) -> int | None:
    number = _number(text)
    signed = pa.types.is_signed_integer(type_)
    end = 1 << type_.bit_width - signed
    if number is None or not (-end if signed else 0) <= number < end or number != int(number):
        return None
    return int(number)


def _floating(text: str, type_: pa.DataType) -> float | None:
    number = _number(text)
    try:
        value = None if number is None else rounded(float(number), type_)
    except OverflowError:
        return None
    return value if value is not None and abs(value) != float("inf") else None


def _decimal(text: str, type_: pa.DataType) -> Decimal | None:
    number = _number(text)
    if number is None or abs(number) >= Decimal(10) ** (type_.precision - type_.scale):
        return None
    exact = Context(prec=len(text) + 100)
    whole = number.scaleb(type_.scale, exact)
    return Decimal(int(whole)).scaleb(-type_.scale, exact) if whole == int(whole) else None


def _day(text: str) -> date | None:
    moment = _moment(text)
    if moment is None or moment[0].time() != datetime.min.time() or moment[1] or moment[2]:
        return None
    return moment[0].date()


def _timestamp(text: str, type_: pa.DataType, zone: tzinfo) -> int | None:
    moment = _moment(text)
    if moment is None:
        return None
    local, nanoseconds, offset = moment
    seconds = _instant(local, offset, None if type_.tz is None else zone)
    per = PER_SECOND[type_.unit]
    if seconds is None or nanoseconds * per % 10**9:
        return None
    value = seconds * per + nanoseconds * per // 10**9
    return value if value in INT64 else None


def _instant(local: datetime, offset: str, zone: tzinfo | None) -> int | None:
    """Seconds since 1970; None for a local time that the clocks skip, or an offset from nowhere."""
    if not offset:
        skipped = zone is not None and is_skipped(local, zone)
        return None if skipped else instant(local, zone)
    if zone is None:
        return None
    hours, minutes = (0, 0) if offset == "Z" else (int(offset[1:3]), int(offset[4:6]))
    if hours > 23 or minutes > 59:
        return None
    east = hours * 3600 + minutes * 60
    return instant(local, None) - (-east if offset[0] == "-" else east)


def _time(text: str, type_: pa.DataType) -> int | None:
    found = _TIMES.fullmatch(text)
    clock = _clock(*found.groups()) if found else None
    per = PER_SECOND[type_.unit]
    if clock is None or clock[1] * per % 10**9:
        return None
    return int(clock[0].total_seconds()) * per + clock[1] * per // 10**9


def _moment(text: str) -> tuple[datetime, int, str] | None:
    """Local time in seconds, nanoseconds, and the offset as written."""
    found = _MOMENTS.fullmatch(text)
    if not found:
        return None
    day, *clock, offset = found.groups()
    time = _clock(*(part or "0" for part in clock))
    try:
        start = datetime.fromisoformat(day)
    except ValueError:
        return None
    return (start + time[0], time[1], offset or "") if time else None


def _clock(
    hour: str, minute: str, second: str | None, part: str | None
) -> tuple[timedelta, int] | None:
    hours, minutes, seconds = int(hour), int(minute), int(second or 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    nanoseconds = int((part or "").ljust(9, "0"))
    return timedelta(hours=hours, minutes=minutes, seconds=seconds), nanoseconds
