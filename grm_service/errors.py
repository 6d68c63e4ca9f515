"""Everything that can go wrong, in one tree. `code` is stable and goes over the wire.

GRMError
 · BadTask                    the request cannot be judged as it stands
   · UnknownName              no such profile or principle set (names the known ones)
   · UnknownVerdict           no such verdict in the audit trail, or not yours
   · ProfileNotServed         the profile's model is not the one that this server runs
   · SoftNotServed            the engine tells no token probabilities, which soft scores need
   · MetaRMNotServed          no meta RM runs here for the profile, which `k_meta` needs
   · TextTooLong              one text is longer than the server's setting allows
   · PromptTooLong            prompt and answer do not fit the model's context (names the sizes)
     · KeyReused                an Idempotency-Key came with another body than before
 · Overloaded                 the waiting line is full; names when to come back
   · ShareTaken               the caller has as many requests here as its key allows
 · BadSetting                 a setting cannot be used as it stands
 · UnsafeAddress              others could reach the server, and it has no keys
 · CatalogError               a YAML file is wrong (names file, line and field)
 · JudgeError                 the judge gave no verdict; worth another try
   · AllUnreadable            no sample could be read (counts the reasons)
   · ResponseUnread           of a large group, no sample that showed this response could be read
   · SiblingsMissing          rewards were wanted as they stand in a group, and nobody else came
   · PrinciplesUnreadable     no principle could be read out of what the model wrote
   · DeadlineExceeded         time ran out before the first sample
     · Shed                   it would run out: taken out of the waiting line
 · EngineError                the engine failed
   · ModelNotLoaded           the model cannot be loaded or fetched
   · MissingExtra             a package of an optional extra is not installed
   · EngineNotReady           the model is still being loaded, or the engine is being brought back
     · Draining               the service is shutting down
   · EngineUnreachable        the remote server does not answer, or answers with an error
   · MetaRMFailed             the meta RM failed: samples that it should choose among are not voted without
   · PolicyFailed             the policy that writes drafts failed
 · AuditUnavailable           the audit trail cannot be read or written
"""

from __future__ import annotations

from asyncio import CancelledError
from collections import Counter
from collections.abc import Sequence

from grm_service.types import Sample


class GRMError(Exception):
    """Base of all errors of this package.

    `retryable`: the same request may succeed later. `reason` is finer than the code where counters need that.
    """

    code = "internal"
    retryable = False
    reason: str | None = None

    def __reduce__(self) -> tuple[object, ...]:
        # Engines raise in processes of their own: an error keeps its text, whatever its constructor takes.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[GRMError], args: tuple[object, ...], state: dict[str, object]) -> GRMError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class BadTask(GRMError):
    """The request cannot be judged as it stands."""

    code = "bad_request"


class UnknownName(BadTask):
    """No such profile or principle set."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; known: {', '.join(known) or 'none'}")
        self.code = f"unknown_{kind.replace(' ', '_')}"


class UnknownVerdict(BadTask):
    """No such verdict in the audit trail, or it is somebody else's."""

    code = "unknown_verdict"

    def __init__(self, id_: str) -> None:
        super().__init__(f"no verdict {id_!r} in the audit trail, or it is not yours (GET /v1/verdicts)")


class ProfileNotServed(BadTask):
    """The profile's model is not the one that this server runs."""

    code = "profile_not_served"


class SoftNotServed(BadTask):
    """The engine tells no token probabilities, which soft scores need."""

    code = "soft_not_served"


class MetaRMNotServed(BadTask):
    """No meta RM runs here for the profile, which `k_meta` needs."""

    code = "meta_rm_not_served"


class TextTooLong(BadTask):
    """One text is longer than the server's setting allows."""

    code = "text_too_long"

    def __init__(self, field: str, chars: int, most: int) -> None:
        super().__init__(f"{field} has {chars} characters, at most {most} are allowed (GRM_MAX_TEXT_CHARS)")


class PromptTooLong(BadTask):
    """Prompt and answer together do not fit the model's context, or its cache; nothing is cut silently."""

    code = "prompt_too_long"

    def __init__(self, prompt_tokens: int, max_tokens: int, room: int, what: str = "model's context") -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and the answer may take {max_tokens}, "
            f"but the {what} holds {room}: shorten the conversation or the responses, "
            "or judge fewer of them at once"
        )


class KeyReused(BadTask):
    """An Idempotency-Key came with another body than before."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used for another request: take a new one for each")


class Overloaded(GRMError):
    """The waiting line is full. `retry_after_s`: when it should have moved on."""

    code = "overloaded"
    retryable = True
    reason = "line_full"

    def __init__(self, waiting: int, retry_after_s: int, why: str | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{why or f'{waiting} requests wait already'}: try again in {retry_after_s} s")


class ShareTaken(Overloaded):
    """The caller has as many requests here as its key allows."""

    reason = "caller_share"


class BadSetting(GRMError):
    """A setting cannot be used as it stands."""

    code = "bad_setting"


class UnsafeAddress(GRMError):
    """Others could reach the server, and it has no keys."""

    code = "unsafe_address"


class CatalogError(GRMError):
    """A YAML file (a profile, a principle set, the keys) is wrong."""

    code = "bad_catalog"


class JudgeError(GRMError):
    """The judge gave no verdict; worth another try."""

    code = "judge_failed"
    retryable = True


class AllUnreadable(JudgeError):
    """No sample could be read: rewards are null, never zero. `reasons` counts why; `samples` are kept."""

    code = "all_unreadable"

    def __init__(self, samples: tuple[Sample, ...]) -> None:
        self.samples = samples
        self.reasons = dict(Counter(s.error or "unknown" for s in samples))
        counts = ", ".join(f"{reason}: {n}" for reason, n in self.reasons.items())
        super().__init__(
            f"none of the {len(samples)} samples could be read ({counts}); "
            "try again with another seed or more max_tokens"
        )


class ResponseUnread(JudgeError):
    """Of a large group, no sample that showed these responses could be read: they have no reward."""

    code = "response_unread"

    def __init__(self, responses: Sequence[int]) -> None:
        super().__init__(
            f"no sample that showed the responses {', '.join(map(str, responses))} (from 0) could be read; "
            "try again with another seed, a larger k or more max_tokens"
        )


class SiblingsMissing(JudgeError):
    """Rewards were wanted as they stand in a group, and the response's siblings did not come in time."""

    code = "siblings_missing"


class PrinciplesUnreadable(JudgeError):
    """No principle could be read out of what the model wrote."""

    code = "principles_unreadable"


class DeadlineExceeded(JudgeError):
    """Time ran out before the first sample was finished."""

    code = "deadline_exceeded"


class Shed(DeadlineExceeded):
    """Its time would run out on the way: it was taken out of the waiting line, and nothing was judged."""

    reason = "shed"


class EngineError(GRMError):
    """The engine failed."""

    code = "engine_failed"
    retryable = True


class ModelNotLoaded(EngineError):
    """The model cannot be loaded or fetched."""

    code = "model_not_loaded"
    retryable = False


class MissingExtra(ModelNotLoaded):
    """A package of an optional extra is not installed."""

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'grm-service[{extra}]'")


class EngineNotReady(EngineError):
    """The model is still being loaded, or the engine is being brought back."""

    code = "not_ready"


class Draining(EngineNotReady):
    """The service is shutting down."""

    code = "draining"


class EngineUnreachable(EngineError):
    """The remote server does not answer, or answers with an error."""

    code = "engine_unreachable"


FAILURES = frozenset({EngineError.code, EngineNotReady.code, EngineUnreachable.code})
"""The codes of samples that the engine failed to take: they say nothing about the judge."""


class MetaRMFailed(EngineError):
    """The meta RM failed: samples that it should choose among are not voted without its choice."""

    code = "meta_rm_failed"


class PolicyFailed(EngineError):
    """The policy that writes drafts failed; the judge may be well."""

    code = "policy_failed"


class AuditUnavailable(GRMError):
    """The audit trail cannot be read or written: a verdict that is not in it is not given out."""

    code = "audit_unavailable"
    retryable = True


def code_of(failed: BaseException) -> str:
    """The stable code of whatever ended a piece of work; work that was cancelled may have been told why."""
    if isinstance(failed, CancelledError):
        return DeadlineExceeded.code if failed.args == (DeadlineExceeded.code,) else "cancelled"
    return failed.code if isinstance(failed, GRMError) else GRMError.code
