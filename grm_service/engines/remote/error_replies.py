"""What an error reply of a server means: its status, its words, and the exception to raise.

Servers report errors by status, or in the body of a 200 (`find_error`), in the words of their vendor. Change
here what counts as a prompt that is too long (`_LENGTH`), as a content filter (`_FILTER`) or as an error that
any request would get (`_DENIED`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from grm_service.errors import (
    ContentFiltered,
    GRMError,
    PromptRefused,
    PromptTooLong,
    UpstreamDenied,
    UpstreamRefused,
)

# Too slow, a conflict, another server's failure (TGI), too early, too many, no capacity (Groq), cancelled.
_TRANSIENT = (408, 409, 424, 425, 429, 498, 499)
_MAX_REASON = 500
_MAX_DEPTH = 6
# The parts of a reply under which servers put the error itself, or the error of another server behind them.
_NESTED = ("error", "errors", "message", "detail", "innererror", "inner_error", "metadata", "raw")
_MESSAGES = ("message", "Message", "msg", "error", "detail", "raw", "error_description")
_CODES = ("code", "type", "status", "error_type", "finish_reason", "native_finish_reason", "blockReason")
_STATUSES = ("code", "status_code", "status", "http_status", "http_code")
_NAMED_STATUSES = {
    400: r"invalid_?(?:request|argument|parameter|prompt)|bad_?request|validation|failed_?precondition",
    401: r"unauthenticated|unauthorized|authentication",
    402: r"payment|billing|insufficient_(?:balance|credit)",
    403: r"permission|forbidden",
    404: r"not_?found",
    413: r"request_too_large",
    429: r"rate_?limit|resource_?exhausted|too_?many_?requests|throttl|quota",
    503: r"unavailable|overloaded",
    504: r"deadline_?exceeded|time_?out",
    500: r"internal|server_?error|api_?error",
}


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error as a server reports it.

    `status`: an HTTP status, 300..599, None if the server states none that can be read. `codes`: its labels,
    such as "rate_limit_exceeded". `param`: the request field that it names. `reason`: its words in one line
    of at most 500 characters, without control characters.
    """

    status: int | None
    codes: tuple[str, ...]
    param: str | None
    reason: str

    @classmethod
    def of(cls, body: Any, status: int | None = None) -> ErrorReply:
        """Return the error in a reply, a JSON value or a text; `status` is the reply's own, if it has one."""
        layers = list(_layers(body))
        codes = [code for layer in layers for key in _CODES if (code := _label(layer.get(key)))]
        messages = dict.fromkeys(
            text for layer in layers for key in _MESSAGES if isinstance(text := layer.get(key), str) and text
        )
        reason = one_line("; ".join(messages) if messages else body if isinstance(body, str) else "")
        return cls(
            status or _status(layers, codes), tuple(dict.fromkeys(codes)), _param(layers, reason), reason
        )

    @property
    def summary(self) -> str:
        """The status, labels and field: what a log may have, since servers quote requests in their words."""
        parts = [str(self.status or ""), *self.codes, self.param and f"param {self.param}"]
        return ", ".join(dict.fromkeys(part for part in parts if part)) or "no code"

    def refusal(self, address: str, max_tokens: int = 0) -> GRMError | None:
        """Return the exception of a permanent refusal, None if the same request may succeed later.

        `max_tokens` is what the refused request wanted at most.
        """
        words = " ".join((*self.codes, self.reason))
        if self.status in _TRANSIENT:
            return None
        if _LENGTH.search(words):
            return self._too_long(address, max_tokens)
        if _FILTER.search(words):
            return self._refused(ContentFiltered, f"the content filter of {address} refused the request")
        if self.status is not None and self.status >= 500:
            return None
        if self.status in _REMEDIES or _DENIED.search(words):
            remedy = _REMEDIES.get(self.status or 0, _ANY_REMEDY)
            return self._refused(UpstreamDenied, f"{address} refuses every request, {remedy}")
        if self.status is None:
            return None
        return self._refused(UpstreamRefused, f"{address} refused the request")

    def _refused(self, kind: type[UpstreamRefused], what: str) -> UpstreamRefused:
        return kind(f"{what} ({self.summary})", self.reason, self.status, self.param)

    def _too_long(self, address: str, max_tokens: int) -> PromptTooLong:
        limit, prompt = (_first_number(patterns, self.reason) for patterns in (_LIMIT, _PROMPT))
        if limit is not None and prompt is not None and prompt + max_tokens > limit:
            return PromptTooLong(prompt, max_tokens, limit)
        return PromptRefused(f"{address} refused the prompt as too long ({self.summary})", self.reason)


def find_error(body: Any) -> ErrorReply | None:
    """Return the error in the body of a 200, None if there is none: any JSON value.

    An error counts whatever else the body has; a `code` or `status` counts only without a result. A choice
    that a content filter has ended is an error too.
    """
    if isinstance(body, list):  # Gemini puts an error in a list
        body = _first(body)
    if not isinstance(body, dict):
        return None
    choice = _first(body.get("choices"))
    choice = choice if isinstance(choice, dict) else {}
    for holder in (body, choice):
        if holder.get("error") or holder.get("errors"):
            return ErrorReply.of(holder)
    if not body.get("choices") and not body.get("data"):
        if body.get("object") == "error" or body.get("type") == "error" or _status([body], []) is not None:
            return ErrorReply.of(body)
        feedback = body.get("promptFeedback")
        if isinstance(feedback, dict) and (why := feedback.get("blockReason")):
            return ErrorReply(None, ("content_filter",), None, one_line(why if isinstance(why, str) else ""))
    return _filtered(choice)


def _filtered(choice: Mapping[str, Any]) -> ErrorReply | None:
    """Return the error of a choice that a content filter ended, whatever text it has left."""
    message, why = choice.get("message"), choice.get("finish_reason")
    if not isinstance(why, str) or not _FILTER.search(why):
        return None
    words = message.get("refusal") if isinstance(message, dict) else None
    return ErrorReply(None, ("content_filter",), None, one_line(words if isinstance(words, str) else why))


def _layers(body: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the objects of an error, the outermost first."""
    body = _first(body) if isinstance(body, list) else body
    if isinstance(body, dict) and depth < _MAX_DEPTH:
        yield body
        for key in _NESTED:
            yield from _layers(body.get(key), depth + 1)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def _label(value: Any) -> str | None:
    """Return a label of a server; what is not one, such as a sentence, may quote the request."""
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}", value) else None


def _status(layers: list[dict[str, Any]], codes: list[str]) -> int | None:
    values = [
        layer[key] for layer in layers for key in _STATUSES if type(layer.get(key)) in (int, float, str)
    ]
    matches = filter(None, (re.match(r"[45]\d\d(?!\d)", str(value)) for value in values))
    if (first := next(matches, None)) is not None:
        return int(first[0])
    names = (status for code in codes for status, name in _NAMED_STATUSES.items() if _named(name, code))
    return next(names, None)


def _named(name: str, code: str) -> bool:
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", code)
    return re.search(name, snake, re.IGNORECASE) is not None


def _param(layers: list[dict[str, Any]], reason: str) -> str | None:
    """Return the request field that an error names: as a value, a pydantic location, or in its words."""
    for layer in layers:
        name, location = layer.get("param"), layer.get("loc")
        if isinstance(location, list):
            name = next((part for part in reversed(location) if isinstance(part, str)), None)
        if isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_.\[\]-]{1,64}", name):
            return name
    match = _FIELD.search(reason)
    return next(filter(None, match.groups()), None) if match else None


def one_line(text: str) -> str:
    """Return a server's text on one line without control and format characters, cut to 500 characters."""
    kept = "".join(char for char in text[: 4 * _MAX_REASON] if char.isprintable() or char.isspace())
    return " ".join(kept.split())[:_MAX_REASON]


def _first_number(patterns: tuple[str, ...], text: str) -> int | None:
    matches = (re.search(pattern, text, re.IGNORECASE) for pattern in patterns)
    return next((int(match[1].replace(",", "")) for match in matches if match), None)


_KEYS = "check GRM_OPENAI_API_KEY, GRM_POLICY_API_KEY or GRM_META_RM_API_KEY"
_ADDRESSES = "check GRM_OPENAI_BASE_URL, GRM_POLICY_URL or GRM_META_RM_URL"
_MODELS = "GRM_OPENAI_MODEL, GRM_POLICY_MODEL or GRM_META_RM"
_REMEDIES = {
    401: f"since it does not accept the key: {_KEYS}",
    402: "since the account has no credit: add some",
    403: f"since the key has no access: {_KEYS}",
    404: f"since the model or the path is unknown: {_ADDRESSES}, and {_MODELS}",
    405: f"since the path is wrong: {_ADDRESSES}",
    **dict.fromkeys((301, 302, 303, 307, 308), f"since it redirects them: {_ADDRESSES}"),
}
_ANY_REMEDY = f"since the key or the model is wrong: {_KEYS}, and {_MODELS}"
_DENIED = re.compile(
    r"api.?key.{0,20}(?:not valid|invalid|incorrect|expired)|"
    r"(?:invalid|incorrect|wrong|missing).{0,12}api.?key|"
    r"model_not_found|(?:invalid|unknown|no such) model\b|not a valid model|"
    r"\bmodel\b.{0,100}(?:does not exist|not found)|insufficient.{0,9}(?:balance|credit|funds)",
    re.IGNORECASE,
)
_FILTER = re.compile(
    r"content.?(?:filter|policy|management|moderation|exists risk)|responsible.?ai|prohibited.?content|"
    r"\b(?:safety|blocklist|spii)\b|^sensitive$|sensitive (?:content|word)|moderation|flagged|"
    r"data.?inspection|guardrail|usage polic|^recitation$",
    re.IGNORECASE,
)
# Of vLLM, SGLang, llama.cpp, TGI, OpenAI, Anthropic, Gemini, Mistral, Cohere, Bedrock, xAI and others.
_LENGTH = re.compile(
    r"context[ _-]?(?:length|size|window|limit)|max_model_len|prompt_too_long|maximum context|"
    r"\b(?:prompt|input|request|message|conversation|context|text|token)s?\b[^.]{0,60} too (?:long|large)|"
    r"too many (?:input )?tokens|tokens? (?:count|length)\b.{0,40}exceed|`inputs` (?:tokens|must have less)|"
    r"inputs? length.{0,40}(?:exceed|should be)|exceeds?\b.{0,40}(?:maximum|max|limit).{0,30}tokens|"
    r"(?:maximum|max) (?:prompt|input|sequence) length|token count is .{0,20} but|reduce the length|"
    r"too large for model|longer than the maximum|超长|过长",
    re.IGNORECASE,
)
_N = r"(\d[\d,]{0,11})(?![\d,]*\d)"
_LIMIT = (
    rf"context (?:length|size|window)\D{{0,25}}{_N}",
    rf"(?:must be <=|must have less than|cannot exceed|limit is|supports up to) {_N}",
    rf"{_N} maximum",
    rf"maximum (?:model length of|allowed length) \(?{_N}",
    rf"> {_N}",
    rf"(?:tokens allowed|maximum (?:prompt|input) length)\D{{0,6}}{_N}",
)
_PROMPT = (
    rf"{_N} (?:input tokens|tokens from the input|in the messages|in your prompt|`inputs`)",
    rf"(?:input|request) \({_N} tokens",
    rf"(?:given:|contains?|too long:|received|resulted in|token count(?: is)?|current length is) \(?{_N}",
    rf"(?:prompt|input) length \(?{_N}",
    rf"\(length {_N}\)",
)
_FIELD = re.compile(
    r"unknown name \"(\w{1,64})\"|"
    r"(?:parameter|argument|field|property|value)s?(?: supplied)?:? ['\"`]?(\w{1,64})['\"`]|"
    r"['\"`](\w{1,64})['\"`] (?:is |does )?(?:not|un)\b|^(\w{1,64}): extra inputs",
    re.IGNORECASE,
)
