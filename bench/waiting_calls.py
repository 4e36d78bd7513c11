"""What an async call costs that waits: on threads, each with a loop of its own, and in one loop.

In this process, without Flight: calls that await 50 ms each are submitted at once, and waited for.
CPU is that of the whole process, for each call; the median of rounds that take turns. Memory is
what Python and Arrow take while all of them wait.

    .venv/bin/python bench/waiting_calls.py [--calls N] [--rounds N] [--threads N]
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from flexhost import FlexFun
from flexhost.executors.coroutines import Coroutines
from flexhost.executors.threads import Threads
from flexhost.functions.describe import describe
from flexhost.host import Host
from flexhost.registry import Registry
from flexhost.results import Results
from flexhost.system.closers import Closers

WAIT = 0.05
TABLE = pa.table({"n": [1, 2, 3]})


class Waits(FlexFun):
    Name = "waits"
    Schema = TABLE.schema

    async def call(self, parameters: Any, columns: Any, headers: Any) -> Any:
        await asyncio.sleep(WAIT)
        return TABLE


def executor(kind: str, calls: int, threads: int) -> Any:
    if kind == "threads":
        return Threads(threads, calls, print)
    return Coroutines(calls, 0, print, new_loop=_loop(kind))


def _loop(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


def measure(kind: str, calls: int, threads: int) -> tuple[float, float, float]:
    """Microseconds of CPU for a call, seconds for all, KiB of memory for a call."""
    closers = Closers(1)
    run_by = executor(kind, calls, threads)
    results = Results(60.0, closers, lambda event: None)
    host = Host(run_by, results, closers, deadline=600.0, emit=lambda event: None)
    host.open(Registry([describe(Waits)]))
    for call in [host.submit("waits", {}, None, {}) for _ in range(threads)]:
        call.ended.wait()  # warm
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, began = time.process_time(), time.perf_counter()
    submitted = [host.submit("waits", {}, None, {}) for _ in range(calls)]
    for call in submitted:
        call.ended.wait()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    host.drain(0)
    host.close()
    return cpu / calls * 1e6, took, grown / calls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--one", help="measure this kind once, in this process")
    given = parser.parse_args()
    if given.one:
        print(*measure(given.one, given.calls, given.threads))
        return 0
    kinds = ("threads", "asyncio", "uvloop")
    rounds: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for _ in range(given.rounds):
        for kind in kinds:
            of = ["--one", kind, "--calls", str(given.calls), "--threads", str(given.threads)]
            made = subprocess.run(
                [sys.executable, __file__, *of], check=True, capture_output=True, text=True
            )
            rounds[kind].append([float(figure) for figure in made.stdout.split()])
    print(f"{given.calls} calls that await {WAIT * 1000:g} ms, {given.threads} threads")
    for kind in kinds:
        cpu, took, grown = (
            statistics.median(figures) for figures in zip(*rounds[kind], strict=True)
        )
        print(
            f"{kind:8}  CPU {cpu:6.0f} µs a call   all in {took:6.3f} s   {grown:5.1f} KiB a call"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
