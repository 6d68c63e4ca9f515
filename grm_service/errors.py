"""The exceptions that several modules share, below GRMError. Their codes are stable and part of the API."""

from __future__ import annotations

import copyreg
from asyncio import CancelledError
from collections import Counter
from collections.abc import Sequence

from grm_service.types import Sample


class GRMError(Exception):
    """Base class of all exceptions of this package.

    `retryable`: the same request may succeed later. `label` is finer than the code, for metrics. `reason`: a
    remote server's own words, "" if there are none. They may quote the request, so the exception's text has
    them, for the caller, and `message`, for logs, does not.
    """

    code = "internal"
    retryable = False
    label: str | None = None

    def __init__(self, message: str = "", reason: str = "") -> None:
        super().__init__(f"{message}: {reason}" if reason else message)
        self.message, self.reason = message, reason

    def __reduce__(self) -> tuple[object, ...]:
        # Engines raise in other processes. By default pickle would call the constructor with the message.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class BadTask(GRMError):
    """The request cannot be judged as it is."""

    code = "bad_request"


class UnknownName(BadTask):
    """No profile or principle set has this name."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; known: {', '.join(known) or 'none'}")
        self.code = f"unknown_{kind.replace(' ', '_')}"


class UnknownVerdict(BadTask):
    """The audit trail has no such verdict, or it belongs to another caller."""

    code = "unknown_verdict"


class ReadTooLong(BadTask):
    """Reading the audit trail took longer than a request may read."""

    code = "read_too_long"


class ProfileNotServed(BadTask):
    """The profile needs another model than the one that this server runs."""

    code = "profile_not_served"


class SoftNotServed(BadTask):
    """Soft scores need token logprobs, which the engine does not return."""

    code = "soft_not_served"


class MetaRMNotServed(BadTask):
    """`k_meta` needs a meta RM, and none is loaded for the profile."""

    code = "meta_rm_not_served"


class TextTooLong(BadTask):
    """A text is longer than GRM_MAX_TEXT_CHARS."""

    code = "text_too_long"

    def __init__(self, field: str, chars: int, max_chars: int) -> None:
        super().__init__(f"{field} has {chars} characters; the limit is {max_chars} (GRM_MAX_TEXT_CHARS)")


class TooMuchText(BadTask):
    """The prompts of all samples of a request have more characters together than GRM_MAX_PROMPT_CHARS."""

    code = "too_much_text"


class PromptTooLong(BadTask):
    """Prompt and completion together exceed the model's context or KV cache; nothing is truncated."""

    code = "prompt_too_long"

    def __init__(self, tokens: int, max_tokens: int, limit: int, what: str = "model's context") -> None:
        super().__init__(
            f"the prompt has {tokens} tokens and the completion may have {max_tokens}, but the {what} holds "
            f"{limit}: shorten the conversation or the responses, or judge fewer responses at once"
        )
        self.tokens, self.limit = tokens, limit


class PromptRefused(PromptTooLong):
    """A remote server refused the prompt as too long, in words without the sizes."""

    def __init__(self, message: str, reason: str) -> None:
        BadTask.__init__(self, message, reason)


class KeyReused(BadTask):
    """An Idempotency-Key was used before with another body."""

    code = "idempotency_key_reused"


class Overloaded(GRMError):
    """The request queue is full. `retry_after_s`: seconds until there should be room."""

    code = "overloaded"
    retryable = True
    label = "line_full"

    def __init__(self, waiting: int, retry_after_s: int, why: str | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{why or f'{waiting} requests are already waiting'}; retry in {retry_after_s} s")


class ShareTaken(Overloaded):
    """The caller has reached its key's limit of concurrent requests."""

    label = "caller_share"


class BadSetting(GRMError):
    """A setting has an invalid value."""

    code = "bad_setting"


class CatalogError(GRMError):
    """A YAML file (a profile, a principle set or the API keys) is invalid."""

    code = "bad_catalog"


class JudgeError(GRMError):
    """The judge returned no verdict; a retry may succeed."""

    code = "judge_failed"
    retryable = True


class AllUnreadable(JudgeError):
    """No sample could be parsed, so the rewards are null. `reasons` counts the samples by reason."""

    code = "all_unreadable"

    def __init__(self, samples: tuple[Sample, ...]) -> None:
        self.samples = samples
        self.reasons = dict(Counter(s.error or "unknown" for s in samples))
        counts = ", ".join(f"{reason}: {n}" for reason, n in self.reasons.items())
        unread = f"none of the {len(samples)} samples could be read ({counts})"
        limit = "thinking_tokens" if "cut_in_thinking" in self.reasons else "max_tokens"
        remedy = f"retry with another seed or a larger {limit}"
        if any(s.error == "cut_in_thinking" and s.finish_reason == "stop" for s in samples):
            remedy = "the server's reasoning parser may take answers for thinking: start it without one"
        why = next((s.error_detail for s in samples if s.error_detail), "")
        super().__init__(f"{unread}; {remedy}", why)


class ResponseUnread(JudgeError):
    """No sample of a large group that contains these responses could be parsed: they have no reward."""

    code = "response_unread"

    def __init__(self, responses: Sequence[int]) -> None:
        which = f"no sample with the responses {', '.join(map(str, responses))} (from 0) could be read"
        super().__init__(f"{which}; retry with another seed, a larger k or a larger max_tokens")


class PrinciplesUnreadable(JudgeError):
    """No principle could be parsed from the model's output."""

    code = "principles_unreadable"


class DeadlineExceeded(JudgeError):
    """The time limit passed before the first sample was finished."""

    code = "deadline_exceeded"


class Shed(DeadlineExceeded):
    """Removed from the queue, unjudged, because the time limit would pass before the first sample."""

    label = "shed"


class EngineError(GRMError):
    """The engine failed."""

    code = "engine_failed"
    retryable = True


class ModelNotLoaded(EngineError):
    """The model cannot be loaded or downloaded."""

    code = "model_not_loaded"
    retryable = False


class MissingExtra(ModelNotLoaded):
    """A package of an optional extra is not installed."""

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'grm-service[{extra}]'")


class EngineNotReady(EngineError):
    """The model is loading, or the engine is restarting."""

    code = "not_ready"


class Draining(EngineNotReady):
    """The service is shutting down."""

    code = "draining"


class EngineUnreachable(EngineError):
    """The remote server does not answer, or answers with an error."""

    code = "engine_unreachable"


class UpstreamRefused(EngineError):
    """The remote server refused the request, and would refuse the same request again.

    `status`: the HTTP status, None if it is unknown. `param`: the field that the server names, None if none.
    """

    code = "upstream_refused"
    retryable = False

    def __init__(
        self, message: str, reason: str = "", status: int | None = None, param: str | None = None
    ) -> None:
        super().__init__(message, reason)
        self.status, self.param = status, param


class ContentFiltered(UpstreamRefused):
    """The remote server's content filter refused the request or removed its completion."""

    code = "content_filtered"


class UpstreamDenied(UpstreamRefused):
    """The remote server would refuse any request: its key, account, model or path is wrong."""

    code = "upstream_denied"


class MetaRMFailed(EngineError):
    """The meta RM failed; samples are not voted without its grades."""

    code = "meta_rm_failed"


class PolicyFailed(EngineError):
    """The policy model that writes drafts failed; the judge may be unaffected."""

    code = "policy_failed"


class AuditUnavailable(GRMError):
    """The audit trail cannot be read or written. Verdicts that cannot be recorded are not returned."""

    code = "audit_unavailable"
    retryable = True


class AuditBroken(AuditUnavailable):
    """The audit trail is not as this service wrote it: nothing is added until a person has looked at it."""

    code = "audit_broken"
    retryable = False


def code_of(error: BaseException) -> str:
    """Return the stable code of an exception; a cancellation may carry the code of its cause."""
    if isinstance(error, CancelledError):
        return DeadlineExceeded.code if error.args == (DeadlineExceeded.code,) else "cancelled"
    return error.code if isinstance(error, GRMError) else GRMError.code
