"""What survives a kill: one line for every finished prompt, and how all of them were made.

The thresholds are no part of it: pairs are chosen anew out of what was judged, as often as one likes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from grm_service.improving.prompts import PromptItem
from grm_service.run_journal import Journal, replace_text, same_setup, unfinished, whole_lines
from grm_service.types import PrincipleMode, Scores

PAIRS, COMPARED, SETUP = "pairs.jsonl", "compared.jsonl", "setup.json"


@dataclass(frozen=True, slots=True)
class PairsSetup:
    """How drafts are written and judged; `k` None: as the profile says.

    `policy` is the address of a server and the model asked for there, or "judge": the judge's own engine.
    """

    policy: str
    engine: str
    profile: str
    fingerprint: str
    n: int
    k: int | None = None
    max_tokens: int = 512
    temperature: float = 0.8
    principles: PrincipleMode = "self"
    principle_set: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PromptResult:
    """A prompt's drafts, all different, and the verdict on them; `error`: the code of why there is none.

    `cut`: those that ended at their token limit. `policy` wrote them, None: they stood in the file. `scores`
    has one row a counted sample.
    """

    id: str
    digest: str
    drafts: tuple[str, ...]
    cut: tuple[int, ...] = ()
    policy: str | None = None
    rewards: tuple[float, ...] = ()
    scores: tuple[Scores, ...] = ()
    verdict: str | None = None
    judge: str | None = None
    profile: str | None = None
    fingerprint: str | None = None
    error: str | None = None


_COMPARED, _WRITER = TypeAdapter(PromptResult), "grm pairs"


class PairsFolder(Journal):
    """The finished prompts of one run. A context manager: one process at a time writes into it."""

    def __init__(self, path: Path, setup: PairsSetup) -> None:
        super().__init__(path / COMPARED, path / ".lock", f"another {_WRITER}")
        self.path, self.setup = path, setup
        self.done: dict[str, PromptResult] = {}

    def left(self, asked: Sequence[PromptItem]) -> list[PromptItem]:
        """Those that are not finished. Raises BadTask where a finished one had other texts."""
        return unfinished(asked, self.done, self.path)

    def add(self, compared: PromptResult) -> None:
        """Keeps a finished prompt."""
        self.done[compared.id] = compared
        self._add_line(_COMPARED.dump_json(compared).decode())

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Replaces the pairs."""
        replace_text(self.path / PAIRS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def _go_on(self) -> None:
        same_setup(self.path / SETUP, self.setup, _WRITER)
        finished = whole_lines(self.path / COMPARED, _COMPARED.validate_json, "finished prompt")
        self.done = {each.id: each for each in finished}
