"""Kinds of failures by code: of the engine, for good, and of one item of a long run."""

from __future__ import annotations

from grm_service.errors import (
    AllUnreadable,
    ContentFiltered,
    EngineError,
    EngineNotReady,
    EngineUnreachable,
    PrinciplesUnreadable,
    PromptTooLong,
    ResponseUnread,
    TextTooLong,
    TooMuchText,
    UpstreamDenied,
    UpstreamRefused,
)

REFUSALS = {kind.code: kind for kind in (UpstreamRefused, ContentFiltered, UpstreamDenied)}
"""The permanent refusals of a remote server: the same request would be refused again."""
ENGINE_FAILURES = frozenset(
    kind.code for kind in (EngineError, EngineNotReady, EngineUnreachable, UpstreamDenied)
)
"""The codes of samples that failed whatever they judge. They are no evidence about the judge: a run ends."""
ITEM_FAILURES = frozenset(
    kind.code
    for kind in (
        AllUnreadable,
        ResponseUnread,
        PrinciplesUnreadable,
        PromptTooLong,
        TextTooLong,
        TooMuchText,
        UpstreamRefused,
        ContentFiltered,
    )
)
"""The codes of failures on a single item, with which a run counts the item and goes on."""
