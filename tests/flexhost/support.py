"""Real hosts for the tests: one in this process on port 0, or one in a process of its own."""

from __future__ import annotations

import functools
import json
import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

from flexhost import FlexFun
from flexhost.auth import Authentication, Verifier
from flexhost.calls.shares import share_by
from flexhost.executors.coroutines import Coroutines
from flexhost.executors.routed import Routed
from flexhost.executors.threads import Threads
from flexhost.frontends.flight import FlightFrontend
from flexhost.frontends.flight_streams import Slots
from flexhost.frontends.listener import Listener
from flexhost.function import COROUTINES, THREADS, Function
from flexhost.functions.describe import describe
from flexhost.host import Host
from flexhost.registry import Registry
from flexhost.results import Results
from flexhost.security.certificates import TlsSettings
from flexhost.storage.footprint import Ledger, footprint
from flexhost.storage.retained import Retained
from flexhost.system.closers import Closers
from flexhost.telemetry.events import Event
from flexhost.telemetry.health import Health

ROOT = Path(__file__).parents[2]
LONG = 20.0  # seconds that nothing here takes: a test that waits so long has failed
SCHEMA = pa.schema([("n", pa.int64())])
KEEP = Retained().keep  # for calls without Results: keeps whatever comes


def function(
    call: Callable[..., Any], name: str = "numbers", schema: pa.Schema = SCHEMA
) -> type[FlexFun]:
    """A function class around `call(parameters, columns, headers)`."""

    class Made(FlexFun):
        Name = name
        Schema = schema

        def call(self, parameters: Any, columns: Any, headers: Any) -> Any:
            return call(parameters, columns, headers)

    return Made


def command(name: str = "numbers", **parameters: Any) -> bytes:
    return json.dumps({"functionName": name, "parameters": parameters}).encode()


def until(condition: Callable[[], Any]) -> None:
    """Wait for something that no event tells of, as long as it takes but not for ever."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        threading.Event().wait(0.005)


def total(table: pa.Table) -> int:
    """Bytes that a table takes which shares nothing."""
    return Ledger().cost(footprint(table))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


class Client:
    """A pyarrow client that speaks the commands of a FLIGHTRPC data source."""

    def __init__(self, port: int, token: str = "", **tls: Any) -> None:
        """tls: options of `fl.connect`, for a host that serves TLS."""
        self.port = port
        self.flight = fl.connect(f"grpc{'+tls' if tls else ''}://127.0.0.1:{port}", **tls)
        self.headers = [("authorization", f"Bearer {token}")] if token else []

    def options(self, headers: dict[str, str] | None = None) -> fl.FlightCallOptions:
        given = [*self.headers, *(headers or {}).items()]
        raw = [(name.encode(), value.encode()) for name, value in given]
        return fl.FlightCallOptions(timeout=LONG, headers=raw)

    def info(self, data: bytes, headers: dict[str, str] | None = None) -> fl.FlightInfo:
        descriptor = fl.FlightDescriptor.for_command(data)
        return self.flight.get_flight_info(descriptor, self.options(headers))

    def ticket(self, name: str = "numbers", **parameters: Any) -> fl.Ticket:
        return self.info(command(name, **parameters)).endpoints[0].ticket

    def read(self, ticket: fl.Ticket) -> pa.Table:
        return self.flight.do_get(ticket, self.options()).read_all()

    def call(self, name: str = "numbers", **parameters: Any) -> pa.Table:
        return self.read(self.ticket(name, **parameters))


class Served(Client):
    """A client of a host in this process, with the host's parts and what it told."""

    def __init__(
        self,
        frontend: FlightFrontend | Listener,
        host: Host,
        executor: Any,
        results: Results,
        events: Any,
        health: Health,
        **tls: Any,
    ) -> None:
        super().__init__(frontend.port, **tls)
        self.frontend: Any = frontend
        self.health = health
        self.host = host
        self.executor = executor
        self.results = results
        self.events: queue.SimpleQueue[Event] = events

    def showing(self, token: str) -> Client:
        """Another client, that has this token."""
        return Client(self.port, token)

    def event(self, kind: type[Any]) -> Any:
        """The next event of this kind."""
        while not isinstance(event := self.events.get(timeout=LONG), kind):
            pass
        return event


@contextmanager
def serving(
    *functions: type[Any] | Function,
    threads: int = 4,
    tasks: int = 100,
    new_loop: Callable[[], Any] | None = None,
    waiting: int = 16,
    deadline: float = 60.0,
    ttl: float = 60.0,
    reads: int = 256,
    max_abandoned: int = 16,
    fair: str = "",
    stall: float = 0.0,
    retained: Retained | None = None,
    after_read: float | None = None,
    trim_every: float = 0.0,
    verifier: Verifier | None = None,
    header: str = "",
    rpcs: int = 1024,
    exchanges: int = 256,
    tls: TlsSettings | None = None,
    connect: dict[str, Any] | None = None,
    interval: float = 0.0,
    **options: Any,
) -> Iterator[Served]:
    """A host in this process.

    tasks:    calls of async functions at once; with 0 they run in threads.
    tls:      serve TLS with these certificates; a change is served after `interval` seconds.
    connect:  how the client connects then.
    """
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    closers = Closers(2)
    results = Results(
        ttl, closers, events.put, retained=retained, reads=reads, after_read=after_read
    )
    registry = Registry([one if isinstance(one, Function) else describe(one) for one in functions])
    executor: Any = Threads(threads, waiting, events.put, max_abandoned=max_abandoned)
    if tasks and any(one.executor == COROUTINES for one in registry):
        coroutines = Coroutines(
            tasks,
            waiting,
            events.put,
            max_abandoned=max_abandoned,
            room=results.retained.has_room,
            new_loop=new_loop,
        )
        executor = Routed({THREADS: executor, COROUTINES: coroutines})
        executor.used = {one.executor for one in registry}
    host = Host(
        executor,
        results,
        closers,
        deadline=deadline,
        emit=events.put,
        exchanges=exchanges,
        share_of=share_by(fair) if fair else None,
        stall=stall,
        trim_every=trim_every,
    )
    if verifier is not None:
        options["authentication"] = Authentication(header)
        ours = type(verifier).__module__.startswith("flexhost.")
        options["authentication"].open(verifier, ours=ours)
    limit = getattr(sys, "tracebacklimit", None)
    make = functools.partial(
        FlightFrontend,
        host,
        rpcs=Slots(rpcs),
        cut_off=stall > 0,
        **{"advertise": ("127.0.0.1", 0), **options},
    )
    listen, health = ("127.0.0.1", 0), Health()
    frontend: FlightFrontend | Listener
    if tls is None:
        frontend = make(listen)
    else:
        frontend = Listener(make, listen, tls, health, interval=interval)
    try:
        if functions:
            host.open(registry)
        yield Served(frontend, host, executor, results, events, health, **(connect or {}))
    finally:
        host.drain(0)
        ended = frontend.stop(LONG)
        host.close()
        if limit is None:
            del sys.tracebacklimit
    assert ended, "requests were left over"


def flight_code(error: BaseException) -> tuple[int, str]:
    """The number in an error's extra_info, without retry flags, and its message."""
    info = json.loads(error.extra_info)  # type: ignore[attr-defined]
    assert set(info) == {"msg", "detail", "code", "body"}
    return info["code"] & 0xFFFF, info["msg"]


def environment(folder: Path) -> dict[str, str]:
    """Of a process that finds the modules in this folder, and has no settings."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("GOODDATA_FLIGHT")}
    return {**environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "src")])}


class Process:
    """`python -m flexhost start` in a process of its own, its log lines read as they come."""

    def __init__(
        self,
        files: list[Path],
        options: list[str],
        variables: dict[str, str],
        *,
        config: bool = True,
        command: str = "start",
        python: str = sys.executable,
        program: str = "flexhost",
    ) -> None:
        given = ["--config", *map(str, files)] if config else []
        self.process = subprocess.Popen(
            [python, "-m", program, *([command] if command else []), *given, *options],
            env={**environment(files[0].parent), **variables},
            cwd=files[0].parent,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._new: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            for line in stderr:
                self._new.put(line.rstrip("\n"))
        self._new.put(None)

    def line(self, pattern: str) -> re.Match[str]:
        """The next line of the log that has the pattern in it."""
        while (line := self._new.get(timeout=LONG)) is not None:
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no line with {pattern!r} in\n" + "\n".join(self.lines))

    def port(self) -> int:
        return int(self.line(r"serving .* on [^ ]+:(\d+), advertised")[1])

    def ended(self) -> tuple[int, str]:
        """Exit status and everything it wrote."""
        status = self.process.wait(LONG)
        self._reader.join(LONG)
        while (line := self._new.get(timeout=LONG)) is not None:
            self.lines.append(line)
        return status, "\n".join(self.lines)


@contextmanager
def process(
    folder: Path,
    module: str = "",
    settings: str = "",
    *options: str,
    listen: str = "listen_port = 0",
    command: str = "start",
    python: str = sys.executable,
    udfs: str = "",
    **variables: str,
) -> Iterator[Process]:
    """A host of the functions in `module`, a Python source, with further TOML `settings`.

    udfs: a source too, of plain functions.
    """
    (folder / "my_functions.py").write_text(module)
    functions = '["my_functions"]' if module else "[]"
    plain = '[udf]\nfunctions = ["my_udfs"]\n' if udfs else ""
    (folder / "my_udfs.py").write_text(udfs)
    config = folder / "host.toml"
    config.write_text(
        f"[flexfun]\nfunctions = {functions}\n{plain}[server]\n{listen}\n{settings}\n"
    )
    started = Process([config], list(options), variables, command=command, python=python)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.process.wait()


NUMBERS = """
import pyarrow as pa
from flexhost import FlexFun

class Numbers(FlexFun):
    Name = "numbers"
    Schema = pa.schema([("n", pa.int64())])

    def call(self, parameters, columns, headers):
        return pa.table({"n": list(range(parameters.get("upto", 3)))}, schema=self.Schema)
"""
