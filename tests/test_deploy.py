"""compose.yaml, the Dockerfile, deploy/ and docs/deployment.md match the service."""

import json
import re
import tomllib
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


SERVICES = YAML(typ="safe").load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_compose_services_are_limited(service):
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit"} <= set(service)
    assert all("size=" in each for each in service.get("tmpfs", []))
    assert all(each.startswith("127.0.0.1:") for each in service.get("ports", []))
    assert not {"privileged", "network_mode", "ipc", "pid"} & set(service)


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_compose_has_no_default_passwords(service):
    for name, value in service.get("environment", {}).items():
        if re.search("PASSWORD|TOKEN|SECRET|KEY$", name):
            assert re.fullmatch(r"\$\{[A-Z_]+:?-\}", value), name


@pytest.mark.parametrize("name", ["grm", "grm-vllm"])
def test_compose_answers_localhost_only(name):
    environment = SERVICES[name]["environment"]
    assert "GRM_ALLOW_ANYONE" not in environment
    # Prometheus addresses the service by this name, which no web page can take.
    assert environment["GRM_ALLOWED_HOSTS"] == f"${{GRM_ALLOWED_HOSTS:-{name}}}"
    assert "GRM_ALLOWED_HOSTS=" not in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def mebibytes(size):
    number, unit = re.fullmatch(r"(\d+)([mgMG])i?", size).groups()
    return int(number) * (1024 if unit in "gG" else 1)


@pytest.mark.parametrize("name", ["grm", "grm-vllm", "kubernetes"])
def test_temporary_storage_holds_all_batches(name):
    batches = 4 * Settings().max_batch_bytes >> 20
    if name == "kubernetes":
        pod = yaml("deploy", "kubernetes", "deployment.yaml")["spec"]["template"]["spec"]
        (size,) = (each["emptyDir"]["sizeLimit"] for each in pod["volumes"] if "emptyDir" in each)
        limit = pod["containers"][0]["resources"]["limits"]["ephemeral-storage"]
    else:
        size = re.search(r"size=(\w+)", SERVICES[name]["tmpfs"][0])[1]
        limit = SERVICES[name]["mem_limit"]
    assert batches < mebibytes(size) < mebibytes(limit) - 512


def test_compose_images_have_exact_tags():
    for service in SERVICES.values():
        if "build" not in service:
            assert re.fullmatch(r"docker\.io/[a-z/-]+:v?\d+(\.\d+)+(@sha256:[0-9a-f]{64})?", service["image"])


@pytest.mark.parametrize("target", ["slim", "cpu"])
def test_images_install_pinned_versions(target):
    file = f"requirements-{target}.txt"
    lines = (ROOT / "deploy" / file).read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.-]+==\S+ --hash=sha256:[0-9a-f]{64}", pin) for pin in pins)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = ["postgres", "otel", *(["cpu"] if target == "cpu" else [])]
    needed = [
        *wanted["dependencies"],
        *(each for extra in extras for each in wanted["optional-dependencies"][extra]),
    ]
    names = {re.split(r"[\[><=]", each)[0].replace(".", "[.-]") for each in needed}
    assert [name for name in names if not any(re.match(f"{name}==", pin) for pin in pins)] == []
    assert f"--require-hashes --requirement /pins/{file}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["grm", "grm-vllm"])
def test_compose_hardening_and_drain(name):
    service = yaml("compose.yaml")["services"][name]
    assert service["read_only"] is True
    assert int(service["stop_grace_period"].removesuffix("s")) > Settings().drain_s


def test_kubernetes_hardening_and_drain():
    pod = yaml("deploy", "kubernetes", "deployment.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > before + Settings().drain_s
    assert container["securityContext"] == {
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["limits"])
    assert all(each["emptyDir"]["sizeLimit"] for each in pod["volumes"] if "emptyDir" in each)
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
