"""What the host costs on top of pyarrow: small calls against a bare Flight server.

Both run in a process of their own and answer the same 6 x 6 table. Rounds are interleaved; the
figure to trust is the server's CPU time for a call (from /proc), as a ratio within each round.

    .venv/bin/python bench/small_calls.py [--calls N] [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.flight as fl

ROOT = Path(__file__).parents[1]
COMMAND = fl.FlightDescriptor.for_command(
    json.dumps({"functionName": "SampleFlexFunction", "parameters": {}})
)

BARE = """
import pyarrow.flight as fl, sys, threading
from flexfun.sample_function import SampleFlexFunction as F

class Bare(fl.FlightServerBase):
    tables = {}

    def get_flight_info(self, context, descriptor):
        table = F().call({"executionContext": None}, None, {})
        ticket = str(id(table)).encode()
        self.tables[ticket] = table
        endpoint = fl.FlightEndpoint(fl.Ticket(ticket), [])
        return fl.FlightInfo(table.schema, descriptor, [endpoint], table.num_rows, table.nbytes)

    def do_get(self, context, ticket):
        return fl.RecordBatchStream(self.tables.pop(ticket.ticket))

import logging, structlog
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
server = Bare("grpc://127.0.0.1:0")
print(server.port, flush=True)
threading.Event().wait()
"""

HOST = """
from flexhost import cli
cli.main(["start", "--config", "config/flexfun.config.toml"])
"""


@contextmanager
def server(code: str) -> Iterator[tuple[int, int]]:
    """A server process: its pid and its port."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "GOODDATA_FLIGHT_SERVER__LISTEN_PORT": "0",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    port = first if code is BARE else first.split(", advertised")[0].rsplit(":", 1)[1]
    drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
    try:
        yield process.pid, int(port)
    finally:
        process.kill()
        process.wait()
        drain.wait()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(pid: int, port: int, calls: int) -> tuple[float, float]:
    """Server CPU and wall clock for a call, in microseconds."""
    with fl.connect(f"grpc://127.0.0.1:{port}") as client:

        def call() -> None:
            client.do_get(client.get_flight_info(COMMAND).endpoints[0].ticket).read_all()

        for _ in range(50):
            call()
        cpu, wall = cpu_seconds(pid), time.perf_counter()
        for _ in range(calls):
            call()
        wall, cpu = time.perf_counter() - wall, cpu_seconds(pid) - cpu
    return cpu / calls * 1e6, wall / calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=2000, help="in each round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    figures: dict[str, list[tuple[float, float]]] = {"bare": [], "flexhost": []}
    with server(BARE) as bare, server(HOST) as host:
        for _ in range(options.rounds):
            figures["bare"].append(measure(*bare, options.calls))
            figures["flexhost"].append(measure(*host, options.calls))
    print(f"{options.rounds} rounds of {options.calls} calls, one after the other; medians")
    print("| server | CPU µs/call | CPU / bare | wall µs/call | wall / bare |")
    print("| --- | --- | --- | --- | --- |")
    for name, rounds in figures.items():
        pairs = zip(rounds, figures["bare"], strict=True)
        ratios = [
            (cpu / bare_cpu, wall / bare_wall) for (cpu, wall), (bare_cpu, bare_wall) in pairs
        ]
        cpu, wall = (statistics.median(column) for column in zip(*rounds, strict=True))
        cpu_ratio, wall_ratio = (statistics.median(column) for column in zip(*ratios, strict=True))
        print(f"| {name} | {cpu:.0f} | {cpu_ratio:.2f} | {wall:.0f} | {wall_ratio:.2f} |")


if __name__ == "__main__":
    main()
