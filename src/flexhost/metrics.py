"""Events of the host → Prometheus metrics. Imported only where they are switched on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from flexhost.call import Call
from flexhost.events import CallEnded, Event, Evicted, ReadEnded, Refused
from flexhost.executor import Executor
from flexhost.frontends.flight import FlightFrontend
from flexhost.observability import outcome
from flexhost.results import Results

if TYPE_CHECKING:
    from flexhost.frontends.listener import Listener

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180)
_ROWS = (0, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
_BYTES = (1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 23, 1 << 26, 1 << 29, 1 << 32)


class Metrics:
    """The label `function` takes only registered names, so that callers cannot make new ones."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no type here
        self._registry = registry
        of = ("function",)
        self._calls = Counter(
            "flexhost_calls", "Calls by how they ended", (*of, "outcome"), registry=registry
        )
        self._refusals = Counter(
            "flexhost_refusals",
            "Refused requests by the bound or the error",
            ("reason",),
            registry=registry,
        )
        self._cached = Counter(
            "flexhost_cache_requests",
            "Calls of functions with a cache: hit, shared or miss",
            (*of, "result"),
            registry=registry,
        )
        self._evictions = Counter(
            "flexhost_cache_evictions",
            "Cached tables that were dropped to make room",
            of,
            registry=registry,
        )
        self._waiting = Histogram(
            "flexhost_call_waiting_seconds",
            "From acceptance to the start of the function",
            of,
            buckets=_SECONDS,
            registry=registry,
        )
        self._running = Histogram(
            "flexhost_call_running_seconds",
            "From the start of the function to its outcome",
            of,
            buckets=_SECONDS,
            registry=registry,
        )
        self._reading = Histogram(
            "flexhost_read_seconds",
            "How long a result was open to a reader",
            of,
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = Histogram(
            "flexhost_read_rows", "Rows of one read", of, buckets=_ROWS, registry=registry
        )
        self._bytes = Histogram(
            "flexhost_read_bytes",
            "Bytes of one read, as Arrow buffers",
            of,
            buckets=_BYTES,
            registry=registry,
        )

    def watch(
        self, executor: Executor, results: Results, frontend: FlightFrontend | Listener
    ) -> None:
        """Gauges that are read when somebody asks for them."""
        if not isinstance(frontend, FlightFrontend):
            # without our prefix: the name under which dashboards look for it
            name, text = "tls_certificate_expiry_timestamp_seconds", "When the certificate expires"
            Gauge(name, text, registry=self._registry).set_function(lambda: frontend.expires_at)
        for name, text, value in (
            ("flexhost_calls_waiting", "Calls that wait now", lambda: executor.waiting),
            ("flexhost_calls_running", "Calls that run now", lambda: executor.running),
            (
                "flexhost_threads_abandoned",
                "Threads stuck in calls past their deadline",
                lambda: executor.abandoned,
            ),
            ("flexhost_requests_open", "Requests under way now", lambda: frontend.under_way),
            ("flexhost_results", "Calls that are kept, running or ended", lambda: len(results)),
            (
                "flexhost_retained_bytes",
                "Memory of results, buffers that several use counted once",
                lambda: results.retained.bytes,
            ),
            (
                "flexhost_shared_bytes",
                "Of flexhost_retained_bytes, what more than one result uses",
                lambda: results.retained.shared,
            ),
            (
                "flexhost_spilled_bytes",
                "Results that were written to the spool",
                lambda: results.retained.spilled,
            ),
            ("flexhost_reads_open", "Results being read now", lambda: len(results.open)),
        ):
            Gauge(name, text, registry=self._registry).set_function(value)

    def __call__(self, event: Event) -> None:
        match event:
            case CallEnded(call=call):
                self._count(call)
            case ReadEnded(call=call):
                name = call.function.name
                self._reading.labels(name).observe(event.seconds)
                self._rows.labels(name).observe(event.rows)
                self._bytes.labels(name).observe(event.bytes)
            case Evicted(function=name):
                self._evictions.labels(name).inc()
            case Refused(error=error):
                self._refusals.labels(error.reason).inc()

    def page(self) -> bytes:
        """What `/metrics` answers, in the Prometheus text format."""
        return generate_latest(self._registry)

    def _count(self, call: Call) -> None:
        name = call.function.name
        self._calls.labels(name, outcome(call, call.error)).inc()
        if call.cache is not None:
            self._cached.labels(name, call.cache).inc()
        ended = call.ended_at or 0.0
        started = call.began_at
        if started is not None:
            self._running.labels(name).observe(ended - started)
        self._waiting.labels(name).observe(
            (ended if started is None else started) - call.accepted_at
        )
