"""The client that Databend has for trying functions calls ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as fl
import pytest
from databend_udf.client import create_client
from support import serving


def gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


def greeting() -> str:
    return "hello"


def shouted(text: str | None) -> str | None:
    return text and text.upper()


def doubled(x: Annotated[pa.Array, float]) -> Annotated[pa.Array, float]:
    return pc.multiply(x, 2.0)


class Word(NamedTuple):
    text: str
    size: int


def words(line: str) -> Iterator[Word]:
    return (Word(word, len(word)) for word in line.split())


@pytest.fixture(scope="module")
def client():
    with serving(gcd, greeting, shouted, doubled, words) as host:
        yield create_client("127.0.0.1", host.port)


def test_it_finds_the_host_well(client):
    assert client.health_check() is True
    assert client.echo("čau") == "čau"
    assert client.list_functions() == ["builtin_echo", "builtin_healthy"]


def test_it_calls_scalars(client):
    assert client.call_function("gcd", 12, 18) == [6]
    assert client.call_function("greeting") == ["hello"]
    assert client.call_function("doubled", 1.5) == [3.0]


def test_it_calls_with_many_rows(client):
    many = client.call_function_batch("gcd", a=[12] * 10_000, b=[*range(10_000)])

    assert many == [gcd(12, n) for n in range(10_000)]


def test_its_nulls_come_and_go(client):
    assert client.call_function_batch("shouted", text=["a", None]) == ["A", None]


def test_it_reads_the_rows_of_a_table_function(client):
    assert client.call_function("words", "a bc") == [
        {"row": 0, "result": {"text": "a", "size": 1}},
        {"row": 0, "result": {"text": "bc", "size": 2}},
    ]


def test_its_headers_do_no_harm(client):
    headers = {"x-databend-query-id": "q", "x-databend-tenant": "t"}

    assert client.call_function("gcd", 4, 6, headers=headers) == [2]


@pytest.mark.parametrize(
    ("called", "told"),
    [
        (("gcd", 1), "expects 2 arguments, got 1"),
        (("nobody", 1), "no function is named 'nobody'"),
        (("words", None), "row 0"),
    ],
)
def test_it_is_told_what_is_wrong(client, called, told):
    with pytest.raises((fl.FlightError, ValueError), match=told):
        client.call_function(*called)
    assert client.call_function("gcd", 4, 6) == [2]
