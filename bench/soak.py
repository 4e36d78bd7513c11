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
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pyarrow.flight as fl

ROOT = Path(__file__).parents[1]
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


def host(folder: Path) -> tuple[subprocess.Popen[str], int, int]:
    """The host, its Flight port and its metrics port."""
    (folder / "soaked_functions.py").write_text(FUNCTIONS)
    (folder / "soak.toml").write_text(
        "[server]\nlisten_port = 0\ntask_threads = 8\ntask_queue_size = 16\nmax_streams = 32\n"
        "task_result_ttl_sec = 2\nmalloc_trim_interval_sec = 1\nmetrics_host = '127.0.0.1'\n"
        "metrics_port = 0\n[flexfun]\nfunctions = ['soaked_functions']\n"
        "call_deadline_ms = 3000\npolling_interval_ms = 50\n"
    )
    (folder / "logging.ini").write_text(
        "[loggers]\nkeys=root,calls\n[handlers]\nkeys=err\n[formatters]\nkeys=json\n"
        "[logger_root]\nlevel=INFO\nhandlers=err\n"
        "[logger_calls]\nlevel=CRITICAL\nqualname=flexhost.calls\nhandlers=\n"
        "[handler_err]\nclass=StreamHandler\nargs=(sys.stderr,)\nformatter=json\n"
        "[formatter_json]\nclass=flexhost.logs.JsonLines\n"
    )
    path = os.pathsep.join([str(folder), str(ROOT / "src")])
    options = ["--config", "soak.toml", "--logging-config", "logging.ini"]
    process = subprocess.Popen(
        [sys.executable, "-m", "flexhost", "start", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    ports = []
    while len(ports) < 2:
        line = json.loads(process.stderr.readline())["event"]
        head = line.split(": /metrics")[0].split(", advertised")[0]
        ports.append(int(head.rsplit(":", 1)[1]))
    threading.Thread(target=pass_on, args=[process.stderr], daemon=True).start()
    return process, ports[1], ports[0]


def pass_on(lines: object) -> None:
    for line in lines:  # type: ignore[attr-defined]
        print(line, end="", file=sys.stderr)


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


def left_over(pid: int, metrics: int) -> dict[str, float]:
    """Threads, descriptors, memory, and what the host itself counts as open."""
    page = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics").read().decode()
    gauges = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[:1] != "#")
    status = Path(f"/proc/{pid}/status").read_text().split("\n")
    kib = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
    names = ("calls_waiting", "calls_running", "requests_open", "reads_open", "results")
    return {
        **{name: float(gauges[f"flexhost_{name}"]) for name in names},
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "memory MiB": round(kib / 1024, 1),
    }


def settled(pid: int, metrics: int, like: dict[str, float] | None = None) -> dict[str, float]:
    """What is left over once it changes no more, for at most 30 s."""
    end = time.monotonic() + 30
    while True:
        time.sleep(1)
        now = left_over(pid, metrics)
        idle = not any(now[name] for name in ("requests_open", "calls_running", "results"))
        few = like is None or now["threads"] <= like["threads"]
        if (idle and few) or time.monotonic() > end:
            return now


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--callers", type=int, default=16)
    options = parser.parse_args()
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        process, port, metrics = host(Path(folder))
        try:
            counts: collections.Counter[str] = collections.Counter()
            run(port, options.callers, 3, counts)  # all threads and pools exist now
            before = settled(process.pid, metrics)
            counts.clear()
            run(port, options.callers, options.seconds, counts)
            after = settled(process.pid, metrics, before)
        finally:
            process.terminate()
            status = process.wait(60)
    for what, count in sorted(counts.items()):
        print(f"{count:8} {what}")
    print("\n| | before | after |\n| --- | --- | --- |")
    for name in before:
        print(f"| {name} | {before[name]:g} | {after[name]:g} |")
    problems = [name for name in before if name != "memory MiB" and after[name] > before[name]]
    if after["memory MiB"] > before["memory MiB"] * 1.25 + 20:
        problems.append("memory")
    if status != 0:
        problems.append(f"exit status {status}")
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
