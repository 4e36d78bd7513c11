"""What typed parameters and the contract cost a call with a table of six rows.

In this process, without Flight: a function is called by itself, and then with its parameters read
and its result fitted, in turns. The figure to trust is the CPU time of this thread, the median of
all rounds. Ends with status 1 when the difference is over the limit.

    .venv/bin/python bench/authoring.py [--calls N] [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pyarrow as pa
from msgspec import Meta

from flexhost import FlexFun, table_function
from flexhost.caller import ANYONE
from flexhost.calls.arguments import accept, instance_for
from flexhost.calls.returned import arrow
from flexhost.contract import fit
from flexhost.functions.describe import describe

LIMIT = 60.0  # microseconds

SCHEMA = pa.schema(
    [("region", pa.string()), ("product", pa.string()), ("day", pa.date32())]
    + [(f"fact{i}", pa.float64()) for i in range(3)]
)
DATA = {
    "region": ["EU", "US"] * 3,
    "product": ["a", "b", "c"] * 2,
    "day": pa.array(range(6), pa.date32()),
    **{f"fact{i}": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] for i in range(3)},
}
TABLE = pa.table(DATA, schema=SCHEMA)
ROWS = TABLE.to_pylist()
SENT = {
    "region": "US",
    "limit": 10,
    "span": {"since": "2026-01-01", "days": 7},
    "tags": ["a", "b"],
    "executionContext": {"executionType": "REPORT"},
}


class Span(msgspec.Struct):
    since: str
    days: int = 1


class Params(msgspec.Struct):
    region: str = "EU"
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    span: Span | None = None
    tags: list[str] = []


class Typed(FlexFun):
    Name = "typed"
    Schema = SCHEMA
    Parameters = Params

    def call(self, parameters: Any, columns: Any, headers: Any) -> Any:
        return TABLE


@table_function(SCHEMA)
def plain(
    region: str, limit: int = 100, span: Span | None = None, tags: list[str] | None = None
) -> pa.Table:
    return TABLE


@table_function(SCHEMA)
def dicts(
    region: str, limit: int = 100, span: Span | None = None, tags: list[str] | None = None
) -> list[dict[str, Any]]:
    return ROWS


def bare() -> None:
    Typed().call(SENT, None, {})


def whole(source: Any, sent: dict[str, Any]) -> Callable[[], object]:
    """What the host does for a call beside waiting and keeping."""
    function = describe(source)

    def run() -> object:
        arguments = accept(function, sent, None, {}, ANYONE)
        returned = instance_for(function, arguments).call(sent, None, {})
        return fit(arrow(returned, function.schema, function.name), function.schema, function.name)

    return run


def microseconds(run: Callable[[], object], calls: int) -> float:
    begun = time.thread_time()
    for _ in range(calls):
        run()
    return (time.thread_time() - begun) / calls * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=5000, help="in each round")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    runs = {
        "the function alone": bare,
        "FlexFun, typed, a table": whole(Typed, SENT),
        "@table_function, a table": whole(plain, SENT),
        "the same, 3.0 sent for 3": whole(plain, {**SENT, "limit": 10.0}),
        "@table_function, dicts": whole(dicts, SENT),
    }
    figures: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            figures[name].append(microseconds(run, options.calls))
    alone = statistics.median(figures["the function alone"])
    print("| call | CPU µs | over the function alone |")
    print("| --- | --- | --- |")
    for name, found in figures.items():
        median = statistics.median(found)
        print(f"| {name} | {median:.1f} | {median - alone:.1f} |")
    over = statistics.median(figures["FlexFun, typed, a table"]) - alone
    print(f"limit: {LIMIT:g} µs; {'kept' if over <= LIMIT else 'OVER'}")
    return 0 if over <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
