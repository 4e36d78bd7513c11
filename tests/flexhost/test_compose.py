"""docker-compose.yaml: what it mounts is there, and those of its second profile find each other."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
import yaml
from support import ROOT

SERVICES = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
OBSERVABILITY = ROOT / "deploy" / "observability"


def mounts(service):
    """Folder or file of this project → where it is in the container."""
    split = [volume.split(":") for volume in SERVICES[service].get("volumes", [])]
    return {source: target for source, target, *_ in split if source.startswith(".")}


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_mounted_is_there(service):
    for source in mounts(service):
        assert (ROOT / source).exists(), source


@pytest.mark.parametrize("service", SERVICES)
def test_ports_are_open_on_this_machine_only(service):
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[service].get("ports", []))


def test_prometheus_asks_the_host_where_it_serves_its_metrics():
    told = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())
    targets = [
        target
        for job in told["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]

    assert "gooddata-flexfun-server:17101" in targets
    environment = SERVICES["gooddata-flexfun-server"]["environment"]
    assert environment["GOODDATA_FLIGHT_SERVER__METRICS_HOST"] == "0.0.0.0"
    files = {PurePosixPath("/etc/prometheus") / name for name in told["rule_files"]}
    assert files <= {PurePosixPath(target) for target in mounts("prometheus").values()}


def test_grafana_finds_prometheus_and_its_dashboards():
    provisioning = OBSERVABILITY / "grafana" / "provisioning"
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    [provider] = yaml.safe_load((provisioning / "dashboards" / "flexhost.yml").read_text())[
        "providers"
    ]

    assert source["url"] == "http://prometheus:9090"
    assert provider["options"]["path"] in mounts("grafana").values()
