"""A mock transport that answers from a list, and an engine on top of it."""

import json

import httpx

from grm_service.engines.remote.openai import OpenAIEngine
from grm_service.types import Message, Prompt

ASK = Prompt((Message("user", "Hello"),))
GOOD = {
    "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
}


class ScriptedServer:
    """Answers from a list, repeating the last answer, and records its requests."""

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer = answer(json.loads(request.content or b"{}")) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer[0], **answer[1])


def engine(server, **options):
    return OpenAIEngine("http://judge.test/v1/", "m", transport=httpx.MockTransport(server), **options)


OK = (200, {"json": GOOD})
