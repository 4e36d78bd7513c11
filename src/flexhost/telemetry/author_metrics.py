"""Metrics that functions make with `prometheus_client` in worker processes: exported as if they had
been made in the host, which has the same ones for the functions that it runs itself."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.samples import Sample

_logger = logging.getLogger("flexhost")

# A sample's name and its labels, in order.
_Key = tuple[str, tuple[tuple[str, str], ...]]
# What holds the last word, and is not summed.
_LAST_SAID = ("gauge", "info", "stateset", "unknown")


class Family(NamedTuple):
    """One metric, plain enough for another process."""

    name: str
    text: str
    kind: str
    samples: dict[_Key, float]


class Own:
    """Of a worker process: what changed since it was asked last."""

    def __init__(self) -> None:
        self._before: dict[str, Family] = {}
        self._bare = self._broken = False

    def changed(self) -> list[Family]:
        """Whole metrics. Costs nothing where no function has any."""
        client = sys.modules.get("prometheus_client")
        if client is None:
            return []
        if not self._bare:  # of the process: the host has its own
            self._bare = True
            client.disable_created_metrics()  # as the host does
            for ours in (client.PROCESS_COLLECTOR, client.PLATFORM_COLLECTOR, client.GC_COLLECTOR):
                client.REGISTRY.unregister(ours)
        try:
            now = {family.name: family for family in map(_plain, client.REGISTRY.collect())}
        except Exception:  # of the author's: no call may fail for it
            if not self._broken:
                _logger.exception("metrics of functions cannot be collected")
            self._broken = True
            return []
        before, self._before = self._before, now
        return [family for name, family in now.items() if before.get(name) != family]


class OfWorkers:
    """Beside the metrics of a registry what workers have said of theirs, those that are gone
    included: nothing that was counted is lost with them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._said: dict[str, dict[Hashable, Family]] = {}
        self._lock = threading.Lock()

    def take(self, worker: Hashable, families: Iterable[Family]) -> None:
        with self._lock:
            for family in families:
                by = self._said.setdefault(family.name, {})
                by.pop(worker, None)  # behind all others: what was said last
                by[worker] = family

    def gone(self, worker: Hashable) -> None:
        with self._lock:
            for by in self._said.values():
                if (last := by.pop(worker, None)) is not None:
                    past = by.pop(None, None)
                    # first: whoever is there has the last word
                    rest = dict(by)
                    by.clear()
                    by[None] = last if past is None else _sum([past, last])
                    by.update(rest)

    def collect(self) -> Iterator[Metric]:
        """All of them, each metric once. What cannot be had is logged, and the others are there."""
        with self._lock:
            said = {name: _sum(by.values()) for name, by in self._said.items() if by}
        try:
            for metric in self._registry.collect():
                more = said.pop(metric.name, None)
                yield metric if more is None else _metric(_sum([_plain(metric), more]))
        except Exception:
            _logger.exception("metrics of functions cannot be collected")
        for family in said.values():
            yield _metric(family)


def _sum(families: Iterable[Family]) -> Family:
    """Of one metric: counts are added; of what is no count the last value holds."""
    first, *others = families
    samples = dict(first.samples)
    for other in others:
        for key, value in other.samples.items():
            counted = 0.0 if first.kind in _LAST_SAID else samples.get(key, 0.0)
            samples[key] = counted + value
    return first._replace(samples=samples)


def _plain(metric: Metric) -> Family:
    samples = {
        (sample.name, tuple(sample.labels.items())): float(sample.value)
        for sample in metric.samples
    }
    return Family(metric.name, metric.documentation, metric.type, samples)


def _metric(family: Family) -> Metric:
    metric = Metric(family.name, family.text, family.kind)
    metric.samples = [
        Sample(name, dict(labels), value) for (name, labels), value in family.samples.items()
    ]
    return metric
