"""Events of the host → Prometheus metrics. Imported only where they are switched on."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Metric,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from flexhost.errors import Busy, HostError, Unavailable
from flexhost.function import Function
from flexhost.telemetry.author_metrics import OfWorkers
from flexhost.telemetry.events import CallEnded, Event, Evicted, ExchangeEnded, ReadEnded, Refused
from flexhost.telemetry.tallies import OK, Tallies

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
# Of each function, in the order of `Totals.spreads`.
_SPREADS = (
    ("flexhost_call_waiting_seconds", "From acceptance to the start of the function"),
    ("flexhost_call_running_seconds", "From the start of the function to its outcome"),
    ("flexhost_read_seconds", "How long a result was open to a reader: the time of streaming"),
    ("flexhost_read_rows", "Rows of one read"),
    ("flexhost_read_bytes", "Bytes of one read, as Arrow buffers"),
)


class Metrics:
    """The label `function` takes only registered names, so that callers cannot make new ones."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, others: CollectorRegistry = REGISTRY) -> None:
        """others: what functions make their own in, which may fail and cost only these."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no type here
        self.registry = CollectorRegistry(auto_describe=True)
        self.workers = OfWorkers(others)
        self._tallies = Tallies()
        self._exchanges = _counter(
            "flexhost_exchanges", "Exchanges by how they ended", "function", "code"
        )
        self._refusals = _counter(
            "flexhost_refusals", "Refused requests by the bound or the error", "reason"
        )
        self._cached = _counter(
            "flexhost_cache_requests",
            "Calls of functions with a cache: hit, shared or miss",
            "function",
            "result",
        )
        self._evictions = _counter(
            "flexhost_cache_evictions",
            "Cached tables that were dropped to make room",
            "function",
        )
        for reason in (*BOUNDS, *sorted(_codes())):
            self._refusals.labels(reason)
        self.registry.register(self)

    def expect(self, functions: Iterable[Function]) -> None:
        """Begin what these count at 0: to Prometheus a counter that begins with 1 did not rise."""
        for function in functions:
            name = function.name
            self._tallies[name].expect()
            if function.over_batches is not None:
                self._exchanges.labels(name, OK)
            if function.cache is not None:
                self._evictions.labels(name)
                for result in ("hit", "shared", "miss"):
                    self._cached.labels(name, result)

    def __call__(self, event: Event) -> None:
        # first what each call has, and without the steps of a `match`
        if isinstance(event, CallEnded):
            call = event.call
            self._tallies[call.function.name].ended(call)
            if call.cache is not None:
                _of(self._cached, call.function.name, call.cache).inc()
        elif isinstance(event, ReadEnded):
            self._tallies[event.call.function.name].read(event)
        elif isinstance(event, ExchangeEnded):
            code = OK if event.error is None else event.error.code
            _of(self._exchanges, event.exchange.function.name, code).inc()
        elif isinstance(event, Evicted):
            _of(self._evictions, event.function).inc()
        elif isinstance(event, Refused):
            _of(self._refusals, event.error.reason).inc()

    def page(self) -> bytes:
        """What `/metrics` answers, in the Prometheus text format."""
        return generate_latest(self.registry) + generate_latest(self.workers)

    def collect(self) -> Iterator[Metric]:
        """What the registry exports of us."""
        calls = CounterMetricFamily(
            "flexhost_calls", "Calls by how they ended", labels=("function", "outcome", "code")
        )
        reads = CounterMetricFamily(
            "flexhost_reads", "Reads of results by how they ended", labels=("function", "code")
        )
        spreads = [
            HistogramMetricFamily(name, text, labels=("function",)) for name, text in _SPREADS
        ]
        for function, tally in self._tallies.copy().items():
            totals = tally.totals()
            for how, count in totals.calls.items():
                calls.add_metric((function, *how), count)
            for code, count in totals.reads.items():
                reads.add_metric((function, code), count)
            for family, spread in zip(spreads, totals.spreads, strict=True):
                buckets = [(_text(bound), count) for bound, count in spread.up_to]
                family.add_metric((function,), buckets, spread.sum)
        yield from (calls, reads)
        for counter in (self._exchanges, self._refusals, self._cached, self._evictions):
            yield from counter.collect()
        yield from spreads


def _text(bound: float) -> str:
    text: str = floatToGoString(bound)  # type: ignore[no-untyped-call]  # no type here either
    return text


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=None)


@functools.cache
def _of(metric: Counter, *labels: str) -> Counter:
    """What has these labels: of registered names and known codes, so there are few."""
    return metric.labels(*labels)


def _codes(kind: type[HostError] = HostError) -> Iterator[str]:
    """What refusals that are of no bound are counted under."""
    if kind not in (Unavailable, Busy):
        yield kind.code.lower()
    for below in kind.__subclasses__():
        yield from _codes(below)
