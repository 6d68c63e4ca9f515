"""The images as they should be run: read-only, without rights or network. `make image-test` builds them."""

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
# The images have no curl: `python -c ASK METHOD PATH` sends what comes on stdin and prints status and body.
ASK = """
import http.client, sys
server = http.client.HTTPConnection("127.0.0.1", 8000)
server.request(sys.argv[1], sys.argv[2], sys.stdin.read(), {"Content-Type": "application/json"})
reply = server.getresponse()
print(reply.status, reply.read().decode())
"""


def docker(*args, stdin="", fine=True):
    done = subprocess.run([*DOCKER, *args], input=stdin, capture_output=True, text=True, check=False)
    assert not fine or done.returncode == 0, f"{args}: {done.stderr or done.stdout}"
    return done.stdout.strip()


def once(image, *command, flags=(), stdin="", fine=True):
    """What a container of its own prints."""
    return docker("run", "--rm", "--interactive", *HARDENED, *flags, image, *command, stdin=stdin, fine=fine)


@contextlib.contextmanager
def running(image, *flags):
    """The name of a container whose server is alive."""
    name = docker("run", "--detach", *HARDENED, *flags, image)
    try:
        _until(lambda: _said(name, "/livez") == 200, name)
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


def ask(name, method, path, body=""):
    """Status and body of a request to a running container, from inside it."""
    said = docker("exec", "--interactive", name, "python", "-c", ASK, method, path, stdin=body)
    status, _, text = said.partition(" ")
    return int(status), json.loads(text)


def _said(name, path):
    with contextlib.suppress(AssertionError):  # nothing listens yet
        return ask(name, "GET", path)[0]
    return None


def _until(condition, name):
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, docker("logs", name)
        time.sleep(0.2)


def _stopped(name):
    """The exit status after SIGTERM."""
    docker("kill", "--signal=TERM", name)
    return int(docker("wait", name))


@pytest.fixture(scope="module")
def cpu():
    with running("grm-service:cpu") as name:
        _until(lambda: _said(name, "/readyz") == 200, name)
        yield name


@pytest.fixture(scope="module", params=["slim", "cpu"])
def image(request):
    return f"grm-service:{request.param}"


def test_the_cpu_image_judges_without_a_network(cpu):
    status, reply = ask(cpu, "POST", "/v1/rewards", PAIR)
    assert status == 200
    assert reply["model"] == "grm-service/smollm2-judge"
    assert len(reply["rewards"]) == 2
    assert all(1 <= reward <= 10 for reward in reply["rewards"])


def test_a_verdict_is_in_the_trail_of_the_volume(cpu):
    _, reply = ask(cpu, "POST", "/v1/rewards", json.dumps(json.loads(PAIR) | {"k": 1}))
    assert ask(cpu, "GET", f"/v1/verdicts/{reply['id']}")[0] == 200
    assert re.fullmatch(r"\d+:sha256:[0-9a-f]{64}", docker("exec", cpu, "grm", "audit", "verify"))


def test_what_runs_when_sigterm_comes_is_finished():
    with running("grm-service:cpu") as name:
        _until(lambda: _said(name, "/readyz") == 200, name)
        command = [*DOCKER, "exec", "--interactive", name, "python", "-c", ASK, "POST", "/v1/rewards"]
        judging = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        judging.stdin.write(PAIR)
        judging.stdin.close()
        _until(lambda: "grm_samples_in_flight 8.0" in docker("exec", name, "python", "-c", METRICS), name)
        docker("kill", "--signal=TERM", name)
        assert judging.stdout.read().startswith("200 ")
        judging.wait()
        judging.stdout.close()
        assert int(docker("wait", name)) == 0


METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/metrics').read().decode())"


def test_the_slim_image_is_alive_and_waits_for_its_server():
    with running("grm-service:slim") as name:
        status, problem = ask(name, "GET", "/readyz")
        assert (status, problem["code"]) == (503, "not_ready")
        _until(lambda: "waited for" in ask(name, "GET", "/readyz")[1]["detail"], name)
        assert _stopped(name) == 0


def test_the_slim_image_has_no_torch_and_less_than_250_mb():
    assert int(docker("image", "inspect", "--format={{.Size}}", "grm-service:slim")) < 250e6
    found = "from importlib.util import find_spec; print(find_spec('torch'), find_spec('openvino'))"
    assert once("grm-service:slim", "-c", found, flags=["--entrypoint=python"]) == "None None"


def test_it_judges_by_command_too(image):
    reply = json.loads(once(image, "judge", "--engine", "scripted", "--json", stdin=PAIR))
    assert len(reply["rewards"]) == 2


def test_it_runs_as_nobody_in_particular_and_cannot_write_to_itself(image):
    shell = "id -u; touch /opt/grm/x /etc/grm/x /x 2>&1 | grep -c Read-only; find /usr -perm /6000 -type f"
    assert once(image, "-c", shell, flags=["--entrypoint=sh"]).split() == ["10001", "3"]


def test_its_health_is_checked_without_a_shell(image):
    test = json.loads(docker("image", "inspect", "--format={{json .Config.Healthcheck.Test}}", image))
    assert test[:2] == ["CMD", "python"]
    with running(image) as name:
        docker("exec", name, *test[1:])


def test_it_carries_no_pip_and_no_configuration_of_one(image):
    shell = "python -m pip --version; find / -xdev -name pip.conf; ls -A /run/secrets /root"
    said = once(image, "-c", shell, flags=["--entrypoint=sh", "--user=0"], fine=False)
    assert said.replace("/root:", "").replace("/run/secrets:", "").split() == [".bashrc", ".profile"]


def test_profiles_and_principles_of_your_own_are_mounted(image, tmp_path):
    root = Path(__file__).parents[1]
    profile = (root / "models/generic-judge.yaml").read_text(encoding="utf-8")
    tmp_path.chmod(0o755)
    (tmp_path / "mine.yaml").write_text(
        profile.replace("name: generic-judge", "name: mine"), encoding="utf-8"
    )
    said = once(image, "profiles", flags=[f"--volume={tmp_path}:/etc/grm/models:ro"])
    assert " mine " in said


def test_it_says_what_it_is(image):
    labels = json.loads(docker("image", "inspect", "--format={{json .Config.Labels}}", image))
    told = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert (told["title"], told["licenses"]) == ("grm-service", "Apache-2.0")
