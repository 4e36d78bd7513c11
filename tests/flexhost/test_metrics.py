"""What is exported, and that the page and the queries of deploy/observability tell of the same."""

from __future__ import annotations

import json
import re
import threading

import pyarrow as pa
import pyarrow.flight as fl
import pytest
import queries
import yaml
from exported import Exporting, exporting
from prometheus_client import CollectorRegistry
from support import LONG, NUMBERS, ROOT, SCHEMA, Client, command, function, process, serving, until

from flexhost.frontends.flight_wire import CODES
from flexhost.functions.describe import describe
from flexhost.settings import Server
from flexhost.telemetry.events import ReadEnded
from flexhost.telemetry.metrics import BOUNDS, Metrics

SRC = ROOT / "src" / "flexhost"
PAGE = (ROOT / "docs" / "observability.md").read_text()


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with exporting(tmp_path_factory.mktemp("exporting")) as exported:
        yield exported


def test_the_page_lists_every_metric_with_its_type_and_labels(host):
    row = r"^\| `([a-z_]+)` \| (\w+) \| [^|]+ \| ([^|]*)\| [^|]+ \|$"
    listed = {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in re.findall(row, PAGE, re.MULTILINE)
    }
    exported = {}
    for family in host.families():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels}
        exported[name] = (family.type, labels - {"le"})

    assert listed == exported


def test_the_page_lists_every_bound_that_refuses():
    sources = "".join(path.read_text() for path in SRC.rglob("*.py"))
    (listed,) = re.findall(r"^`reason` is (.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    bounds = set(re.findall(r'bound(?:: str )?= ?"([a-z_]+)"', sources))

    assert bounds == set(BOUNDS)
    assert set(re.findall(r"`([a-z_]+)`", listed)) == bounds


def test_refusals_for_any_reason_are_counted_from_0(host):
    reasons = labelled(host, "reason")

    assert reasons >= {*BOUNDS, "unauthenticated", "not_ready", "invalid_ticket", "bad_argument"}
    assert {reason.upper() for reason in reasons - {*BOUNDS}} <= {*CODES}


def test_what_is_counted_of_a_function_begins_at_0():
    metrics = Metrics(CollectorRegistry())
    metrics.expect([describe(function(lambda *_: None))])
    page = metrics.page().decode()

    assert 'flexhost_calls_total{code="OK",function="numbers",outcome="ok"} 0.0' in page
    assert 'flexhost_reads_total{code="OK",function="numbers"} 0.0' in page
    assert 'flexhost_call_running_seconds_count{function="numbers"} 0.0' in page


def test_calls_and_reads_are_counted_by_their_codes(host):
    page = host.page()

    for line in (
        'flexhost_calls_total{code="COMMAND_FAILED",function="fails",outcome="failed"} 1.0',
        'flexhost_calls_total{code="OK",function="streamed",outcome="ok"} 1.0',
        'flexhost_reads_total{code="OK",function="streamed"} 1.0',
        'flexhost_cache_requests_total{function="cached",result="hit"} 1.0',
    ):
        assert line in page


def test_a_stream_that_breaks_off_is_counted_by_its_error_and_one_that_is_left_as_cancelled():
    def call(parameters, columns, headers):
        def batches():
            yield pa.record_batch({"n": pa.array([1])})
            raise OSError("the database went away")

        return pa.RecordBatchReader.from_batches(SCHEMA, batches())

    metrics = Metrics(CollectorRegistry())
    with serving(function(call)) as client:
        with pytest.raises(fl.FlightServerError):
            client.call()
        broken = client.event(ReadEnded)
        client.host.cancel(client.host.find(ticket_id(client.ticket())).id)
        metrics(broken)
        metrics(client.event(ReadEnded))
    page = metrics.page().decode()

    assert 'flexhost_reads_total{code="COMMAND_FAILED",function="numbers"} 1.0' in page
    assert 'flexhost_reads_total{code="COMMAND_CANCELLED",function="numbers"} 1.0' in page


def ticket_id(ticket):
    return json.loads(ticket.ticket)["task_id"]


def test_only_registered_functions_are_labels(host):
    assert labelled(host, "function") == {"numbers", "cached", "streamed", "fails", "add"}


def test_the_age_of_the_oldest_call_that_waits_is_told(tmp_path):
    waits = NUMBERS.replace(
        "        return ",
        "        import os, threading\n"
        "        while not os.path.exists('go'):\n"
        "            threading.Event().wait(0.01)\n"
        "        return ",
    )
    settings = "task_threads = 1\nmetrics_host = '127.0.0.1'\nmetrics_port = 0"
    with process(tmp_path, waits, settings) as host:
        metrics = int(host.line(r"HTTP on [^ ]+:(\d+)")[1])
        exported = Exporting(Client(host.port()), metrics)
        callers = [threading.Thread(target=exported.client.info, args=[command()]) for _ in "ab"]
        for caller in callers:
            caller.start()
        until(lambda: "flexhost_calls_waiting 1.0" in exported.page())
        until(lambda: value(exported, "flexhost_calls_waiting_oldest_seconds") > 0.1)
        (tmp_path / "go").touch()
        for caller in callers:
            caller.join(LONG)

        assert value(exported, "flexhost_calls_waiting_oldest_seconds") == 0


def value(host, name):
    return next(s.value for f in host.families() for s in f.samples if s.name == name)


def labelled(host, label):
    samples = (sample for family in host.families() for sample in family.samples)
    return {sample.labels[label] for sample in samples if label in sample.labels}


@pytest.mark.parametrize("query", queries.everything())
def test_queries_use_names_and_labels_that_are_exported(host, query):
    labels = host.labels() | queries.OWN
    names, wanted = queries.used(query)

    assert names
    for name in names:
        assert name in labels, name
    assert wanted <= set().union(queries.ADDED, *(labels[name] for name in names))


@pytest.mark.parametrize("query", queries.everything())
def test_queries_ask_for_codes_and_reasons_that_there_are(host, query):
    known = {
        "code": {"OK", *CODES},
        "reason": labelled(host, "reason"),
        "job": {job["job_name"] for job in queries.scraped()["scrape_configs"]},
    }

    for label, one in queries.values(query):
        assert one == ".*" or one in known[label], one


def test_the_choices_of_the_dashboard_are_exported(host):
    for name, label in queries.variables():
        assert label in host.labels()[name] | queries.ADDED


def test_every_alert_has_its_remedy_on_the_page():
    listed = re.findall(r"^\| `(Flexhost\w+)` \|", PAGE, re.MULTILINE)

    assert listed == list(queries.alerts())


def test_the_host_of_the_compose_file_is_scraped_where_it_exports():
    (job,) = queries.scraped()["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    name, port = target.split(":")

    assert name in yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    assert int(port) == Server().metrics_port
