"""The images in a hardened container: read-only, no capabilities, no network (`make image-test`)."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]
DOCKER = shlex.split(os.environ.get("DOCKER", "docker"))
HARDENED = [
    "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges",
]  # fmt: skip
PAIR = Path(__file__).parents[1].joinpath("examples/pair.json").read_text(encoding="utf-8")
# The images have no curl: `python -c REQUEST METHOD PATH` sends stdin and prints status and body.
REQUEST = """
import http.client, sys
server = http.client.HTTPConnection("127.0.0.1", 8000)
server.request(sys.argv[1], sys.argv[2], sys.stdin.read(), {"Content-Type": "application/json"})
reply = server.getresponse()
print(reply.status, reply.read().decode())
"""


def docker(*args, stdin="", check=True):
    done = subprocess.run([*DOCKER, *args], input=stdin, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{args}: {done.stderr or done.stdout}"
    return done.stdout.strip()


def run_once(image, *command, flags=(), stdin="", check=True):
    """Run a command in a new container and return its output."""
    return docker(
        "run", "--rm", "--interactive", *HARDENED, *flags, image, *command, stdin=stdin, check=check
    )


@contextlib.contextmanager
def running(image, *flags):
    """Yield the name of a container whose server is alive."""
    name = docker("run", "--detach", *HARDENED, *flags, image)
    try:
        _until(lambda: _status(name, "/livez") == 200, name)
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


def send(name, method, path, body=""):
    """Send a request from inside a running container; return status and body."""
    output = docker("exec", "--interactive", name, "python", "-c", REQUEST, method, path, stdin=body)
    status, _, text = output.partition(" ")
    return int(status), json.loads(text)


def _status(name, path):
    with contextlib.suppress(AssertionError):  # the server is not listening yet
        return send(name, "GET", path)[0]
    return None


def _until(condition, name):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, docker("logs", name)
        time.sleep(0.2)


def _stop(name):
    """Send SIGTERM and return the exit status."""
    docker("kill", "--signal=TERM", name)
    return int(docker("wait", name))


@pytest.fixture(scope="module")
def cpu():
    with running("grm-service:cpu") as name:
        _until(lambda: _status(name, "/readyz") == 200, name)
        yield name


@pytest.fixture(scope="module", params=["slim", "cpu"])
def image(request):
    return f"grm-service:{request.param}"


def test_cpu_image_judges_offline(cpu):
    status, reply = send(cpu, "POST", "/v1/rewards", PAIR)
    assert status == 200
    assert reply["model"] == "Qwen/Qwen2.5-Coder-1.5B-Instruct"
    assert len(reply["rewards"]) == 2
    assert all(1 <= reward <= 9 for reward in reply["rewards"])


def test_verdict_is_in_the_trail(cpu):
    _, reply = send(cpu, "POST", "/v1/rewards", json.dumps(json.loads(PAIR) | {"k": 1}))
    assert send(cpu, "GET", f"/v1/verdicts/{reply['id']}")[0] == 200
    assert re.fullmatch(r"\d+:sha256:[0-9a-f]{64}", docker("exec", cpu, "grm", "audit", "verify"))


def test_sigterm_drains():
    with running("grm-service:cpu") as name:
        _until(lambda: _status(name, "/readyz") == 200, name)
        command = [*DOCKER, "exec", "--interactive", name, "python", "-c", REQUEST, "POST", "/v1/rewards"]
        judging = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        judging.stdin.write(PAIR)
        judging.stdin.close()
        _until(lambda: "grm_samples_in_flight 4.0" in docker("exec", name, "python", "-c", METRICS), name)
        docker("kill", "--signal=TERM", name)
        assert judging.stdout.read().startswith("200 ")
        judging.wait()
        judging.stdout.close()
        assert int(docker("wait", name)) == 0


METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/metrics').read().decode())"


def test_slim_image_waits_for_its_server():
    with running("grm-service:slim") as name:
        status, problem = send(name, "GET", "/readyz")
        assert (status, problem["code"]) == (503, "not_ready")
        _until(lambda: "not reachable yet" in send(name, "GET", "/readyz")[1]["detail"], name)
        assert _stop(name) == 0


def test_slim_image_is_small():
    assert int(docker("image", "inspect", "--format={{.Size}}", "grm-service:slim")) < 250e6
    code = "from importlib.util import find_spec; print(find_spec('torch'), find_spec('openvino'))"
    assert run_once("grm-service:slim", "-c", code, flags=["--entrypoint=python"]) == "None None"


def test_judge_command(image):
    reply = json.loads(run_once(image, "judge", "--engine", "scripted", "--json", stdin=PAIR))
    assert len(reply["rewards"]) == 2


def test_unprivileged_and_read_only(image):
    shell = "id -u; touch /opt/grm/x /etc/grm/x /x 2>&1 | grep -c Read-only; find /usr -perm /6000 -type f"
    assert run_once(image, "-c", shell, flags=["--entrypoint=sh"]).split() == ["10001", "3"]


def test_healthcheck_without_a_shell(image):
    test = json.loads(docker("image", "inspect", "--format={{json .Config.Healthcheck.Test}}", image))
    assert test[:2] == ["CMD", "python"]
    with running(image) as name:
        docker("exec", name, *test[1:])


def test_no_pip_or_pip_configuration(image):
    shell = "python -m pip --version; find / -xdev -name pip.conf; ls -A /run/secrets /root"
    output = run_once(image, "-c", shell, flags=["--entrypoint=sh", "--user=0"], check=False)
    assert output.replace("/root:", "").replace("/run/secrets:", "").split() == [".bashrc", ".profile"]


def test_mounted_profiles(image, tmp_path):
    root = Path(__file__).parents[1]
    profile = (root / "models/generic-judge.yaml").read_text(encoding="utf-8")
    tmp_path.chmod(0o755)
    (tmp_path / "mine.yaml").write_text(
        profile.replace("name: generic-judge", "name: mine"), encoding="utf-8"
    )
    output = run_once(image, "profiles", flags=[f"--volume={tmp_path}:/etc/grm/models:ro"])
    assert " mine " in output


def test_image_labels(image):
    labels = json.loads(docker("image", "inspect", "--format={{json .Config.Labels}}", image))
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert (labels["title"], labels["licenses"]) == ("grm-service", "Apache-2.0")
