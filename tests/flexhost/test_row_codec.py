"""A row of values as bytes."""

from __future__ import annotations

import datetime as dt
import math
import struct
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexhost.errors import BadCall, FunctionFailed
from flexhost.grpc_udf.row_codec import RowCodec

UTC = dt.timezone.utc
# the first text takes seconds, of a machine that never drew one
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# (type, value, its bytes in hexadecimal digits)
VECTORS = [
    (pa.bool_(), True, "0001"),
    (pa.bool_(), False, "0000"),
    (pa.int8(), -128, "0080"),
    (pa.int16(), -2, "00fffe"),
    (pa.int32(), 7, "0000000007"),
    (pa.int64(), 1, "000000000000000001"),
    (pa.int64(), None, "01"),
    (pa.float32(), 1.5, "003fc00000"),
    (pa.float64(), 1.5, "003ff8000000000000"),
    (pa.utf8(), "hé", "000000000368c3a9"),
    (pa.large_utf8(), "", "0000000000"),
    (pa.binary(), b"\x00\xff", "000000000200ff"),
    (pa.binary(2), b"\x00\xff", "000000000200ff"),
    (pa.date32(), dt.date(2020, 1, 2), "0000004757"),
    (pa.time64("us"), dt.time(1, 2, 3), "000038cef8"),
    (pa.time32("ms"), dt.time(1, 2, 3), "000038cef8"),
    (pa.timestamp("ms"), dt.datetime(2020, 1, 2, 3, 4, 5), "000000016f6435cc88"),
    (
        pa.timestamp("us"),
        dt.datetime(2020, 1, 2, 3, 4, 5, 123456),
        "000000016f6435cd030006f540",
    ),
    (
        pa.timestamp("us", "UTC"),
        dt.datetime(2020, 1, 2, 3, 4, 5, 123456, UTC),
        "000000016f6435cd030006f540",
    ),
    (
        pa.timestamp("us"),
        dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
        "00ffffffffffffffff000f3e58",
    ),
    (pa.decimal128(10, 2), Decimal("1.23"), "00000000000000007b"),
    (pa.decimal128(38, 2), Decimal("-0.01"), "0000000001ff"),
    (pa.decimal128(38, 0), Decimal(-128), "000000000180"),
    (pa.decimal128(38, 0), Decimal(128), "00000000020080"),
    (pa.duration("ms"), dt.timedelta(days=1), "000000000005265c00"),
    (pa.month_day_nano_interval(), pa.MonthDayNano([14, 0, 0]), "000000000e"),
]


def codec(*types):
    return RowCodec(
        pa.schema([(name, type_) for name, type_ in zip("abcdefgh", types, strict=False)])
    )


def row(codec, *values):
    arrays = [
        pa.array([value], field.type) for value, field in zip(values, codec.schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=codec.schema)


@pytest.mark.parametrize(("type_", "value", "expected"), VECTORS)
def test_a_value_is_written_as_the_coders_of_flink_do(type_, value, expected):
    one = codec(type_)

    assert one.encode(row(one, value)).hex() == expected
    assert one.decode(bytes.fromhex(expected)).to_pylist() == [{"a": value}]


VALUES = {
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-(2**7), 2**7 - 1),
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.utf8(): st.text(),
    pa.large_utf8(): st.text(),
    pa.binary(): st.binary(),
    pa.large_binary(): st.binary(),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.date32(): st.dates(),
    pa.time32("s"): st.times().map(lambda one: one.replace(microsecond=0)),
    pa.time32("ms"): st.times().map(lambda one: one.replace(microsecond=one.microsecond // 1000)),
    pa.time64("us"): st.integers(0, 86_399_999).map(lambda ms: ms * 1000),
    pa.time64("ns"): st.integers(0, 86_399_999).map(lambda ms: ms * 1_000_000),
    pa.timestamp("s"): st.integers(-(2**63 // 1000), 2**63 // 1000),
    pa.timestamp("ms"): st.integers(-(2**63), 2**63 - 1),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("us", "UTC"): st.datetimes(timezones=st.just(UTC)),
    pa.timestamp("ns"): st.integers(-(2**63), 2**63 - 1),
    pa.decimal128(10, 2): st.integers(-(10**10) + 1, 10**10 - 1).map(lambda n: Decimal(f"{n}e-2")),
    pa.decimal128(18, 18): st.integers(-(10**18) + 1, 10**18 - 1).map(
        lambda n: Decimal(f"{n}e-18")
    ),
    pa.decimal128(38, 18): st.integers(-(10**38) + 1, 10**38 - 1).map(
        lambda n: Decimal(f"{n}e-18")
    ),
    pa.decimal256(76, 0): st.integers(-(10**76) + 1, 10**76 - 1).map(Decimal),
    pa.duration("ms"): st.integers(-(2**63), 2**63 - 1),
    pa.duration("us"): st.integers(-(10**12), 10**12).map(lambda ms: ms * 1000),
    pa.month_day_nano_interval(): st.integers(-(2**31), 2**31 - 1).map(
        lambda months: pa.MonthDayNano([months, 0, 0])
    ),
}


@SLOW
@given(st.data())
def test_what_is_written_is_read_again(data):
    types = data.draw(st.lists(st.sampled_from(list(VALUES)), max_size=8))
    values = [data.draw(st.none() | VALUES[one]) for one in types]
    one = codec(*types)
    written = one.encode(before := row(one, *values)) if types else b""

    after = one.decode(written)

    assert after.num_rows == 1
    assert one.encode(after) == written
    if not any(isinstance(value, float) and math.isnan(value) for value in values):
        assert after.equals(before) if types else after.num_columns == 0


@pytest.mark.parametrize("type_", list(VALUES), ids=str)
@SLOW
@given(data=st.data())
def test_a_value_of_each_type_survives_and_no_byte_may_be_missing_or_too_many(type_, data):
    one = codec(type_)
    value = data.draw(VALUES[type_])
    written = one.encode(before := row(one, value))

    after = one.decode(written)

    assert after.equals(before) or value != value
    with pytest.raises(BadCall, match="1 bytes are left over at byte"):
        one.decode(written + b"\x00")
    for size in range(len(written)):
        with pytest.raises(BadCall, match="argument 1 'a', at byte 0: "):
            one.decode(written[:size])


@SLOW
@given(st.lists(st.sampled_from(list(VALUES)), max_size=8), st.binary(max_size=100))
def test_any_bytes_are_a_row_or_are_refused_with_a_code(types, data):
    one = codec(*types)
    try:
        read = one.decode(data)
    except BadCall:
        return
    assert read.num_rows == 1


INTS = codec(pa.int64(), pa.int64())
LONG = struct.Struct(">q").pack


@pytest.mark.parametrize(
    ("one", "data", "expected"),
    [
        (INTS, bytes(9), "argument 2 'b', at byte 9: ends too soon: there are 9 bytes in all"),
        (INTS, bytes(12), "argument 2 'b', at byte 9: ends too soon: there are 12 bytes in all"),
        (INTS, bytes(20), "2 bytes are left over at byte 18, after the last of 2 arguments"),
        (
            INTS,
            b"\x02" + bytes(17),
            "argument 1 'a', at byte 0: begins with the byte 2, expected",
        ),
        (codec(pa.bool_()), b"\x00\x02", "is the byte 2, expected 0 for false or 1 for true"),
        (codec(pa.utf8()), b"\x00\x00\x00\x00\x02\xff\xff", "is no UTF-8: invalid start byte"),
        (codec(pa.utf8()), b"\x00\xff\xff\xff\xff", "has -1 bytes, as it says"),
        (codec(pa.utf8()), b"\x00\x7f\xff\xff\xff", "has 2147483647 bytes, as it says, and 0 are"),
        (codec(pa.binary(2)), b"\x00\x00\x00\x00\x01\xff", "has 1 bytes, expected 2"),
        (codec(pa.time64("us")), b"\x00\x05\x26\x5c\x00", "is 86400000 ms, which no time of the"),
        (codec(pa.time32("s")), b"\x00\x00\x00\x00\x01", "cannot be told in units of 1/1 s"),
        (codec(pa.timestamp("us")), bytes(9) + b"\x00\x0f\x42\x40", "has 1000000 ns within its"),
        (codec(pa.timestamp("us")), bytes(12) + b"\x01", "in units of 1/1000000 s: it is finer"),
        (codec(pa.timestamp("us")), b"\x00" + LONG(2**62) + bytes(4), "at byte 0: .*"),
        (codec(pa.decimal128(4, 2)), b"\x00" + LONG(10_000), "has more than the 4 digits of DECI"),
        (codec(pa.decimal128(38, 2)), bytes(5), "is a decimal of no bytes"),
    ],
)
def test_what_is_no_row_is_refused_by_its_place_and_argument(one, data, expected):
    with pytest.raises(BadCall, match=expected):
        one.decode(data)


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        (pa.time64("us"), dt.time(1, 2, 3, 4), "result 1 'a': 01:02:03.000004 cannot be told in"),
        (pa.duration("s"), 2**62, "is out of range"),
        (pa.duration("us"), 1, "cannot be told in units of 1/1000 s: it is finer"),
        (pa.month_day_nano_interval(), pa.MonthDayNano([1, 1, 0]), "expected whole months"),
    ],
)
def test_what_cannot_be_written_is_named(type_, value, expected):
    one = RowCodec(pa.schema([("a", type_)]), what="result")

    with pytest.raises(FunctionFailed, match=expected):
        one.encode(row(one, value))


@pytest.mark.parametrize(
    "type_",
    [pa.list_(pa.int64()), pa.struct([("x", pa.int64())]), pa.uint8(), pa.null(), pa.date64()],
    ids=str,
)
def test_a_type_that_rows_cannot_have_is_refused(type_):
    with pytest.raises(BadCall, match="argument 2 'b' is of type .*, which cannot travel"):
        codec(pa.int64(), type_)
