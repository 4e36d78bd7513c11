"""DoExchange of the host against bare pyarrow, arrow-udf and databend-udf: `make bench-exchange`.

    .venv/bin/python bench/exchange.py [--only NAME ...] [--rounds N] [--out FOLDER]

The same functions on all, the same client, batches of the same rows. As in comparison.py, the
servers are processes of their own that are asked in turns. Writes Markdown, JSON and a picture to
bench/results; rounds of earlier runs stay in them with --add, beside those of this one.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.flight as fl

import pictures
import report
from clients import Clients, Job, clients
from measuring import percentile
from servers import (
    ARROW_UDF,
    BARE,
    DATABEND_UDF,
    OPTIONS,
    OURS,
    PYTHON,
    PYTHONS,
    ROOT,
    Server,
    Setup,
    first_answer,
    running,
)
from workloads import Measure, Target, Workload

_ALL = (BARE, ARROW_UDF, DATABEND_UDF, OURS)


@dataclass(frozen=True)
class Exchanged(Job):
    """See exchange_client.py. Only these servers have the function."""

    rows: int = 8192  # of a batch
    columns: tuple[tuple[int, int], ...] = ((1, 1000), (1, 1000))  # the range of each
    way: str = "ahead"
    table: bool = False
    sending: float = 0.5
    check: bool = False
    each: int = 1
    servers: tuple[str, ...] = _ALL


_MEASURES = (
    Measure("rows", "million rows/s", 3),
    Measure("cpu_row", "server CPU, µs/row", 3),
    Measure("batches", "batches/s", 0),
    Measure("p50_ms", "p50 of a batch, ms", 2),
    Measure("client_cores", "cores that the client uses", 2),
)
_AHEAD_OF_BOTH = tuple(
    Target("rows", 1, against, at_least=True) for against in (ARROW_UDF, DATABEND_UDF)
)
_HALF = (Target("rows", 0.5, BARE, at_least=True),)
_WAYS = {
    "ahead": "several under way",
    "waiting": "each waits for the answer before",
    "apart": "each in an exchange of its own",
}


def _workload(what: str, job: Exchanged, named: int, targets: tuple[Target, ...]) -> Workload:
    """named: the number that the name has."""
    name = "-".join([job.function, str(named), *([job.way] if job.way != "ahead" else [])])
    title = f"{what}, {job.rows:,} rows a batch, {_WAYS[job.way]}"
    return Workload(name, title, _SETUP, _MEASURES, targets, job)


def _rows(function: str, what: str, rows: int, *ways: str) -> list[Workload]:
    made = [Exchanged(function, rows=rows, way=way) for way in ways]
    return [_workload(what, job, rows, (*_HALF, *_AHEAD_OF_BOTH)) for job in made]


def _tables(rows: int, low: int, high: int, *ways: str) -> list[Workload]:
    """Of as many rows for each row."""
    many = f"{low:,}" if low == high else f"{low} to {high}"
    what = f"A table function of {many} rows for each (rows: of the answers)"
    made = [
        Exchanged("series", rows=rows, columns=((low, high),), way=way, table=True) for way in ways
    ]
    return [_workload(what, job, high, _AHEAD_OF_BOTH) for job in made]


_SETUP = Setup(("hinted",), plain=True)
_GCD, _PLUS = "A row function, gcd", "A row function that adds"
WORKLOADS = [
    *_rows("gcd", _GCD, 8192, "ahead", "waiting", "apart"),
    *_rows("gcd", _GCD, 256, "ahead", "waiting", "apart"),
    *_rows("plus", _PLUS, 8192, "ahead", "waiting"),
    *_tables(256, 100, 100, "ahead", "waiting"),
    *_tables(1, 100_000, 100_000, "ahead"),
    *_tables(2048, 0, 4, "ahead"),
    *(
        _workload("A batch function on lists", Exchanged("lists", rows=rows), rows, _AHEAD_OF_BOTH)
        for rows in (8192, 65536)
    ),
    *(
        _workload(
            "A batch function on arrays",
            Exchanged("arrays", rows=rows, servers=(BARE, OURS)),
            rows,
            _HALF if rows > 8192 else (),
        )
        for rows in (8192, 65536)
    ),
]


def main() -> None:
    options = _options()
    found: report.Found = {}
    began = time.monotonic()
    names = [name for name in _ALL if name not in PYTHONS or PYTHONS[name].exists()]
    for name in {*_ALL} - {*names}:
        print(f"{name} is not here (`make udf-servers`): it is left out", file=sys.stderr)
    chosen = [one for one in WORKLOADS if not options.only or one.name in options.only]
    with (
        tempfile.TemporaryDirectory() as folder,
        clients(1, "exchange_client.py") as asking,
        ExitStack() as stack,
    ):
        servers = {}
        for name in names:
            servers[name] = stack.enter_context(running(name, _SETUP, Path(folder)))
            first_answer(servers[name], _ask, Path(folder) / name / "log")
        for workload in chosen:
            assert isinstance(workload.job, Exchanged)
            there = [servers[name] for name in names if name in workload.job.servers]
            for server in there:  # once unmeasured, and seen to be right
                asking.run(server, replace(workload.job, check=True, sending=0.1))
            for number in range(options.rounds):
                for server in there if number % 2 == 0 else there[::-1]:
                    figures = _figures(asking, server, workload.job)
                    found.setdefault(workload.name, {}).setdefault(server.name, []).append(figures)
                    shown = ", ".join(
                        f"{m.title} {figures[m.key]:.{m.digits}f}" for m in workload.measures
                    )
                    print(f"{workload.name:18} {server.name:13} {shown}", file=sys.stderr)
    options.out.mkdir(parents=True, exist_ok=True)
    file, runs = options.out / "exchange.json", []
    if options.add and file.exists():
        before = json.loads(file.read_text())
        found, runs = _joined(before["rounds"], found), before["runs"]
    told = report.Report(
        found,
        [one for one in WORKLOADS if one.name in found],
        time.monotonic() - began,
        _LAYOUT._replace(
            versions=lambda: _versions() | {"earlier runs": ", ".join(runs) or "none"}
        ),
    )
    values = told.values()
    this = f"{values['machine']['when']} {values['machine']['flexhost']}"
    (options.out / "exchange.md").write_text(told.markdown())
    file.write_text(json.dumps(values | {"runs": [*runs, this]}, indent=1) + "\n")
    for name, drawn in pictures.all_of(told).items():
        (options.out / f"{name}.svg").write_text(drawn)
    print(told.summary())
    print(f"written to {options.out}")


def _joined(before: report.Found, now: report.Found) -> report.Found:
    """The rounds of both."""
    return {
        workload: {
            server: before.get(workload, {}).get(server, []) + now.get(workload, {}).get(server, [])
            for server in {**before.get(workload, {}), **now.get(workload, {})}
        }
        for workload in {**before, **now}
    }


def _figures(asking: Clients, server: Server, job: Exchanged) -> dict[str, float]:
    outcome = asking.run(server, job)
    rows = outcome.bytes or math.nan  # which an exchange counts instead
    return {
        "rows": rows / outcome.seconds / 1e6,
        "cpu_row": outcome.server_cpu / rows * 1e6,
        "batches": len(outcome.took) / outcome.seconds,
        "p50_ms": percentile(outcome.took, 0.5) * 1e3,
        "client_cores": outcome.client_cpu / outcome.seconds,
    }


def _ask(client: fl.FlightClient) -> None:
    client.get_flight_info(fl.FlightDescriptor.for_path("gcd"), OPTIONS)


def _versions() -> dict[str, str]:
    """Of the host and bare pyarrow, then of the others."""
    ours = report.installed(PYTHON, "pyarrow")
    told = {"Python": ours["Python"], "pyarrow of ours and bare": ours["pyarrow"]}
    for name, python in PYTHONS.items():
        if python.exists():
            theirs = report.installed(str(python), name, "pyarrow")
            told |= {name: f"{theirs[name]} with pyarrow {theirs['pyarrow']}"}
    return told


_HEAD = """\
Medians of the rounds; ratios are medians of the ratios within a round. Server CPU is that of the
process and of all that it started, as the system counts it. Ours runs with a token, metrics and a
line of JSON for each exchange; the others with what they come with, databend-udf without its pool
of threads, with which it is half as fast. Bare pyarrow is a loop around `DoExchange`: whole columns
made into lists, the function called for each row. One client asks, the same for all; it runs on the
same machine."""
_LAYOUT = report.Layout(
    "Functions over DoExchange: the host, bare pyarrow, arrow-udf and databend-udf",
    _HEAD,
    _ALL,
    ((OURS, BARE), (OURS, ARROW_UDF), (OURS, DATABEND_UDF)),
    _versions,
)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these workloads")
    parser.add_argument("--rounds", type=int, default=5, help="of each workload")
    parser.add_argument("--add", action="store_true", help="to what was measured before")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
