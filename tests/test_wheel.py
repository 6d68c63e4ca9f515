"""The wheel: its contents, and serving from it in a clean environment."""

import json
import os
import re
import subprocess
import sys
import urllib.request
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAIR = json.loads((ROOT / "examples/pair.json").read_text(encoding="utf-8"))

# Building and installing needs a package index and takes a minute.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
    subprocess.run(build, check=True, cwd=folder)
    (built,) = folder.glob("grm_service-*-py3-none-any.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory):
    """The `bin` folder of an environment with only the wheel and its dependencies."""
    environment = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(environment, with_pip=True)
    subprocess.run([environment / "bin/pip", "install", "--quiet", wheel], check=True)
    return environment / "bin"


def in_checkout(folder, pattern):
    return {path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).glob(pattern)}


def test_one_top_level_name(names):
    assert {name.split("/")[0] for name in names} == {"grm_service"}


def test_wheel_contents(names):
    code = {f"grm_service/{name}" for name in in_checkout("grm_service", "**/*.py")}
    page = {
        f"grm_service/web/{path.relative_to(ROOT / 'grm_service/web').as_posix()}"
        for path in (ROOT / "grm_service/web").rglob("*")
        if path.is_file()
    }
    data = {
        f"grm_service/_data/{kind}/{name}"
        for kind in ("models", "principles")
        for name in in_checkout(kind, "*.yaml")
    }
    assert min(len(code), len(page), len(data)) > 5
    assert (code | page | data | {"grm_service/py.typed"}) <= names


def test_extras(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    assert set(metadata.get_all("Provides-Extra")) == {"cpu", "local", "eval", "train", "postgres", "otel"}


def test_serves_from_a_clean_environment(clean, tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GRM_", "PYTHON"))}
    env |= {
        "GRM_AUDIT_URL": f"sqlite:///{tmp_path}/audit.db",
        "GRM_AUDIT_KEY_FILE": str(tmp_path / "audit.key"),
    }
    command = [clean / "grm", "serve", "--engine", "scripted", "--port", "0"]
    server = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    try:
        log = iter(server.stderr.readline, "")
        url = next(match[1] for line in log if (match := re.search(r"serving on (http://\S+)", line)))
        assert _post(url, PAIR)["best"] in (0, 1)
        assert {each["name"] for each in _get(url, "/v1/profiles")} >= {"smollm2-judge"}
        with urllib.request.urlopen(url) as page:
            assert b"<html" in page.read()
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert server.returncode == 0


def test_client_imports_without_the_server(clean, tmp_path):
    code = "import sys, grm_service.client; print('fastapi' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run(
        [clean / "python", "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def _post(url, body):
    request = urllib.request.Request(
        url + "/v1/rewards", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


def _get(url, path):
    with urllib.request.urlopen(url + path) as reply:
        return json.load(reply)
