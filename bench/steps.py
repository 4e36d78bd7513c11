"""What a small call costs, step by step, and what each setting adds: `make bench-profile`.

    .venv/bin/python bench/steps.py [--rounds N]

First in this process, each step of the host alone, warm, on one thread: what is left out there
is gRPC, the hand-over between threads and a cold cache, which double it. Then hosts with one
ingredient less, asked in turns like in comparison.py: CPU time of the server for a call.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pyarrow.flight as fl

from clients import clients
from flexhost.auth import Authentication
from flexhost.call import Call
from flexhost.contract import fit
from flexhost.frontends import flight_wire as wire
from flexhost.frontends.endpoints import Endpoints
from flexhost.functions.describe import describe
from flexhost.logs import JsonLines, Line
from flexhost.results import Results
from flexhost.security.tokens import EnumeratedTokenVerification, Known, Tokens
from flexhost.system.closers import Closers
from flexhost.telemetry import lines
from flexhost.telemetry.events import CallEnded
from flexhost.telemetry.metrics import Metrics
from measured.small import Small
from servers import BARE, OURS, Setup, first_call, running
from workloads import WORKLOADS, figures

_COMMAND = b'{"functionName": "small", "parameters": {}}'
_QUIET = """
[loggers]
keys = root, calls
[handlers]
keys = stderr
[formatters]
keys = json
[logger_root]
level = INFO
handlers = stderr
[logger_calls]
level = CRITICAL
qualname = flexhost.calls
handlers =
[handler_stderr]
class = StreamHandler
args = (sys.stderr,)
formatter = json
[formatter_json]
class = flexhost.logs.JsonLines
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=float, default=1, help="of a round, 1 being all of it")
    options = parser.parse_args()
    print("| step | CPU µs, alone and warm |\n| --- | --- |")
    for name, step in _steps().items():
        print(f"| {name} | {_microseconds(step, int(5000 * options.size) or 1):.1f} |")
    print("\n| host | server CPU, µs/call | / bare |\n| --- | --- | --- |")
    found = _variants(options.rounds, options.size)
    for name, values in found.items():
        ratio = statistics.median(a / b for a, b in zip(values, found["bare pyarrow"], strict=True))
        print(f"| {name} | {statistics.median(values):.0f} | {ratio:.2f} |")


def _steps() -> dict[str, Callable[[], object]]:
    function, results = describe(Small), Results(60, Closers(1), lambda _: None)
    authentication = Authentication()
    authentication.open(EnumeratedTokenVerification([Known(Tokens.given(["t"]))]), ours=True)
    headers = {"authorization": ["Bearer t"], "user-agent": ["x"]}
    table = Small().call({}, None, {})

    def made() -> Call:
        keep = results.retained.keep
        return Call(function, {}, None, headers, deadline=1e9, emit=lambda _: None, keep=keep)

    def kept() -> None:
        results.retained.keep(table).release()

    def read() -> None:
        reading = results.read(ended.id)
        reading.whole()
        reading.close()

    ended = made()
    ended.run()
    results.add(ended)
    event, metrics = CallEnded(ended, 6, 235), Metrics()
    metrics.expect([function])
    said, form = lines.of(event, time.time()), JsonLines()
    assert said is not None
    line = Line.of(said.logger, said.level, said.text, said.at, said.fields)
    endpoints = Endpoints(fl.Location("grpc://127.0.0.1:1"))
    return {
        "the token of a request (twice)": lambda: authentication.caller(None, headers, _NO_BOUND),
        "decode the command": lambda: wire.decode_command(_COMMAND),
        "make the call": made,
        "the function itself": lambda: Small().call({}, None, {}),
        "check the table against its schema": lambda: fit(table, function.schema, "small"),
        "keep it within the budget, and free it": kept,
        "where and until when it is read": lambda: endpoints.of(ended.id, time.time()),
        "open it for a read, and close it": read,
        "metrics": lambda: metrics(event),
        "what the line of the log says": lambda: lines.of(event, time.time()),
        "its form, in the thread that writes": lambda: form.format(line),
    }


_NO_BOUND: Any = nullcontext()


def _microseconds(step: Callable[[], object], times: int) -> float:
    found = []
    for _ in range(6):
        began = time.thread_time()
        for _ in range(times):
            step()
        found.append((time.thread_time() - began) / times * 1e6)
    return min(found)


def _variants(rounds: int, size: float) -> dict[str, list[float]]:
    """CPU µs of a call in each round."""
    usual = Setup(("small",))
    setups = {
        "bare pyarrow": (BARE, usual),
        "this host, as in production": (OURS, usual),
        "without a line for each call": (OURS, dataclasses.replace(usual, quiet=_QUIET)),
        "without metrics": (OURS, dataclasses.replace(usual, left_out=("metrics",))),
        "without a token": (OURS, dataclasses.replace(usual, left_out=("token",))),
        "grpc_cores = 0": (OURS, dataclasses.replace(usual, settings=("grpc_cores = 0",))),
    }
    workload = next(one for one in WORKLOADS if one.name == "alone")
    found: dict[str, list[float]] = {name: [] for name in setups}
    with ExitStack() as stack:
        asking = stack.enter_context(clients(1))
        servers = {}
        for name, (which, setup) in setups.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            servers[name] = stack.enter_context(running(which, setup, folder))
            first_call(servers[name], _COMMAND, folder / which / "log")
        for number in range(-1, rounds):  # the first is not counted
            for name in list(servers)[:: 1 if number % 2 else -1]:
                job = workload.job_for(servers[name].name, size)
                assert job is not None
                value = figures(asking.run(servers[name], job))["cpu_us"]
                if number >= 0:
                    found[name].append(value)
                    print(f"{name:30} {value:.0f}", file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
