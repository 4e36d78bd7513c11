"""The host against bare pyarrow and against the reference: `make bench`.

    .venv/bin/python bench/comparison.py [--only NAME ...] [--rounds N] [--full] [--tls yes|no|both]

The servers are processes of their own, apart from the clients. All three run at once, and are asked
in turns, the other way about in every second round. Writes Markdown, JSON and pictures to
bench/results.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow.flight as fl

import pictures
import report
from clients import Clients, clients
from measuring import memory
from servers import (
    BARE,
    OPTIONS,
    OURS,
    REFERENCE,
    ROOT,
    THEIRS,
    Server,
    Setup,
    first_call,
    make_certificates,
    running,
)
from workloads import Workload, figures, wanted

_PROCESSES = 4  # of clients, at most
_SMALL = b'{"functionName": "small", "parameters": {}}'


def main() -> None:
    options = _options()
    names = [BARE, THEIRS, OURS] if REFERENCE.exists() else [BARE, OURS]
    if THEIRS not in names:
        print("the reference is not here (`make reference`): it is left out", file=sys.stderr)
    tls = {"no": [False], "yes": [True], "both": [False, True]}[options.tls]
    rounds = options.rounds or (9 if options.full else 3)
    found: report.Found = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, clients(_PROCESSES) as asking:
        make_certificates(Path(folder))
        chosen = wanted(options.only, tls)
        for setup, workloads in itertools.groupby(chosen, lambda one: one.setup):
            measured = _Measured(setup, names, Path(folder), asking, options.size)
            measured.run(list(workloads), rounds, at_most=bool(options.rounds))
            found.update(measured.found)
    told = report.Report(found, chosen, time.monotonic() - began)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "comparison.md").write_text(told.markdown())
    (options.out / "comparison.json").write_text(json.dumps(told.values(), indent=1) + "\n")
    for name, drawn in pictures.all_of(told).items():
        (options.out / f"{name}.svg").write_text(drawn)
    print(told.summary())
    print(f"written to {options.out}")


class _Measured:
    """The workloads that are asked of servers with one setup."""

    def __init__(
        self, setup: Setup, names: list[str], folder: Path, asking: Clients, size: float
    ) -> None:
        self._setup = setup
        self._names = names
        self._folder = folder
        self._asking = asking
        self._size = size
        self.found: report.Found = {}

    def run(self, workloads: list[Workload], rounds: int, *, at_most: bool) -> None:
        starts = [one for one in workloads if one.job is None]
        asked = [one for one in workloads if one.job is not None]

        def times(workload: Workload) -> range:
            return range(rounds if at_most else max(rounds, workload.rounds))

        for workload in starts:
            for number in times(workload):
                for name in self._order(number):
                    self._keep(workload, name, self._start(name))
        if not asked:
            return
        with self._servers() as servers:
            for workload in asked:
                for name in self._names:  # once unmeasured: tables and threads are made
                    self._ask(workload, servers[name], self._size / 4)
                for number in times(workload):
                    for name in self._order(number):
                        self._keep(workload, name, self._ask(workload, servers[name], self._size))

    def _order(self, number: int) -> list[str]:
        return self._names if number % 2 == 0 else self._names[::-1]

    def _keep(self, workload: Workload, name: str, figures_: dict[str, float]) -> None:
        self.found.setdefault(workload.name, {}).setdefault(name, []).append(figures_)
        shown = ", ".join(f"{m.title} {figures_[m.key]:.{m.digits}f}" for m in workload.measures)
        print(f"{workload.name:16} {name:10} {shown}", file=sys.stderr)

    def _ask(self, workload: Workload, server: Server, size: float) -> dict[str, float]:
        job = workload.job_for(server.name, size)
        assert job is not None
        return figures(self._asking.run(server, job))

    def _start(self, name: str) -> dict[str, float]:
        with running(name, self._setup, self._folder) as server:
            seconds = first_call(server, _SMALL, self._folder / name / "log")
            return {"first_ms": seconds * 1e3, "idle_mib": memory(server.pid)}

    @contextmanager
    def _servers(self) -> Iterator[dict[str, Server]]:
        with ExitStack() as stack:
            servers = {}
            for name in self._names:
                server = stack.enter_context(running(name, self._setup, self._folder))
                first_call(server, _SMALL, self._folder / name / "log")
                servers[name] = server
            self._fill(servers[OURS])
            yield servers

    def _fill(self, ours: Server) -> None:
        """Let calls take all threads and all places of the queue, and one more be refused."""
        full = threading.Event()
        for _ in range(self._setup.blocked):
            threading.Thread(target=_block, args=[ours, full], daemon=True).start()
        if self._setup.blocked and not full.wait(20):
            raise SystemExit("the queue of the host would not fill")


def _block(server: Server, refused: threading.Event) -> None:
    command = json.dumps({"functionName": "waiting", "parameters": {"seconds": 3600}})
    with server.connect() as client:
        try:
            client.get_flight_info(fl.FlightDescriptor.for_command(command), OPTIONS)
        except fl.FlightError:  # or the server has ended
            refused.set()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these workloads")
    parser.add_argument("--rounds", type=int, default=0, help="of each workload")
    parser.add_argument("--full", action="store_true", help="nine rounds")
    parser.add_argument("--tls", choices=("yes", "no", "both"), default="both")
    parser.add_argument("--size", type=float, default=1, help="of a round, 1 being all of it")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
