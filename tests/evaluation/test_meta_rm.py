"""grm eval with a meta RM on a server: the same samples, voted with and without it."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli.test_cli import run


class Grading(BaseHTTPRequestHandler):
    """Answers like vLLM's /classify; judgements that rank a right response first get the higher grade."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({"data": [{"id": "graders-own"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        user, assistant = (turn["content"] for turn in body["messages"])
        scores = assistant.rpartition("boxed{")[2].partition("}")[0].split(",")
        responses = [part.split("[The End")[0] for part in user.split("[The Begin of Response ")[1:]]
        best = max(zip(map(int, scores), responses, strict=True))[1] if responses else ""
        self.answer({"data": [{"index": 0, "probs": [0.9 if "right" in best else 0.2]}]})

    def answer(self, body):
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@contextmanager
def grading():
    with ThreadingHTTPServer(("127.0.0.1", 0), Grading) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def evaluate(tmp_path):
    data = tmp_path / "data.jsonl"
    rows = [
        {
            "id": str(i),
            "source": "s",
            "messages": [{"role": "user", "content": f"Question {i}?"}],
            "responses": [f"a right answer, {i}", f"a wrong answer, {i}"],
            "preferred": 0,
        }
        for i in range(30)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trail = {"GRM_AUDIT_URL": f"sqlite:///{tmp_path}/a.db", "GRM_AUDIT_KEY_FILE": str(tmp_path / "a.key")}

    def evaluate(name, code=0, **env):
        args = ["eval", str(data), "--out", str(tmp_path / name), "--k", "8", "--engine", "scripted"]
        args += ["--profile", "smollm2-135m"]  # the server above parses its prompt
        result = run(*args, env=trail | env)
        assert result.exit_code == code, result.output
        return result, tmp_path / name

    return evaluate


def test_report_has_votes_with_meta_rm(evaluate):
    with grading() as url:
        _, graded = evaluate("graded", GRM_META_RM_URL=url, GRM_META_RM="m", GRM_SCRIPT="content")
    _, plain = evaluate("plain")
    one, other = (json.loads((folder / "report.json").read_text()) for folder in (graded, plain))
    votes = {each["vote"]: each["half"] for each in one["votes"]}
    assert votes.pop("meta") > votes["mean"]
    assert votes == {each["vote"]: each["half"] for each in other["votes"]}
    assert one["overall"] == other["overall"]
    assert one["grading"]["n"] == 240
    assert one["grading"]["auc"]["value"] > 0.9, "ties at the top are wrong, and look right"
    assert other["grading"] is None
    assert "| meta |" in (graded / "report.md").read_text()
    compared = run("eval", "compare", str(graded), f"{graded}@meta")
    assert compared.exit_code == 0, compared.output
    refused = run("eval", "compare", str(plain), f"{plain}@meta")
    assert refused.exit_code == 1
    assert "these samples were not graded" in refused.stderr


def test_unreachable_meta_rm_ends_the_run(evaluate):
    with grading() as url:
        pass
    result, _ = evaluate("gone", code=1, GRM_META_RM_URL=url, GRM_META_RM="m")
    assert "cannot be reached" in result.stderr
