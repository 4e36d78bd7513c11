"""The files of deploy/observability in a real Prometheus that scrapes a real host."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import queries
import yaml
from exported import exporting
from support import LONG, free_port, until

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="needs prometheus and promtool: apt-get install --no-install-recommends prometheus",
)
CASES = Path(__file__).with_name("alerts_test.yml")


def promtool(*arguments):
    """What it says; it has to be content."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Prometheus:
    """A client of its HTTP API."""

    def __init__(self, port):
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def get(self, path, **parameters):
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=LONG) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 503:  # it begins
                    raise AssertionError(error.read().decode()) from None
                raise
        assert told["status"] == "success"
        return told["data"]

    def query(self, query):
        return self.get("query", query=query)["result"]

    def scraped(self):
        """Whether the host was."""
        with contextlib.suppress(urllib.error.URLError):
            return self.query("flexhost_ready == 1")
        return []


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with exporting(tmp_path_factory.mktemp("exporting")) as exported:
        yield exported


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, host):
    """It scrapes the host under the job and with the rules of prometheus.yml, but more often."""
    folder = tmp_path_factory.mktemp("prometheus")
    settings = queries.scraped()
    settings["global"] = {"scrape_interval": "200ms", "evaluation_interval": "200ms"}
    (job,) = settings["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{host.port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    shutil.copy(queries.ALERTS, folder)
    port = free_port()
    options = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["prometheus", *options], stdout=log, stderr=log)
    try:
        client = Prometheus(port)
        until(client.scraped)
        yield client
    finally:
        process.kill()
        process.wait()


def test_the_configuration_and_the_rules_are_good():
    promtool("check", "config", str(queries.FOLDER / "prometheus.yml"))
    promtool("check", "rules", str(queries.ALERTS))


def test_each_alert_fires_when_it_should_and_none_on_a_host_that_is_well(tmp_path):
    shutil.copy(queries.ALERTS, tmp_path)
    shutil.copy(CASES, tmp_path)
    well, *others = yaml.safe_load(CASES.read_text())["tests"]
    quiet = {case["alertname"] for case in well["alert_rule_test"] if "exp_alerts" not in case}
    loud = {
        case["alertname"]
        for test in others
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }

    assert quiet == loud == set(queries.alerts())
    promtool("test", "rules", str(tmp_path / CASES.name))


def test_every_series_of_the_alerts_cases_is_exported(host):
    exported = host.labels() | queries.OWN
    for test in yaml.safe_load(CASES.read_text())["tests"]:
        for series in test["input_series"]:
            ((name,), labels) = queries.used(series["series"])
            assert labels <= exported[name] | queries.ADDED, name


def test_every_query_of_the_dashboard_has_data(prometheus, host):
    host.traffic()  # after the first scrape, so that rates are not 0
    missing = {query for panel in queries.panels().values() for query in panel}

    def told():
        missing.difference_update([query for query in missing if has_data(prometheus, query)])
        return not missing

    until(told)


def has_data(prometheus, query):
    values = [float(one["value"][1]) for one in prometheus.query(query)]
    return any(value == value for value in values)  # not NaN, as of a quantile of nothing


def test_every_rule_is_evaluated_without_an_error_and_nothing_fires(prometheus):
    def rules():
        groups = prometheus.get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    until(lambda: all(rule["health"] != "unknown" for rule in rules()))

    assert [rule["name"] for rule in rules()] == list(queries.alerts())
    for rule in rules():
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule["name"]
        assert rule["state"] != "firing", rule["name"]


def test_names_and_types_are_as_prometheus_wants_them(host):
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=host.page(), capture_output=True, text=True
    )

    told = (done.stdout + done.stderr).splitlines()
    assert [line for line in told if line.startswith("flexhost_")] == []
