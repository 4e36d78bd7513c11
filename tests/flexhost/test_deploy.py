"""What deploy/ holds: it is what Kubernetes and systemd understand, and fits the host."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from support import ROOT

from flexhost import settings
from flexhost.settings import Server

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("base", "statefulset", "autoscaling")
VERSIONS = ("1.30", "1.33")


def _kustomizes() -> bool:
    """Whether there is a kubectl, and not one so old that it does not tell of its Kustomize."""
    if shutil.which("kubectl") is None:
        return False
    told = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True)
    return "Kustomize Version" in told.stdout


kubectl = pytest.mark.skipif(
    not _kustomizes(),
    reason="needs kubectl 1.24 or newer: https://kubernetes.io/docs/tasks/tools/",
)


def built(overlay: str | Path) -> dict[tuple[str, str], Any]:
    """The resources of an overlay, by kind and name."""
    made = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / overlay)], capture_output=True, check=True
    )
    resources = list(yaml.safe_load_all(made.stdout))
    return {(one["kind"], one["metadata"]["name"]): one for one in resources}


def pod(resources: dict[tuple[str, str], Any]) -> Any:
    [one] = [one for one in resources.values() if one["kind"] in ("Deployment", "StatefulSet")]
    return one["spec"]["template"]


@kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_kustomize_makes_of_each_overlay_what_the_schemas_of_kubernetes_allow(overlay, version):
    for resource in built(overlay).values():
        kubernetes_validate.validate(resource, version, strict=True)


@kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_variables_of_a_pod_are_settings_of_the_host(overlay, tmp_path, monkeypatch):
    [container] = pod(built(overlay))["spec"]["containers"]
    known: dict[str, str] = {}
    for one in container["env"]:
        value = re.sub(r"\$\((\w+)\)", lambda m: known[m[1]], one.get("value", "x"))
        known[one["name"]] = value  # Kubernetes replaces only by what stands before
    for name, value in known.items():
        if name.startswith("GOODDATA_FLIGHT_"):
            monkeypatch.setenv(name, value.replace("/run/secrets/flexfun", str(tmp_path)))
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "tokens").write_text("a-token")

    server = settings.load().settings.server

    assert server.use_tls
    assert server.authentication_method == "token"
    service = "flexfun" if overlay == "base" else "x.flexfun-pods"
    assert server.advertise_host == f"{service}.x.svc.cluster.local"


@kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_selects_the_pods(overlay):
    resources = built(overlay)
    labels = pod(resources)["metadata"]["labels"]
    found = 0
    for (kind, _), resource in resources.items():
        spec = resource["spec"]
        if kind == "HorizontalPodAutoscaler":
            continue
        selector = spec.get("podSelector") or spec["selector"]
        assert selector.get("matchLabels", selector) == labels, kind
        found += 1

    assert found >= 4


@kubectl
def test_a_pod_has_longer_to_stop_and_more_disk_than_the_host_takes():
    spec = pod(built("base"))["spec"]
    [container] = spec["containers"]
    _, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    [disk] = [one["emptyDir"] for one in spec["volumes"] if "emptyDir" in one]

    assert spec["terminationGracePeriodSeconds"] >= int(seconds) + Server().drain_sec + 15
    assert int(disk["sizeLimit"].removesuffix("Gi")) << 30 > Server().result_spool_bytes


@kubectl
def test_a_pod_has_no_rights_that_the_host_does_not_need():
    template = pod(built("base"))["spec"]
    [container] = template["containers"]
    written = [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")]

    assert template["securityContext"]["runAsNonRoot"]
    assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert written == re.findall(r"^VOLUME (.+)$", dockerfile, re.MULTILINE)
    user = template["securityContext"]["runAsUser"], template["securityContext"]["runAsGroup"]
    assert f"\nUSER {user[0]}:{user[1]}\n" in dockerfile


@kubectl
def test_each_pod_of_the_statefulset_keeps_its_name_while_it_drains():
    resources = built("statefulset")
    hosts = resources["StatefulSet", "flexfun"]["spec"]
    names = resources["Service", hosts["serviceName"]]["spec"]

    assert names["clusterIP"] == "None"
    assert names["publishNotReadyAddresses"]


@kubectl
def test_the_kustomization_of_the_deployment_page_is_built_beside_the_others(tmp_path):
    page = (ROOT / "docs" / "deployment.md").read_text()
    [text] = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    folder = tmp_path / "kubernetes" / "production"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(text)

    resources = built(folder)

    [container] = pod(resources)["spec"]["containers"]
    assert container["image"] == "registry.example.org/our/functions:7"
    assert {one["metadata"]["namespace"] for one in resources.values()} == {"flexfun"}


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd: apt-get install systemd"
)
def test_the_unit_is_one_that_systemd_takes_and_finds_hardened(tmp_path):
    unit = tmp_path / "flexfun-host.service"
    text = (ROOT / "deploy" / "systemd" / unit.name).read_text()
    unit.write_text(text.replace("/opt/flexfun-host", str(ROOT)))

    for command in (["verify"], ["security", "--offline=true", "--threshold=20"]):
        done = subprocess.run(
            ["systemd-analyze", *command, str(unit)], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout[-500:]


def test_the_unit_gives_the_host_longer_to_stop_than_it_takes_and_one_folder():
    lines = (ROOT / "deploy" / "systemd" / "flexfun-host.service").read_text().splitlines()
    unit = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")

    assert int(unit["TimeoutStopSec"]) >= Server().drain_sec + 15
    assert f"TMPDIR=/var/lib/{unit['StateDirectory']} " in unit["Environment"]
    assert "ReadWritePaths" not in unit


def test_the_example_of_variables_for_the_unit_are_settings_of_the_host(tmp_path, monkeypatch):
    text = (ROOT / "deploy" / "systemd" / "environment.example").read_text()
    (tmp_path / "tokens").write_text("a-token")
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.split("=", 1)
            monkeypatch.setenv(name, value.replace("/etc/flexfun", str(tmp_path)))

    server = settings.load().settings.server

    assert server.use_tls
    assert server.authentication_method == "token"


def test_the_autoscaler_asks_for_a_metric_that_is_exported():
    asked = set(
        re.findall(r"flexhost_\w+", (KUBERNETES / "autoscaling/autoscaler.yaml").read_text())
    )
    page = (ROOT / "docs" / "observability.md").read_text()

    assert asked == {"flexhost_calls_waiting_oldest_seconds"}
    assert all(f"| `{name}` |" in page for name in asked)
