"""compose.yaml, the Dockerfile, deploy/ and docs/deployment.md match the service."""

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from grm_service.factory import open_service
from grm_service.probes.runner import ProbeRunner
from grm_service.settings import Settings

ROOT = Path(__file__).parents[1]
DEPLOY = sorted(
    path for path in (ROOT / "deploy").rglob("*") if path.is_file() and "secrets" not in path.parts
)
FILES = [ROOT / "Dockerfile", ROOT / "compose.yaml", ROOT / "docs/deployment.md", *DEPLOY]


def matches(pattern, files=FILES):
    """Return every match of a pattern with the files that contain it."""
    result = {}
    for path in files:
        for name in re.findall(pattern, path.read_text(encoding="utf-8")):
            result.setdefault(name, []).append(path.name)
    return result


def metric_families():
    """Return the metric families of a service, including those of its probes."""
    service = open_service(Settings(engine="scripted"))
    ProbeRunner(service)
    return list(service.metrics.registry.collect())


def yaml(*path):
    return YAML(typ="safe").load(ROOT.joinpath(*path).read_text(encoding="utf-8"))


def test_settings_exist():
    known = {f"GRM_{name.upper()}" for name in Settings.model_fields}
    used = matches(r"\bGRM_[A-Z][A-Z_]*[A-Z]\b")
    assert len(used) >= 10
    assert {name: files for name, files in used.items() if name not in known} == {}


def test_metrics_exist_and_are_plotted():
    families = metric_families()
    endings = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}
    known = {family.name + ending for family in families for ending in endings[family.type]}
    used = matches(r"\bgrm_[a-z_]+\b", DEPLOY)
    assert len(used) >= 20
    assert {name: files for name, files in used.items() if name not in known} == {}
    # Text may mention a metric family; the dashboard must plot its series.
    plotted = matches(r"\bgrm_[a-z_]+\b", [ROOT / "deploy/grafana/dashboards/grm-service.json"])
    counters = {family.name + "_total" for family in families if family.type == "counter"}
    assert counters - {"grm_requests_total"} <= set(plotted)


def test_dashboard_panels():
    board = json.loads((ROOT / "deploy/grafana/dashboards/grm-service.json").read_text(encoding="utf-8"))
    (source,) = yaml("deploy", "grafana", "provisioning", "datasources", "prometheus.yaml")["datasources"]
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert all(panel["description"] and panel["targets"] for panel in panels)


@pytest.mark.parametrize("name", ["grm", "grm-vllm"])
def test_compose_hardening_and_drain(name):
    service = yaml("compose.yaml")["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["stop_grace_period"].removesuffix("s")) > Settings().drain_s
    assert service["ports"][0].startswith("127.0.0.1:")


def test_kubernetes_hardening_and_drain():
    pod = yaml("deploy", "kubernetes", "deployment.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > before + Settings().drain_s
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    # Otherwise Kubernetes sets GRM_PORT to the address of the Service named grm.
    assert pod["enableServiceLinks"] is False


def test_kubernetes_scales_before_a_replica_is_full():
    metrics = yaml("deploy", "kubernetes", "autoscaler.yaml")["spec"]["metrics"]
    (target,) = [each["pods"]["target"] for each in metrics if each["type"] == "Pods"]
    settings = dict(
        line.split("=", 1)
        for line in (ROOT / "deploy/kubernetes/settings.env").read_text(encoding="utf-8").splitlines()
    )
    assert int(target["averageValue"]) < int(settings["GRM_MAX_SAMPLES"])
