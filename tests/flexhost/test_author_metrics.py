"""Metrics that functions make, in the host and in its worker processes."""

from __future__ import annotations

from exported import Exporting
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from support import Client, process, until

from flexhost.telemetry.author_metrics import Family, OfWorkers

COUNTED = """
import os
import pyarrow as pa
from flexhost import FlexFun
from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter("mine_calls", "Calls", ["kind"])
LAST = Gauge("mine_last", "The last number")
SIZES = Histogram("mine_sizes", "Sizes", buckets=(10, 100))

class InThread(FlexFun):
    Name = "thread"
    Schema = pa.schema([("n", pa.int64())])

    def call(self, parameters, columns, headers):
        CALLS.labels("any").inc()
        LAST.set(parameters["n"])
        SIZES.observe(parameters["n"])
        if parameters.get("die"):
            os._exit(1)
        return pa.table({"n": [1]})

class InProcess(InThread):
    Name = "process"
    Executor = "processes"
"""


def family(name, kind, **samples):
    return Family(name, "Text", kind, {(key, ()): value for key, value in samples.items()})


def values(metrics):
    return {s.name: s.value for metric in metrics.collect() for s in metric.samples}


def test_counts_of_all_workers_and_of_the_host_are_added():
    registry = CollectorRegistry()
    Counter("c", "Text", registry=registry).inc(5)
    metrics = OfWorkers(registry)
    metrics.take("one", [family("c", "counter", c_total=2.0)])
    metrics.take("two", [family("c", "counter", c_total=3.0)])

    assert values(metrics)["c_total"] == 10


def test_a_count_is_not_lost_with_its_worker():
    metrics = OfWorkers(CollectorRegistry())
    for worker, count in (("one", 2.0), ("two", 3.0), ("three", 4.0)):
        metrics.take(worker, [family("c", "counter", c_total=count)])
        if worker != "three":
            metrics.gone(worker)

    assert values(metrics)["c_total"] == 9


def test_of_a_gauge_what_was_set_last_holds():
    registry = CollectorRegistry()
    Gauge("g", "Text", registry=registry).set(5)
    metrics = OfWorkers(registry)
    metrics.take("one", [family("g", "gauge", g=2.0)])
    metrics.take("two", [family("g", "gauge", g=3.0)])
    metrics.take("one", [family("g", "gauge", g=4.0)])

    assert values(metrics)["g"] == 4


def test_histograms_are_added_bucket_by_bucket():
    registry = CollectorRegistry()
    Histogram("h", "Text", buckets=(1,), registry=registry).observe(0.5)
    metrics = OfWorkers(registry)
    bucket = {("h_bucket", (("le", "1.0"),)): 1.0, ("h_count", ()): 2.0}
    metrics.take("one", [Family("h", "Text", "histogram", bucket)])
    samples = {(s.name, *s.labels.values()): s.value for m in metrics.collect() for s in m.samples}

    assert samples["h_bucket", "1.0"] == 2
    assert samples["h_count",] == 3


def test_a_metric_that_fails_costs_neither_a_call_nor_the_others(tmp_path):
    broken = COUNTED + "\nGauge('mine_broken', 'Fails').set_function(lambda: 1 / 0)\n"
    settings = "metrics_host = '127.0.0.1'\nmetrics_port = 0"
    with process(tmp_path, broken, settings) as host:
        port = int(host.line(r"HTTP on [^ ]+:(\d+)")[1])
        exported = Exporting(Client(host.port()), port)
        exported.client.call("process", n=1)
        exported.client.call("thread", n=1)
        until(lambda: 'flexhost_calls_total{code="OK",function="thread"' in exported.page())
        host.line("metrics of functions cannot be collected")

        assert exported.client.call("process", n=1).num_rows == 1


def test_metrics_of_functions_are_exported_wherever_these_run(tmp_path):
    settings = "process_workers = 2\nmetrics_host = '127.0.0.1'\nmetrics_port = 0"
    with process(tmp_path, COUNTED, settings) as host:
        port = int(host.line(r"HTTP on [^ ]+:(\d+)")[1])
        exported = Exporting(Client(host.port()), port)
        for n in range(1, 11):
            exported.client.call("process" if n % 2 else "thread", n=n)
        until(lambda: 'mine_calls_total{kind="any"} 10.0' in exported.page())
        page = exported.page()
        exported.families()  # parses it, and finds none twice

    assert "mine_last 9.0" in page
    assert 'mine_sizes_bucket{le="10.0"} 10.0' in page
    assert "mine_sizes_sum 55.0" in page
    assert page.count("# TYPE mine_calls_total counter") == 1
    assert page.count("\nprocess_resident_memory_bytes ") == 1
