"""Mutated valid bodies of all POST routes, sent to a server: `python -m tests.faults.fuzzed_bodies URL`.

Prints the replies by route and status, and each body that got an undocumented 5xx. The same seed gives the
same bodies.
"""

import argparse
import asyncio
import json
import random
import sys
import zlib
from collections import Counter
from collections.abc import Iterator

import httpx

TURN = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
PAIR = {"query": "q", "responses": ["a", "b"], "k": 1, "detail": "rewards"}
ROW = {
    "responses_create_params": {"input": "q"},
    "response": {"output": [ANSWER]},
    "_ng_group_id": "g",
    "_ng_task_index": 1,
}
VALID = {
    "/v1/rewards": PAIR | {"reference": "r", "principles": {"mode": "fixed", "items": [{"text": "t"}]}},
    "/v1/principles": {"messages": [TURN], "constitution": "helpfulness"},
    "/v1/improve": {"query": "q", "n": 1, "revisions": 1, "rounds": 0, "k": 1, "budget": {"tokens": 1000}},
    "/v1/rewards/batch": [PAIR | {"id": "a"}, PAIR | {"id": "b"}],
    "/v1/rewards/single": {"query": "q", "response": {"content": [{"type": "text", "text": "a"}]}},
    "/get_reward": {"query": ["qa"], "prompts": ["q"], "labels": ["l"]},
    "/slime": {"prompt": "q", "response": "a", "label": ["l", 1]},
    "/classify": {"messages": [TURN, ANSWER]},
    "/v1/embeddings": {"model": "m", "messages": [TURN, ANSWER]},
    "/rerank": {"query": "q", "documents": ["a", "b"], "top_n": 1},
    "/score": {"text_1": "q", "text_2": ["a", "b"]},
    "/predict": {"inputs": [["q", "a"]]},
    "/verify": ROW,
    "/aggregate_metrics": {"verify_responses": [{"_ng_task_index": 1, "reward": 1.0, "n": 2}]},
    "/compare": {"conversation_history": [TURN], "response_objs": [{"output": [ANSWER]}] * 2},
    "/v1/chat/completions": {"model": "m", "messages": [TURN, ANSWER]},
    "/v1/verdicts/v/reviews": {"reviewer": "r", "decision": "agree", "note": "n"},
}
"""A valid body of each POST route."""
EXPECTED_5XX = {
    "all_unreadable", "principles_unreadable", "deadline_exceeded", "siblings_missing", "judge_failed",
}  # fmt: skip
_TYPES = [
    "application/json", "application/json; charset=utf-16", "application/x-ndjson", "text/plain", "",
    "application/merge-patch+json", "APPLICATION/JSON", "multipart/form-data", "application/json; a=\xe9",
]  # fmt: skip
_ENCODINGS = ["utf-8-sig", "utf-16", "utf-32", "latin-1", "ascii"]


class Raw(str):
    """JSON text that json.dumps would not write."""


_HOSTILE = [
    None, True, 0, -1, 0.5, "", "x" * 5000, "\x00", "\ud800", "\u202e\ufeff", [], {}, [[]], [None], {"": {}},
    {"\ud800": 1}, {"\x00": 1}, "NaN", "../../etc/passwd", "<|im_end|>", 2**63, -(2**63) - 1, 10**400,
    float("nan"), float("inf"), Raw("1e400"), Raw("1e-320"), Raw("9" * 5000), Raw("-0"), Raw('{"a":1,"a":2}'),
    Raw("[" * 90 + "]" * 90), Raw("[" * 190 + "]" * 190), Raw("[" * 250 + "]" * 250),
    Raw('{"a":' * 900 + "1" + "}" * 900), Raw("[" * 5000), Raw('"\\ud800\\ud800"'), Raw("/**/1"), Raw("'a'"),
]  # fmt: skip


def bodies(seed: int, count: int) -> Iterator[tuple[str, dict[str, str], bytes]]:
    """Yield `count` requests: path, headers and body."""
    rng = random.Random(seed)
    for _ in range(count):
        path = rng.choice(list(VALID))
        value = VALID[path]
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            value = _changed(rng, value)
        content, headers = _bytes(rng, _dumps(value)), {"Content-Type": "application/json"}
        if rng.random() < 0.1:
            headers["Content-Type"] = rng.choice(_TYPES)
        if rng.random() < 0.1:
            headers["Accept"] = rng.choice(["text/event-stream", "application/x-ndjson", "*/*"])
        if rng.random() < 0.05:
            headers["Content-Encoding"] = rng.choice(["gzip", "gzip", "identity", "br"])
            if rng.random() < 0.8:
                content = zlib.compress(content, wbits=31)[: rng.choice([None, None, 9, -1])]
        yield path, headers, content


def _changed(rng: random.Random, value: object) -> object:
    """Return the value with one place in it replaced, removed, doubled or added."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.8:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key, copy = rng.choice(keys), value.copy()
        kind = rng.random()
        if kind < 0.1:
            del copy[key]
        elif kind < 0.2 and isinstance(copy, list):
            copy *= rng.choice([2, 70])
        elif kind < 0.2:
            copy[rng.choice(["unknown", "\ud800", "k", "seed", "label", "shaping"])] = rng.choice(_HOSTILE)
        else:
            copy[key] = _changed(rng, copy[key])
        return copy
    return rng.choice(_HOSTILE)


def _dumps(value: object) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_dumps(field)}" for name, field in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dumps, value)) + "]"
    return json.dumps(value)


def _bytes(rng: random.Random, text: str) -> bytes:
    content = text.encode()
    match rng.randrange(20):
        case 0:
            return content[: rng.randrange(len(content) + 1)]
        case 1:
            place = rng.randrange(len(content) + 1)
            return content[:place] + rng.randbytes(rng.randrange(4)) + content[place:]
        case 2:
            return text.encode(rng.choice(_ENCODINGS), "replace")
        case 3:
            return content * 2
    return content


def to_url(path: str) -> str:
    """Return the path with options of dialects that make replies quick."""
    native = {"/v1/rewards", "/v1/rewards/batch", "/v1/principles", "/v1/improve", "/v1/verdicts/v/reviews"}
    return path if path in native or path == "/aggregate_metrics" else f"{path}?window_s=0&k=1"


async def send(
    client: httpx.AsyncClient, seed: int, count: int
) -> tuple[Counter[tuple[str, int]], list[str]]:
    """Return the replies by route and status, and the requests that broke the server."""
    statuses, broken = Counter[tuple[str, int]](), list[str]()
    for path, headers, content in bodies(seed, count):
        url = to_url(path)
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        reply = await client.post(url, content=content, headers=encoded)
        statuses[path, reply.status_code] += 1
        is_problem = reply.headers.get("content-type") == "application/problem+json"
        expected = is_problem and reply.json()["code"] in EXPECTED_5XX
        if "internal" in reply.text or (reply.status_code >= 500 and not expected):
            broken.append(f"{reply.status_code} {url} {headers} {content[:300]!r}: {reply.text[:300]}")
    return statuses, broken


async def _main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    async with httpx.AsyncClient(base_url=args.url, timeout=60) as client:
        statuses, broken = await send(client, args.seed, args.count)
    totals = Counter[int]()
    for (path, status), number in sorted(statuses.items()):
        totals[status] += number
        print(f"{path:28} {status} {number:6}")
    print(f"{args.count} bodies, by status: {dict(sorted(totals.items()))}")
    print("\n".join(broken))
    return bool(broken)


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
