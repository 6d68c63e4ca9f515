"""The wheel and the sdist: their contents, and judging with the tiny judge from each installed."""

import json
import os
import re
import subprocess
import sys
import tarfile
import urllib.request
import venv
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import pytest

from grm_service.profiles.catalog import load_catalog
from grm_service.profiles.model_files import WheelFile

ROOT = Path(__file__).parents[1]
PAIR = json.loads((ROOT / "examples/pair.json").read_text(encoding="utf-8"))
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the wheel and the sdist of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", folder]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (file,) = built.glob("grm_service-*-py3-none-any.whl")
    return file


@pytest.fixture(scope="module")
def sdist(built):
    (file,) = built.glob("grm_service-*.tar.gz")
    return file


@pytest.fixture(scope="module")
def in_wheel(wheel):
    """The path of each installed file, with its size in bytes."""
    with zipfile.ZipFile(wheel) as archive:
        files = {info.filename: info.file_size for info in archive.infolist()}
    return {name: size for name, size in files.items() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def in_sdist(sdist):
    """The path below the sdist's folder of each file, with its size in bytes."""
    with tarfile.open(sdist) as archive:
        return {
            member.name.partition("/")[2]: member.size for member in archive.getmembers() if member.isfile()
        }


def in_checkout(folder):
    """The files of a folder that belong to the project: no caches, and nothing hidden."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(ROOT).as_posix() for path in paths if not path.name.startswith(".")}


def installed(name):
    """The place of a file of the checkout in the wheel."""
    return name if name.startswith("grm_service/") else f"grm_service/_data/{name}"


def test_one_top_level_name(in_wheel):
    assert {name.split("/")[0] for name in in_wheel} == {"grm_service"}


@pytest.mark.parametrize("folder", ["grm_service", "models", "principles"])
def test_both_hold_every_file(in_wheel, in_sdist, folder):
    files = in_checkout(folder)
    assert len(files) > 5
    assert {installed(name) for name in files} <= in_wheel.keys()
    assert files <= in_sdist.keys()


def test_sdist_can_be_built(in_sdist):
    assert {"pyproject.toml", "README.md", "LICENSE"} <= in_sdist.keys()


def test_shipped_profiles_are_complete(in_wheel, in_sdist):
    """Everything that they name in the checkout is in both; what is downloaded has a version and a hash."""
    profiles = load_catalog().profiles.values()
    assert any(profile.adapter for profile in profiles)
    named = {name for profile in profiles for name in named_files(profile)}
    sizes = {name: (ROOT / name).stat().st_size for name in named}
    assert {name: in_sdist.get(name) for name in named} == sizes
    assert {name: in_wheel.get(installed(name)) for name in named} == sizes
    for gguf in filter(None, (profile.gguf for profile in profiles)):
        assert re.fullmatch(r"[0-9a-f]{64}", gguf.sha256)
        wheels = [source for source in gguf.sources if isinstance(source, WheelFile)]
        assert wheels, "some machines reach no hub"
        for number in range(1, wheels[0].parts + 1):
            assert re.fullmatch(r"[\w.-]+==[\w.]+", wheels[0].part(number)[0])


def named_files(profile):
    """Return the files of the checkout that a profile names: its adapter's, and those at paths."""
    paths = [Path(profile.adapter.folder) / file for file in ADAPTER_FILES] if profile.adapter else []
    for name in filter(None, (profile.model, profile.meta_rm)):
        if Path(name).is_absolute():  # the catalog resolves `./`
            paths += [path for path in Path(name).rglob("*") if path.is_file()] or [Path(name)]
    return {path.relative_to(ROOT).as_posix() for path in paths}


def test_extras(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    assert set(metadata.get_all("Provides-Extra")) == {"cpu", "local", "eval", "train", "postgres", "otel"}


@dataclass
class Installation:
    """An environment with the package and its dependencies, and an empty home outside the checkout."""

    bin: Path
    home: Path

    @property
    def env(self):
        """The caller's environment without anything that leads to the checkout or to a cache."""
        hidden = ("GRM_", "PYTHON", "XDG_", "HF_", "VIRTUAL_ENV")
        env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        own = {"HOME": str(self.home), "PIP_CACHE_DIR": str(self.home / "pip")}
        return env | own | {"GRM_PROFILE": "smollm2-judge"}

    def run(self, *command):
        return subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=self.home, env=self.env, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The `bin` folder of an environment with the dependencies of the default engine."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin/pip", "install", "--quiet", f"{wheel}[cpu]"], check=True)
    return folder / "bin"


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installation(request, environment, tmp_path_factory):
    """The package, installed from the wheel or built and installed from the sdist."""
    file = request.getfixturevalue(request.param)
    install = ["install", "--quiet", "--no-deps", "--force-reinstall", file]
    subprocess.run([environment / "pip", *install], check=True)
    return Installation(environment, tmp_path_factory.mktemp("home"))


@pytest.mark.slow  # needs a package index, and minutes
@pytest.mark.timeout(1500)
def test_judges_from_an_installation(installation):
    installation.run("grm", "models", "fetch")
    server = subprocess.Popen(
        [installation.bin / "grm", "serve", "--port", "0"],
        cwd=installation.home, env=installation.env, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        log = iter(server.stderr.readline, "")
        url = next(match[1] for line in log if (match := re.search(r"serving on (http://\S+)", line)))
        reply = _post(url, PAIR)
        assert reply["best"] in (0, 1)
        assert all(1 <= reward <= 10 for reward in reply["rewards"])
        assert (reply["profile"], reply["model"]) == ("smollm2-judge", "grm-service/smollm2-judge")
        with urllib.request.urlopen(url + "/readyz") as ready:
            assert json.load(ready)["engine"] == "openvino"
        with urllib.request.urlopen(url) as page:
            assert b"<html" in page.read()
    finally:
        server.terminate()
        server.communicate(timeout=120)
    assert server.returncode == 0


@pytest.mark.slow  # needs a package index, and minutes
@pytest.mark.timeout(1500)
def test_client_imports_without_the_server(installation):
    code = "import sys, grm_service.client; print('fastapi' in sys.modules, 'pydantic' in sys.modules)"
    assert installation.run("python", "-I", "-c", code).split() == ["False", "False"]


def _post(url, body):
    request = urllib.request.Request(
        url + "/v1/rewards", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)
