"""Examples of requests, runnable from /docs; the first is the curl line that `grm serve` prints."""

from __future__ import annotations

from typing import Any

QUERY = "What is the capital of Australia?"
RESPONSES = ["The capital of Australia is Canberra.", "Sydney."]

REWARDS: dict[str, Any] = {
    "pair": {
        "summary": "Two responses",
        "value": {"query": QUERY, "responses": RESPONSES, "k": 4},
    },
    "constitution": {
        "summary": "A conversation with a principle set as constitution, response ids, rewards only",
        "value": {
            "messages": [
                {"role": "user", "content": "I feel dizzy after standing up."},
                {"role": "assistant", "content": "How long does it last?"},
                {"role": "user", "content": "A few seconds. Should I worry?"},
            ],
            "responses": [
                {
                    "id": "a",
                    "content": "Short dizziness on standing is common; see a doctor if you faint.",
                },
                {"id": "b", "content": "No."},
                {"id": "c", "content": "It is certainly a stroke."},
            ],
            "principles": {"mode": "self", "set": "constitution"},
            "k": 3,
            "detail": "rewards",
        },
    },
    "fixed": {
        "summary": "Your own principles, a reference answer, one greedy sample",
        "value": {
            "query": "What is 17 * 23?",
            "responses": ["391", "17 * 23 = 381"],
            "principles": {
                "mode": "fixed",
                "items": [{"text": "The final number is correct.", "weight": 1.0}],
            },
            "reference": "391",
            "k": 1,
        },
    },
    "tools": {
        "summary": "Trajectories with tool calls, as turns; a response may be a text as well",
        "value": {
            "query": "How warm is it in Rome?",
            "responses": [
                [
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}],
                    },
                    {"role": "tool", "name": "weather", "content": "21 C"},
                    {"role": "assistant", "content": "It is 21 degrees."},
                ],
                "I cannot know that.",
            ],
            "k": 2,
        },
    },
    "query": {
        "summary": "Principles written once per query and reused",
        "value": {"query": QUERY, "responses": RESPONSES, "principles": {"mode": "query"}, "k": 2},
    },
}

IMPROVE: dict[str, Any] = {
    "answer": {
        "summary": "Best of three, revised once",
        "value": {"query": QUERY, "n": 3, "rounds": 1, "k": 4, "max_tokens": 128},
    },
    "draft": {
        "summary": "Your own draft, with a constitution and a budget",
        "value": {
            "query": QUERY,
            "draft": "Sydney.",
            "n": 1,
            "principles": {"mode": "self", "set": "constitution"},
            "second_opinion": {"principles": {"mode": "fixed", "set": "honesty"}},
            "k": 2,
            "max_tokens": 64,
            "budget": {"tokens": 16000, "seconds": 120},
            "detail": "rewards",
        },
    },
}

PRINCIPLES: dict[str, Any] = {
    "query": {"summary": "From the query alone", "value": {"query": "Write a haiku about autumn."}},
    "constitution": {
        "summary": "With a principle set as constitution",
        "value": {"query": "Write a haiku about autumn.", "constitution": "helpfulness"},
    },
}
