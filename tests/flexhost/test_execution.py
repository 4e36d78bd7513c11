"""A function called with the bytes of a row, through a host: each type there and back."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexhost import in_process
from flexhost.caller import ANYONE
from flexhost.errors import BadCall, FunctionFailed
from flexhost.functions.describe import describe
from flexhost.grpc_udf.execution import Execution
from flexhost.grpc_udf.row_codec import RowCodec
from flexhost.registry import Registry

UTC = dt.timezone.utc
# hint → the values of its column
HINTS = {
    "bool": (bool, st.booleans()),
    "int8": (Annotated[int, "TINYINT"], st.integers(-(2**7), 2**7 - 1)),
    "int16": (Annotated[int, "SMALLINT"], st.integers(-(2**15), 2**15 - 1)),
    "int32": (Annotated[int, "INT"], st.integers(-(2**31), 2**31 - 1)),
    "int64": (int, st.integers(-(2**63), 2**63 - 1)),
    "float32": (Annotated[float, "FLOAT"], st.floats(width=32)),
    "float64": (float, st.floats()),
    "text": (str, st.text()),
    "data": (bytes, st.binary()),
    "day": (dt.date, st.dates()),
    "hour": (dt.time, st.integers(0, 86_399_999).map(lambda ms: ms * 1000)),
    "moment": (dt.datetime, st.datetimes()),
    "millis": (
        Annotated[dt.datetime, "TIMESTAMP(3)"],
        st.datetimes().map(lambda one: one.replace(microsecond=one.microsecond // 1000 * 1000)),
    ),
    "instant": (
        Annotated[dt.datetime, "TIMESTAMP_LTZ(6)"],
        st.datetimes(timezones=st.just(UTC)),
    ),
    "price": (
        Annotated[Decimal, "DECIMAL(10, 2)"],
        st.integers(-(10**10) + 1, 10**10 - 1).map(lambda n: Decimal(f"{n}e-2")),
    ),
    "long": (Decimal, st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(f"{n}e-18"))),
    "span": (dt.timedelta, st.integers(-(10**13), 10**13)),
}
FUNCTIONS = {}
for name, (hint, _) in HINTS.items():

    def same(value):
        return value

    same.__name__ = same.__qualname__ = name
    same.__annotations__ = {"value": hint | None, "return": hint | None}
    FUNCTIONS[name] = describe(same)


def add(i: int, j: int) -> int:
    return i + j


FUNCTIONS["add"] = describe(add)


@pytest.fixture(scope="module")
def host():
    with in_process.hosting() as host:
        host.open(Registry(FUNCTIONS.values()))
        yield host


def call(host, execution, payload):
    return execution.call(payload, host, {}, ANYONE, lambda: False)


@pytest.mark.parametrize("name", HINTS)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_a_function_gives_back_are_the_bytes_that_it_was_given(host, name, data):
    value = data.draw(st.none() | HINTS[name][1])
    schema = FUNCTIONS[name].arguments
    array = pa.array([value], schema.field(0).type)
    payload = RowCodec(schema).encode(pa.RecordBatch.from_arrays([array], schema=schema))

    assert call(host, Execution(FUNCTIONS[name]), payload) == payload


NARROW = pa.schema([("i", pa.int8()), ("j", pa.int32())])


def test_the_bytes_have_the_types_of_a_spec(host):
    result = pa.schema([("r", pa.int16())])
    execution = Execution(FUNCTIONS["add"], NARROW, result)

    assert call(host, execution, b"\x00\xff\x00\x00\x00\x01\x2c") == b"\x00\x01\x2b"
    with pytest.raises(FunctionFailed, match="the result cannot be told as int16: .*40001"):
        call(host, execution, b"\x00\x01\x00\x00\x00\x9c\x40")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (pa.schema([("i", pa.int64())]), "takes 2 columns"),
        (pa.schema([("i", pa.int64()), ("j", pa.utf8())]), "argument 'j' is int64, the column"),
        (pa.schema([("i", pa.int64()), ("j", pa.list_(pa.int64()))]), "argument 2 'j' is of type"),
    ],
)
def test_types_that_do_not_fit_are_told_before_the_first_call(arguments, message):
    with pytest.raises(BadCall, match=message):
        Execution(FUNCTIONS["add"], arguments)


def test_a_result_that_can_never_fit_is_told_before_the_first_call():
    with pytest.raises(BadCall, match="the result is int64, the spec has string"):
        Execution(FUNCTIONS["add"], None, pa.schema([("r", pa.utf8())]))
