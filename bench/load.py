"""Too many callers: 2,000 over ten seconds, then bursts of 2,000 at once, on a host with 4 threads
and a function of 50 ms. Prints a table; status 1 if a bound does not hold.

    .venv/bin/python bench/load.py [--callers 2000] [--rounds 9]

A refusal in a burst is compared with a bare pyarrow server that raises in its handler, in turn,
by the CPU time of the server (from /proc).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.flight as fl

ROOT = Path(__file__).parents[1]
CLIENTS = 4  # processes
COMMAND = b'{"functionName": "short"}'

FUNCTION = """
import threading
import pyarrow as pa
from flexhost import FlexFun

class Short(FlexFun):
    Name = "short"
    Schema = pa.schema([("n", pa.int64())])

    def call(self, parameters, columns, headers):
        threading.Event().wait(0.05)
        return pa.table({"n": [1]})
"""

BARE = """
import pyarrow.flight as fl, threading

class Bare(fl.FlightServerBase):
    def get_flight_info(self, context, descriptor):
        raise fl.FlightUnavailableError("full", b'{"code": 102}')

server = Bare("grpc://127.0.0.1:0")
print(f"serving raising on 127.0.0.1:{server.port}, advertised", flush=True)
threading.Event().wait()
"""


@contextmanager
def server(folder: Path, *arguments: str) -> Iterator[tuple[int, int]]:
    """A server process: its pid and its port."""
    path = os.pathsep.join([str(folder), str(ROOT / "src")])
    log = (folder / "log").open("w+")
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=log,
        stderr=log,
    )
    try:
        while ", advertised" not in (text := (folder / "log").read_text()):
            assert process.poll() is None, text
            time.sleep(0.05)
        yield process.pid, int(text.split(", advertised")[0].rsplit(":", 1)[1])
    finally:
        process.kill()
        process.wait()
        log.close()


def call_all(port: int, callers: int, seconds: float) -> list[tuple[float, float, str]]:
    """(started after, took, outcome) of each caller, each in a thread, all in CLIENTS processes."""
    each = callers // CLIENTS
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--as-client", str(port), str(each), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(CLIENTS)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [tuple(one) for p in processes for one in json.loads(p.communicate()[0])]


def client(port: int, callers: int, seconds: float) -> None:
    """One client process: `callers` threads over 8 connections, started over `seconds`."""
    connections = [fl.connect(f"grpc://127.0.0.1:{port}") for _ in range(8)]
    for connection in connections:
        connection.wait_for_available(10)
    gone = threading.Event()
    outcomes: list[tuple[float, float, str]] = []

    def call(number: int) -> None:
        gone.wait()
        time.sleep(max(0.0, begun + seconds * number / callers - time.monotonic()))
        started = time.monotonic()
        try:
            descriptor = fl.FlightDescriptor.for_command(COMMAND)
            connections[number % 8].get_flight_info(descriptor, fl.FlightCallOptions(timeout=60))
            outcome = "served"
        except fl.FlightUnavailableError:
            outcome = "refused"
        except fl.FlightError as error:
            outcome = type(error).__name__
        outcomes.append((started - begun, time.monotonic() - started, outcome))

    threading.stack_size(256 * 1024)
    threads = [threading.Thread(target=call, args=[number]) for number in range(callers)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.monotonic()
    gone.set()
    for thread in threads:
        thread.join()
    print(json.dumps(outcomes))


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def size(pid: int) -> tuple[int, float]:
    """Threads, and anonymous resident memory in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = int(status.split("RssAnon:")[1].split()[0])
    return len(list(Path(f"/proc/{pid}/task").iterdir())), kib / 1024


def settled(pid: int, threads: int) -> tuple[int, float]:
    """The size once gRPC has let its threads go, after at most 20 s."""
    end = time.monotonic() + 20
    while (now := size(pid))[0] > threads and time.monotonic() < end:
        time.sleep(0.5)
    return now


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] * 1000


def paced(port: int, callers: int) -> list[str]:
    """Prints the table of the paced part; what did not hold."""
    outcomes = call_all(port, callers, 10.0)
    took: dict[str, list[float]] = {"served": [], "refused": []}
    windows: dict[int, list[float]] = {}
    for started, seconds, outcome in outcomes:
        took.setdefault(outcome, []).append(seconds)
        if outcome == "served":
            windows.setdefault(int(started / 2), []).append(seconds)
    print(f"\n{callers} callers over ten seconds\n\n| | calls | p50 ms | p99 ms |")
    print("| --- | --- | --- | --- |")
    for outcome, seconds_of in took.items():
        if seconds_of:
            p50, p99 = percentile(seconds_of, 0.5), percentile(seconds_of, 0.99)
            print(f"| {outcome} | {len(seconds_of)} | {p50:.0f} | {p99:.0f} |")
    for window, seconds_of in sorted(windows.items()):
        p50, p99 = percentile(seconds_of, 0.5), percentile(seconds_of, 0.99)
        name = f"served, started in seconds {2 * window} to {2 * window + 2}"
        print(f"| {name} | {len(seconds_of)} | {p50:.0f} | {p99:.0f} |")
    problems = []
    if percentile(took["refused"], 0.5) >= 50:
        problems.append("the median refusal took 50 ms or more")
    tails = [percentile(seconds_of, 0.99) for seconds_of in windows.values()]
    if max(tails) > 2 * statistics.median(tails):
        problems.append("the p99 of served calls is not flat")
    return problems + [f"{len(v)} x {k}" for k, v in took.items() if k not in ("served", "refused")]


def burst(pid: int, port: int, callers: int) -> dict[str, Any]:
    before = cpu(pid)
    outcomes = call_all(port, callers, 0.0)
    kinds = [outcome for _, _, outcome in outcomes]
    return {
        "cpu": (cpu(pid) - before) / callers * 1e6,
        "served": kinds.count("served"),
        "refused": kinds.count("refused"),
        "p50": percentile([s for _, s, o in outcomes if o == "refused"], 0.5),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--callers", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--as-client", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_client:
        port, callers, seconds = options.as_client
        client(int(port), int(callers), float(seconds))
        return 0
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as other:
        (Path(ours) / "short_functions.py").write_text(FUNCTION)
        (Path(ours) / "load.toml").write_text(
            "[server]\nlisten_port = 0\ntask_threads = 4\ntask_queue_size = 16\n"
            "max_rpcs = 4096\ntask_result_ttl_sec = 2\nmalloc_trim_interval_sec = 1\n"
            "[flexfun]\nfunctions = ['short_functions']\n"
        )
        start = ("-m", "flexhost", "start", "--config", "load.toml")
        with server(Path(ours), *start) as host, server(Path(other), "-c", BARE) as bare:
            problems = measure(host, bare, options.callers, options.rounds)
    print("\n" + ("; ".join(problems) if problems else "every bound holds"))
    return 1 if problems else 0


def measure(host: tuple[int, int], bare: tuple[int, int], callers: int, rounds: int) -> list[str]:
    call_all(host[1], callers, 0.0)  # what stays for good is there now: workers, arenas
    call_all(bare[1], callers, 0.0)
    before = settled(host[0], 0)  # the pollers of gRPC come and go, a few at a time
    problems = paced(host[1], callers)
    print(f"\nBursts of {callers}, {rounds} rounds in turn, medians\n")
    print("| server | served | refused | p50 of a refusal ms | server CPU µs/call | / bare |")
    print("| --- | --- | --- | --- | --- | --- |")
    figures: dict[str, list[dict[str, Any]]] = {"flexhost": [], "bare, raises": []}
    for _ in range(rounds):
        figures["flexhost"].append(burst(*host, callers))
        figures["bare, raises"].append(burst(*bare, callers))
    pairs = list(zip(*figures.values(), strict=True))
    ratio = statistics.median(one["cpu"] / other["cpu"] for one, other in pairs)
    for name, of in figures.items():
        row = [statistics.median(f[key] for f in of) for key in ("served", "refused", "p50", "cpu")]
        shown = " | ".join(f"{value:.0f}" for value in row)
        print(f"| {name} | {shown} | {ratio if name == 'flexhost' else 1:.2f} |")
    if ratio > 1.5:
        problems.append("a refusal costs more than 1.5 times a bare one")
    hung = [f for f in figures["flexhost"] if f["served"] + f["refused"] != callers]
    if hung:
        problems.append("some callers got neither a result nor a refusal")
    after = settled(host[0], before[0])
    print("\n| | threads | memory MiB |\n| --- | --- | --- |")
    for name, (threads, memory) in (("before", before), ("after", after)):
        print(f"| {name} | {threads} | {memory:.0f} |")
    if after[0] > before[0] + 4 or after[1] > before[1] * 1.25 + 20:
        problems.append("threads or memory did not return to the start")
    return problems


if __name__ == "__main__":
    sys.exit(main())
