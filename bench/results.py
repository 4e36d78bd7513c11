"""What results cost: large ones past the budget, many small ones, equal calls at once. Prints a
table; status 1 if a bound does not hold.

    .venv/bin/python bench/results.py [--budget 256] [--large 500] [--small 10000]

Memory is the server's anonymous and shared resident memory, from /proc.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as fl

from hosted import Hosted, hosted

FUNCTIONS = """
import itertools
import threading
import pyarrow as pa
import pyarrow.compute as pc
from flexhost import CachePolicy, FlexFun

SCHEMA = pa.schema([("n", pa.int64())])
BASE = pa.array(range(1_250_000), pa.int64())

class Large(FlexFun):
    Name = "large"
    Schema = SCHEMA

    def call(self, parameters, columns, headers):
        return pa.table({"n": pc.add(BASE, parameters["first"])})

class Small(FlexFun):
    Name = "small"
    Schema = SCHEMA

    def call(self, parameters, columns, headers):
        return pa.table({"n": range(6)}, schema=SCHEMA)

class Equal(FlexFun):
    Name = "equal"
    Schema = SCHEMA
    Cache = CachePolicy(ttl_sec=60)
    runs = itertools.count(1)

    def call(self, parameters, columns, headers):
        threading.Event().wait(0.2)
        return pa.table({"n": [next(self.runs)]})
"""
BASE = pa.array(range(1_250_000), pa.int64())
CALLERS = 4


class Peak(threading.Thread):
    """The most memory that a host had until `stop`."""

    def __init__(self, host: Hosted) -> None:
        super().__init__(daemon=True)
        self.host = host
        self.most = 0.0
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(0.01):
            self.most = max(self.most, self.host.memory())

    def stop(self) -> float:
        self.over.set()
        self.join()
        return self.most


def ask(client: fl.FlightClient, name: str, **parameters: int) -> fl.Ticket:
    command = json.dumps({"functionName": name, "parameters": parameters})
    descriptor = fl.FlightDescriptor.for_command(command)
    return client.get_flight_info(descriptor).endpoints[0].ticket


def check(client: fl.FlightClient, ticket: fl.Ticket, first: int) -> None:
    read = client.do_get(ticket).read_all()
    if not read.equals(pa.table({"n": pc.add(BASE, first)})):
        raise SystemExit(f"result {first} is wrong")


def large(number: int, budget: int) -> list[str]:
    """Each read once, half of them again; then all expire."""
    ttl = 30 + number // 20
    with tempfile.TemporaryDirectory() as folder:
        settings = (
            f"result_memory_bytes = {budget * 1_000_000}\ntask_result_ttl_sec = {ttl}\n"
            f"result_spool_dir = '{folder}/spool'\ntask_threads = {CALLERS}\n"
        )
        with hosted(Path(folder), FUNCTIONS, settings) as host:
            client = fl.connect(f"grpc://127.0.0.1:{host.port}")
            check(client, ask(client, "large", first=0), 0)
            before, peak = host.memory(), Peak(host)

            def call(first: int) -> fl.Ticket:
                ticket = ask(client, "large", first=first)
                check(client, ticket, first)
                return ticket

            begun = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
                tickets = list(pool.map(call, range(number)))
                took = time.monotonic() - begun
                kept = host.gauges()
                again = range(0, number, 2)
                list(pool.map(lambda n: check(client, tickets[n], n), again))
            most = peak.stop()
            while host.gauges()["results"]:
                time.sleep(0.5)
            time.sleep(10)
            after = host.memory()
    print(f"\n## {number} results of 10 MB, budget {budget} MB\n")
    print("| | |\n| --- | --- |")
    print(f"| read once | {took:.1f} s |")
    print(f"| kept in memory | {kept['retained_bytes'] / 1e6:.0f} MB |")
    print(f"| in the spool | {kept['spilled_bytes'] / 1e6:.0f} MB |")
    print(f"| memory before | {before:.0f} MB |")
    print(f"| peak, of at most {budget + 250} | {most:.0f} MB |")
    print(f"| ten seconds after expiry, of at most {before + 100:.0f} | {after:.0f} MB |")
    problems = []
    if most > budget + 250:
        problems.append(f"peak {most:.0f} MB")
    if after > before + 100:
        problems.append(f"{after:.0f} MB left")
    return problems


def small(number: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder, hosted(Path(folder), FUNCTIONS) as host:
        client = fl.connect(f"grpc://127.0.0.1:{host.port}")
        for _ in range(100):
            ask(client, "small")
        before, kept_before = host.memory(), host.gauges()["retained_bytes"]
        for _ in range(number):
            ask(client, "small")
        grown = (host.memory() - before) * 1e6
        kept = host.gauges()["retained_bytes"] - kept_before
    print(f"\n## {number} results of 6 rows\n")
    print("| | bytes each |\n| --- | --- |")
    print(f"| memory, calls included | {grown / number:.0f} |")
    print(f"| charged for their tables | {kept / number:.0f} |")
    return [] if grown / number < 10_000 else [f"{grown / number:.0f} bytes for six rows"]


def equal(callers: int, rounds: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder, hosted(Path(folder), FUNCTIONS) as host:
        clients = [fl.connect(f"grpc://127.0.0.1:{host.port}") for _ in range(callers)]
        runs = []
        begun = time.monotonic()
        for which in range(rounds):
            with concurrent.futures.ThreadPoolExecutor(callers) as pool:
                tickets = list(pool.map(lambda c: ask(c, "equal", which=which), clients))  # noqa: B023
            runs += [clients[0].do_get(ticket).read_all()["n"][0].as_py() for ticket in tickets]
        took = time.monotonic() - begun
        while sum(told := outcomes(host)) < len(runs):  # written when there is time
            time.sleep(0.1)
    print(f"\n## {rounds} times {callers} equal calls of 0.2 s\n")
    print("| calls | runs | miss, shared, hit | seconds |\n| --- | --- | --- | --- |")
    print(f"| {len(runs)} | {max(runs)} | {told} | {took:.1f} |")
    return [] if max(runs) == rounds else [f"{max(runs)} runs of {rounds}"]


def outcomes(host: Hosted) -> list[float]:
    """Calls that missed, shared and hit."""
    gauges = host.gauges()
    name = 'cache_requests_total{{function="equal",result="{}"}}'
    return [gauges.get(name.format(result), 0) for result in ("miss", "shared", "hit")]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--budget", type=int, default=256, help="MB")
    parser.add_argument("--large", type=int, default=500)
    parser.add_argument("--small", type=int, default=10_000)
    options = parser.parse_args()
    problems = small(options.small) + equal(50, 20) + large(options.large, options.budget)
    print(f"\nnot held: {', '.join(problems)}" if problems else "\nevery bound holds")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
