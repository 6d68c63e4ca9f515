"""A chat server on 127.0.0.1 with the habits of a real one: it judges the response with GOOD to be better."""

import re
import traceback

from tests.engines.loopback import Loopback

_RESPONSE = re.compile(r"\[The Begin of Response (\d+)\]\n(.*?)\n\[The End of Response \1\]", re.DOTALL)
_BROKEN_WORDS = {"Par": "is", "Tues": "day", "Ber": "lin"}


class Habitual(Loopback):
    """Answers with `habit(self, body)`, which returns a status and a reply."""

    def __init__(self, habit):
        super().__init__()
        self.habit = habit

    def _reply(self, body):
        if not body:
            return super()._reply(body)
        try:
            return self.habit(self, body)
        except Exception:  # so that a mistake here does not look like a server that went away
            return 418, {"error": traceback.format_exc()}


def scores(body):
    """Return the scores of the responses in a prompt: 9 for those with GOOD, 2 for others."""
    asked = "\n".join(m["content"] for m in body["messages"] if m["role"] == "user")
    return [9 if "GOOD" in text else 2 for _, text in _RESPONSE.findall(asked)]


def critique(values):
    """Return a critique with these scores."""
    boxed = ", ".join(map(str, values))
    return f"Specific Criteria: 1. Correct (Weight: 100%)\nAnalysis: One is.\nScores: \\boxed{{{boxed}}}"


def answer(body):
    """Return what a judge answers at once."""
    return critique(scores(body)) if scores(body) else f"42 {body.get('seed')}"


def draft(body):
    """Return what a judge thinks first: the scores the wrong way round."""
    return critique([11 - score for score in scores(body)])


def reply(message, finish="stop", logprobs=False, **more):
    """Return a 200 with one choice; `message` None is a choice without one. Logprobs are of 0..19."""
    choice = {"index": 0, "finish_reason": finish} | ({} if message is None else {"message": message})
    if logprobs:
        top = [{"token": str(number), "logprob": -1.0 - number} for number in range(20)]
        choice["logprobs"] = {"content": [{"token": "0", "top_logprobs": top}]}
    return 200, {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 50}} | more


def refuse(words, status=400, **more):
    """Return an error."""
    return status, {"error": {"message": words, **more}}


def broken_word(body):
    """Return the rest of a word that the assistant's last message ends in, None if it is not continued."""
    last = body["messages"][-1]
    if last["role"] != "assistant" or not body.get("continue_final_message"):
        return None
    return next((rest for start, rest in _BROKEN_WORDS.items() if last["content"].endswith(start)), None)
