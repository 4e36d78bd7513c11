"""Metrics that are read when somebody asks for them: what is now, and the bounds of it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pyarrow as pa
from prometheus_client import CollectorRegistry, Gauge

from flexhost.executor import Executor
from flexhost.executors.routed import Routed
from flexhost.frontends.flight import FlightFrontend
from flexhost.function import COROUTINES, PROCESSES, THREADS
from flexhost.host import Host
from flexhost.results import Results
from flexhost.settings import Server
from flexhost.system import capacity
from flexhost.telemetry.health import Health
from flexhost.version import VERSION
from flexhost.workers.worker_pool import WorkerPool

if TYPE_CHECKING:
    from flexhost.frontends.listener import Listener

# Name without the prefix, what it is, and how it is read.
_Now = tuple[str, str, Callable[[], float]]


def register(
    registry: CollectorRegistry,
    wanted: Server,
    host: Host,
    health: Health,
    executor: Routed,
    results: Results,
    frontend: FlightFrontend | Listener,
    pool: WorkerPool,
) -> None:
    """Each is exported once, for the life of the registry."""
    build = Gauge(
        "flexhost_build_info",
        "Always 1: what the host is made of",
        ("version", "python", "pyarrow"),
        registry=registry,
    )
    build.labels(VERSION, platform.python_version(), pa.__version__).set(1)
    if not isinstance(frontend, FlightFrontend):
        # without our prefix: the name under which dashboards look for it
        name, text = "tls_certificate_expiry_timestamp_seconds", "When the certificate expires"
        Gauge(name, text, registry=registry).set_function(lambda: frontend.expires_at)
    for name, text, value in (
        ("live", "What /live answers: 1 when the host is well", lambda: health.live),
        ("ready", "What /ready answers: 1 while calls are accepted", lambda: host.ready),
        ("requests_open", "Requests under way now", lambda: frontend.under_way),
        ("exchanges_open", "Exchanges that are open now", lambda: host.exchanges.taken),
        *_calls(executor),
        ("processes", "Worker processes there are now", lambda: pool.alive),
        *_data(results),
        *_call_bounds(wanted, executor),
        *_bounds(wanted, results),
    ):
        Gauge(f"flexhost_{name}", text, registry=registry).set_function(value)


def _calls(executor: Executor) -> Iterable[_Now]:
    return (
        ("calls_waiting", "Calls that wait now", lambda: executor.waiting),
        (
            "calls_waiting_oldest_seconds",
            "How long the call has waited that has waited longest; 0 when none waits",
            lambda: _age(executor.oldest),
        ),
        ("calls_running", "Calls that run now", lambda: executor.running),
        (
            "threads_abandoned",
            "Threads and coroutines that calls do not let go of: see max_abandoned",
            lambda: executor.abandoned,
        ),
    )


def _data(results: Results) -> Iterable[_Now]:
    retained = results.retained
    return (
        ("results", "Calls that are kept, running or ended", lambda: len(results)),
        ("reads_open", "Results being read now", lambda: len(results.open)),
        (
            "retained_bytes",
            "Memory of results, buffers that several use counted once",
            lambda: retained.bytes,
        ),
        (
            "shared_bytes",
            "Of flexhost_retained_bytes, what more than one result uses",
            lambda: retained.shared,
        ),
        ("spilled_bytes", "Results that were written to the spool", lambda: retained.spilled),
        (
            "arrow_allocated_bytes",
            "Memory that Arrow has allocated for anything, also in functions",
            pa.total_allocated_bytes,
        ),
    )


def _call_bounds(wanted: Server, executor: Routed) -> Iterable[_Now]:
    """Together, of the executors that functions use now: each has its own."""
    at_once = {
        THREADS: wanted.task_threads,
        PROCESSES: wanted.process_workers or capacity.processors(),
        COROUTINES: wanted.task_coroutines,
    }
    return (
        (
            "calls_running_limit",
            "The bounds of what functions use: task_threads, task_coroutines, process_workers",
            lambda: sum(at_once.get(name, 0) for name in executor.used),
        ),
        (
            "calls_waiting_limit",
            "The bound task_queue_size, for each executor that functions use",
            lambda: wanted.task_queue_size * len(executor.used),
        ),
    )


def _bounds(wanted: Server, results: Results) -> Iterable[_Now]:
    for name, setting, value in (
        ("threads_abandoned_limit", "max_abandoned", wanted.max_abandoned),
        ("requests_open_limit", "max_rpcs", wanted.max_rpcs),
        ("reads_open_limit", "max_streams", wanted.max_streams),
        ("exchanges_open_limit", "max_exchanges", wanted.max_exchanges),
        ("retained_limit_bytes", "result_memory_bytes", results.retained.budget),
        ("spilled_limit_bytes", "result_spool_bytes", wanted.result_spool_bytes),
    ):
        yield name, f"The bound {setting}", _always(value)


def _always(value: float) -> Callable[[], float]:
    return lambda: value


def _age(since: float | None) -> float:
    return 0.0 if since is None else max(0.0, time.monotonic() - since)
