"""Plain functions, served as they are by the host, by bare pyarrow and by the udf servers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc

Numbers = Annotated[pa.Array, pa.int64()]


def gcd(x: int, y: int) -> int:
    while y:
        x, y = y, x % y
    return x


def plus(x: int, y: int) -> int:
    return x + y


def series(n: int) -> Iterator[int]:
    yield from range(n)


def lists(x: Numbers, y: Numbers) -> Numbers:
    """Who wants lists of the host makes them."""
    return pa.array(_of_lists(x.to_pylist(), y.to_pylist()), pa.int64())


def arrays(x: Numbers, y: Numbers) -> Numbers:
    return pc.add(x, y)


def _of_lists(x: list[int], y: list[int]) -> list[int]:
    return list(map(math.gcd, x, y))
