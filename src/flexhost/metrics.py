"""Events of the host → Prometheus metrics. Imported only where they are switched on."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TypeVar

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from flexhost.author_metrics import OfWorkers
from flexhost.call import Call
from flexhost.errors import Busy, Cancelled, HostError, Unavailable
from flexhost.events import CallEnded, Event, Evicted, ExchangeEnded, ReadEnded, Refused
from flexhost.function import Function
from flexhost.observability import outcome

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180)
_ROWS = (0, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
_BYTES = (1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 23, 1 << 26, 1 << 29, 1 << 32)

# The code of what went well.
_OK = "OK"
# The bounds whose refusals are counted by their name.
BOUNDS = (
    "health",
    "max_exchanges",
    "max_rpcs",
    "max_running",
    "max_streams",
    "process_streams",
    "reflection",
    "result_spool_bytes",
    "result_spool_dir",
    "shared_calls",
    "task_coroutines",
    "task_queue_size",
    "task_threads",
)


class Metrics:
    """The label `function` takes only registered names, so that callers cannot make new ones."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, others: CollectorRegistry = REGISTRY) -> None:
        """others: what functions make their own in, which may fail and cost only these."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no type here
        self.registry = CollectorRegistry()
        self.workers = OfWorkers(others)
        self._calls = self._counter(
            "flexhost_calls", "Calls by how they ended", "function", "outcome", "code"
        )
        self._reads = self._counter(
            "flexhost_reads", "Reads of results by how they ended", "function", "code"
        )
        self._exchanges = self._counter(
            "flexhost_exchanges", "Exchanges by how they ended", "function", "code"
        )
        self._refusals = self._counter(
            "flexhost_refusals", "Refused requests by the bound or the error", "reason"
        )
        self._cached = self._counter(
            "flexhost_cache_requests",
            "Calls of functions with a cache: hit, shared or miss",
            "function",
            "result",
        )
        self._evictions = self._counter(
            "flexhost_cache_evictions",
            "Cached tables that were dropped to make room",
            "function",
        )
        self._waiting = self._histogram(
            "flexhost_call_waiting_seconds",
            "From acceptance to the start of the function",
            _SECONDS,
        )
        self._running = self._histogram(
            "flexhost_call_running_seconds",
            "From the start of the function to its outcome",
            _SECONDS,
        )
        self._reading = self._histogram(
            "flexhost_read_seconds",
            "How long a result was open to a reader: the time of streaming",
            (*_SECONDS, 600, 3600),
        )
        self._rows = self._histogram("flexhost_read_rows", "Rows of one read", _ROWS)
        self._bytes = self._histogram(
            "flexhost_read_bytes", "Bytes of one read, as Arrow buffers", _BYTES
        )
        for reason in (*BOUNDS, *sorted(_codes())):
            self._refusals.labels(reason)

    def expect(self, functions: Iterable[Function]) -> None:
        """Begin what these count at 0: to Prometheus a counter that begins with 1 did not rise."""
        for function in functions:
            name = function.name
            self._calls.labels(name, "ok", _OK)
            self._calls.labels(name, "failed", "COMMAND_FAILED")
            self._reads.labels(name, _OK)
            for histogram in (self._waiting, self._running, self._reading, self._rows, self._bytes):
                histogram.labels(name)
            if function.over_batches is not None:
                self._exchanges.labels(name, _OK)
            if function.cache is not None:
                self._evictions.labels(name)
                for result in ("hit", "shared", "miss"):
                    self._cached.labels(name, result)

    def __call__(self, event: Event) -> None:
        match event:
            case CallEnded(call=call):
                self._count(call)
            case ReadEnded(call=call):
                name = call.function.name
                _of(self._reads, name, _code_of_read(event)).inc()
                _of(self._reading, name).observe(event.seconds)
                _of(self._rows, name).observe(event.rows)
                _of(self._bytes, name).observe(event.bytes)
            case ExchangeEnded(exchange=exchange, error=error):
                code = _OK if error is None else error.code
                _of(self._exchanges, exchange.function.name, code).inc()
            case Evicted(function=name):
                self._evictions.labels(name).inc()
            case Refused(error=error):
                _of(self._refusals, error.reason).inc()

    def page(self) -> bytes:
        """What `/metrics` answers, in the Prometheus text format."""
        return generate_latest(self.registry) + generate_latest(self.workers)

    def _count(self, call: Call) -> None:
        name, error = call.function.name, call.error
        code = _OK if error is None else error.code
        _of(self._calls, name, outcome(call, error), code).inc()
        if call.cache is not None:
            self._cached.labels(name, call.cache).inc()
        ended = call.ended_at or 0.0
        started = call.began_at
        if started is not None:
            _of(self._running, name).observe(ended - started)
        _of(self._waiting, name).observe((ended if started is None else started) - call.accepted_at)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, ("function",), buckets=buckets, registry=self.registry)


_Metric = TypeVar("_Metric", Counter, Histogram)


@functools.cache
def _of(metric: _Metric, *labels: str) -> _Metric:
    """What has these labels: of registered names and known codes, so there are few."""
    return metric.labels(*labels)


def _code_of_read(event: ReadEnded) -> str:
    """A reader who leaves before the end has cancelled."""
    if event.complete:
        return _OK
    return Cancelled.code if event.error is None else event.error.code


def _codes(kind: type[HostError] = HostError) -> Iterator[str]:
    """What refusals that are of no bound are counted under."""
    if kind not in (Unavailable, Busy):
        yield kind.code.lower()
    for below in kind.__subclasses__():
        yield from _codes(below)
