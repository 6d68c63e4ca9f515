"""The requests behind the example replies of the OpenAPI document.

`python -m tests.api.example_replies` records the replies of the scripted engine.
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi.testclient import TestClient

import grm_service.api
from grm_service.api.app import create_app
from grm_service.api.dialects.registry import DialectRegistry
from grm_service.factory import open_service
from grm_service.probes.cases import probes
from grm_service.settings import Settings

RECORDED = Path(grm_service.api.__file__).parent / "example_replies.json"
QUERY, GOOD, BAD = "What is the capital of Australia?", "Canberra.", "Sydney."
TURNS = [{"role": "user", "content": QUERY}]
CHAT = f"<|im_start|>user\n{QUERY}<|im_end|>\n<|im_start|>assistant\n"
PAIR = {"query": QUERY, "responses": [GOOD, BAD], "k": 2}
OUTPUTS = [{"output": [{"role": "assistant", "content": text}]} for text in (GOOD, BAD)]
ROW = {"responses_create_params": {"input": QUERY}, "response": OUTPUTS[0]}
POSTS = {
    "/v1/rewards": PAIR,
    "/v1/rewards/batch": [{**PAIR, "id": "a", "detail": "rewards"}, {"id": "b", "query": QUERY}],
    "/v1/principles": {"query": QUERY},
    "/v1/improve": {"query": QUERY, "draft": BAD, "n": 1, "rounds": 1, "revisions": 1, "detail": "rewards"},
    "/v1/verdicts/{id}/reviews": {"reviewer": "ann", "decision": "agree"},
    "/v1/rewards/single": {"query": QUERY, "response": GOOD},
    "/get_reward": {"query": [CHAT + GOOD], "prompts": [CHAT]},
    "/slime": {"prompt": CHAT, "response": GOOD},
    "/classify": {"input": CHAT + GOOD},
    "/v1/embeddings": {"input": CHAT + GOOD},
    "/rerank": {"query": QUERY, "documents": [BAD, GOOD]},
    "/score": {"text_1": QUERY, "text_2": [GOOD, BAD]},
    "/predict": {"inputs": [QUERY, GOOD]},
    "/seed_session": None,
    "/verify": ROW,
    "/aggregate_metrics": {"verify_responses": [{"reward": 9.0}, {"reward": 2.0}]},
    "/compare": {"conversation_history": TURNS, "response_objs": OUTPUTS},
    "/v1/chat/completions": {"messages": [*TURNS, {"role": "assistant", "content": GOOD}]},
}
GETS = (
    *("/v1/profiles", "/v1/principle-sets", "/v1/usage", "/livez", "/readyz", "/metrics", "/reverify_mode"),
    *("/v1/verdicts?limit=1&profile=smollm2-judge", "/v1/verdicts/{id}", "/v1/reviews/queue?limit=1"),
    *("/v1/reviews/stats", "/v1/reviews/export", "/v1/principles/observed", "/v1/probes"),
)
MOST = 3
"""The most items of a list, or lines of a text, in an example."""


def record():
    """Return an example reply of each route, by its path."""
    with TemporaryDirectory() as folder:
        trail = {"audit_url": f"sqlite:///{folder}/audit.db", "audit_key_file": f"{folder}/audit.key"}
        settings = Settings(engine="scripted", profile="smollm2-judge", group_window_s=0, **trail)
        service = open_service(settings)
        dialects = DialectRegistry.from_settings(settings)
        app = create_app(service, settings.max_body_bytes, settings.max_batch_bytes, dialects=dialects)
        with TestClient(app) as client:
            while not service.ready:
                time.sleep(0.01)
            probe = probes()[0]
            client.portal.call(app.state.probe_runner.run, (replace(probe, cases=probe.cases[:2]),))
            examples, id_ = {}, ""
            for path, body in POSTS.items():
                examples[path] = _read(client.post(path.format(id=id_), json=body))
                id_ = id_ or examples[path]["id"]
            client.post("/v1/rewards", json=PAIR | {"responses": [GOOD, GOOD]})  # a tie, to be reviewed
            for url in GETS:
                examples[url.partition("?")[0]] = _read(client.get(url.format(id=id_)))
    return examples


def _read(reply):
    assert reply.is_success, reply.text
    kind = reply.headers["content-type"]
    if kind.startswith("text/plain"):
        return "".join(reply.text.splitlines(keepends=True)[:MOST])
    value = reply.json()
    return value[:MOST] if isinstance(value, list) else value


if __name__ == "__main__":
    lines = (f"{json.dumps(path)}: {json.dumps(reply)}" for path, reply in record().items())
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
