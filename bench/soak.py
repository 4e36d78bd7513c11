"""Mixed traffic for as long as you like: calls, polls, cancels, failures, callers who leave,
streams read halfway. Ends with a table, and with status 1 if anything is left over.

    .venv/bin/python bench/soak.py [--seconds 60] [--callers 16]
"""

from __future__ import annotations

import argparse
import base64
import collections
import itertools
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow.flight as fl

from hosted import Hosted, hosted

POLLABLE = [(b"x-quiver-pollable", b"1")]

FUNCTIONS = '''
import threading
import pyarrow as pa
from flexhost import FlexFun

class Soaked(FlexFun):
    """Does what its parameter says."""
    Name = "soaked"
    Schema = pa.schema([("n", pa.int64()), ("s", pa.string())])

    def __init__(self):
        self.cancelled = threading.Event()

    def cancel(self):
        self.cancelled.set()
        return True

    def call(self, parameters, columns, headers):
        self.cancelled.wait(parameters["seconds"])
        if parameters["then"] == "fail":
            raise (ValueError, RuntimeError, SystemExit)[parameters["how"]]("as asked")
        rows = parameters["rows"]
        table = pa.table({"n": range(rows), "s": ["x" * 20] * rows}, schema=self.Schema)
        if parameters["then"] == "table":
            return table
        def batches():
            for _ in range(50):
                yield from table.to_batches()
        return pa.RecordBatchReader.from_batches(self.Schema, batches())
'''


SETTINGS = """
task_threads = 8
task_queue_size = 16
max_streams = 32
task_result_ttl_sec = 2
malloc_trim_interval_sec = 1
result_memory_bytes = 1_000_000
[flexfun]
call_deadline_ms = 3000
polling_interval_ms = 50
"""


class Caller(threading.Thread):
    def __init__(
        self, port: int, seed: int, until: float, counts: collections.Counter[str]
    ) -> None:
        super().__init__()
        self.address = f"grpc://127.0.0.1:{port}"
        self.random = random.Random(seed)
        self.until = until
        self.counts = counts

    def run(self) -> None:
        client = fl.connect(self.address)
        while time.monotonic() < self.until:
            kind = self.random.choice(
                ["call", "call", "poll", "cancel", "timeout", "leave", "half"]
            )
            try:
                if kind == "leave":
                    client.close()
                    client = fl.connect(self.address)
                what = getattr(self, kind)(client)
            except (fl.FlightError, OSError) as error:
                what = type(error).__name__
            self.counts[f"{kind}: {what}"] += 1

    def command(self, seconds: float = 0.02) -> fl.FlightDescriptor:
        parameters = {
            "seconds": self.random.random() * seconds,
            "then": self.random.choice(["table", "table", "stream", "fail"]),
            "how": self.random.randrange(3),
            "rows": self.random.choice([0, 6, 5000]),
        }
        command = json.dumps({"functionName": "soaked", "parameters": parameters})
        return fl.FlightDescriptor.for_command(command)

    def call(self, client: fl.FlightClient) -> str:
        info = client.get_flight_info(self.command())
        client.do_get(info.endpoints[0].ticket).read_all()
        return "read"

    def half(self, client: fl.FlightClient) -> str:
        info = client.get_flight_info(self.command())
        reader = client.do_get(info.endpoints[0].ticket)
        rows = sum(chunk.data.num_rows for chunk in itertools.islice(reader, 3))
        reader.cancel()
        return "read halfway" if rows else "empty"

    def timeout(self, client: fl.FlightClient) -> str:
        options = fl.FlightCallOptions(timeout=self.random.random() * 0.05)
        client.get_flight_info(self.command(seconds=0.2), options)
        return "in time"

    def leave(self, client: fl.FlightClient) -> str:
        client.get_flight_info(self.command())
        return "unread"

    def poll(self, client: fl.FlightClient, cancel: bool = False) -> str:
        descriptor = self.command(seconds=0.3)
        while True:
            try:
                info = client.get_flight_info(descriptor, fl.FlightCallOptions(headers=POLLABLE))
            except fl.FlightTimedOutError as error:
                told = json.loads(error.extra_info)
                if told["code"] & 0xFFFF != 101:
                    raise
                retry = json.loads(base64.b64decode(told["body"]))
                key = "cancel_descriptor" if cancel else "retry_descriptor"
                descriptor = fl.FlightDescriptor.deserialize(base64.b64decode(retry[key]))
                continue
            client.do_get(info.endpoints[0].ticket).read_all()
            return "read"

    def cancel(self, client: fl.FlightClient) -> str:
        return self.poll(client, cancel=True)


def left_over(host: Hosted) -> dict[str, float]:
    """Threads, descriptors, memory, and what the host itself counts as open."""
    gauges = host.gauges()
    names = ("calls_waiting", "calls_running", "requests_open", "reads_open", "results")
    more = ("retained_bytes", "spilled_bytes")
    return {
        **{name: gauges[name] for name in (*names, *more)},
        "threads": host.count("task"),
        "descriptors": host.count("fd"),
        "memory MB": round(host.memory(), 1),
    }


def settled(host: Hosted, like: dict[str, float] | None = None) -> dict[str, float]:
    """What is left over once it changes no more, for at most 30 s."""
    end = time.monotonic() + 30
    while True:
        time.sleep(1)
        now = left_over(host)
        idle = not any(now[name] for name in ("requests_open", "calls_running", "results"))
        few = like is None or now["threads"] <= like["threads"]
        if (idle and few) or time.monotonic() > end:
            return now


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--callers", type=int, default=16)
    options = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder, hosted(Path(folder), FUNCTIONS, SETTINGS) as host:
        run(host.port, options.callers, 3, counts)  # all threads and pools exist now
        before = settled(host)
        counts.clear()
        run(host.port, options.callers, options.seconds, counts)
        after = settled(host, before)
    for what, count in sorted(counts.items()):
        print(f"{count:8} {what}")
    print("\n| | before | after |\n| --- | --- | --- |")
    for name in before:
        print(f"| {name} | {before[name]:g} | {after[name]:g} |")
    problems = [name for name in before if name != "memory MB" and after[name] > before[name]]
    if after["memory MB"] > before["memory MB"] * 1.25 + 20:
        problems.append("memory")
    print(f"\nleft over: {', '.join(problems)}" if problems else "\nnothing is left over")
    return 1 if problems else 0


def run(port: int, callers: int, seconds: float, counts: collections.Counter[str]) -> None:
    until = time.monotonic() + seconds
    threads = [Caller(port, seed, until, counts) for seed in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
