"""Two replicas behind nginx, with the configuration from the documentation."""

import asyncio
import random
import shutil
import socket
import subprocess
from pathlib import Path

import aiohttp
import httpx
import pytest

from grm_service.client.asynchronous import _body
from tests.faults.test_faults import metric, served
from tests.waiting import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.conformance,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]
CONFIGURATION = Path(__file__).parents[2] / "examples" / "replicas.nginx.conf"


@pytest.fixture
async def replicas(tmp_path):
    """The URLs of two services, and of nginx in front of them."""
    with served() as (one, _), served() as (other, _), socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        text = CONFIGURATION.read_text().replace("listen 8080", f"listen 127.0.0.1:{port}")
        for name, address in (("grm-0:8000", one), ("grm-1:8000", other)):
            text = text.replace(name, address.removeprefix("http://"))
        path = tmp_path / "nginx.conf"
        path.write_text(
            f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{ worker_connections 4096; }}\n"
            f"http {{ access_log off; client_body_temp_path {tmp_path}; proxy_temp_path {tmp_path};\n"
            f"{text}}}"
        )
        free.close()
        command = ["nginx", "-p", str(tmp_path), "-e", "stderr", "-c", str(path)]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        running = subprocess.Popen(command)
        try:
            await until(lambda: _listens(port))
            yield one, other, f"http://127.0.0.1:{port}"
        finally:
            running.terminate()
            running.wait(60)


def _listens(port):
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


def turns(query):
    return [{"role": "user", "content": query}]


# The body that each client sends for a prompt and a response; see the module of each.
FORMS = {
    "slime": ("/slime", lambda query, response: {"prompt": query, "response": response, "label": None}),
    "slime's messages": ("/slime", lambda query, response: {"prompt": turns(query), "response": response}),
    "openrlhf": (
        "/get_reward",
        lambda query, response: {"query": [query + response], "prompts": [query], "labels": [None]},
    ),
    "gym": (
        "/verify",
        lambda query, response: {
            "responses_create_params": {"input": turns(query)},
            "response": {"output": [{"type": "message", "role": "assistant", "content": response}]},
            "_ng_group_id": f"group {query.split()[-1]}",
        },
    ),
    "ours": (
        "/v1/rewards/single",
        lambda query, response: {"query": query, "response": response, "group_id": None},
    ),
    # A different prompt, because the verdicts of the previous one would be replayed.
    "ours, messages": (
        "/v1/rewards/single",
        lambda query, response: _body({"query": turns(query + "?"), "response": response}),
    ),
    "verifiers": (
        "/verify",
        lambda query, response: {
            "responses_create_params": {"input": turns(query)},
            "response": {"output": [{"type": "message", "role": "assistant", "content": response}]},
        },
    ),
}


async def complete_groups(url):
    """Return the number of complete groups that a replica judged."""
    async with httpx.AsyncClient(base_url=url) as http:
        routes = ("slime", "openrlhf", "single", "nemo_gym")
        names = [f'grm_rendezvous_total{{outcome="complete",route="{route}"}}' for route in routes]
        return sum([await metric(http, name) for name in names])


async def test_groups_meet_in_one_replica(replicas):
    *services, proxy = replicas
    prompts = ['He response: "prompt", "response": ' + f"{i}\n" * 200 for i in range(16)]
    samples = [(prompt, f"Response {j}") for prompt in prompts for j in range(4)]
    random.Random(0).shuffle(samples)
    options = "?k=1&group=4&window_s=20"
    async with aiohttp.ClientSession(raise_for_status=True) as session, asyncio.timeout(140):
        for turn, (route, body) in enumerate(FORMS.values(), 1):
            replies = await asyncio.gather(
                *(session.post(proxy + route + options, json=body(*sample)) for sample in samples)
            )
            assert {reply.status for reply in replies} == {200}
            judged = [await complete_groups(service) for service in services]
            assert sum(judged) == 16 * turn, f"incomplete groups: {route}"
    assert min(judged) > 0, "both replicas judge"
