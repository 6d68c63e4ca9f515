"""The resumable folder of a `grm pairs` run: its setup, a line per finished prompt, and the pairs.

The thresholds are not part of the setup: pairs can be selected again from the finished prompts at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from grm_service.improving.prompt_file import PromptItem
from grm_service.run_journal import Journal, check_setup, read_lines, replace_text, unfinished
from grm_service.types import JudgeOptions, PrincipleMode, PrincipleSpec, ScoreKind, Scores, StopRule

PAIRS, COMPARED, SETUP = "pairs.jsonl", "compared.jsonl", "setup.json"


@dataclass(frozen=True, slots=True)
class PairsSetup:
    """The settings by which drafts are written and judged; None means the profile's default.

    `policy` is the address and model of its server, or "judge" for the judge's own engine. `n`, `max_tokens`
    and `temperature` apply to the drafts, the options after `seed` to the judge.
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
    k_meta: int | None = None
    score: ScoreKind | None = "hard"
    stop: StopRule = "none"
    timeout_s: float | None = None
    critique_tokens: int | None = None
    critique_temperature: float | None = None
    thinking_tokens: int | None = None

    def judge_options(self, seed: int) -> JudgeOptions:
        """Return the judge's options for a prompt with its own seed."""
        return JudgeOptions(
            k=self.k,
            k_meta=self.k_meta,
            seed=seed,
            temperature=self.critique_temperature,
            max_tokens=self.critique_tokens,
            thinking_tokens=self.thinking_tokens,
            score=self.score,
            stop=self.stop,
            timeout_s=self.timeout_s,
            principles=PrincipleSpec(self.principles, self.principle_set),
        )


@dataclass(frozen=True, slots=True)
class PromptResult:
    """The distinct drafts of a prompt and their verdict, or the `error` code that explains why it has none.

    `cut` has the drafts that reached their token limit. `policy` is the model that wrote the drafts, None if
    they came with the prompt. `scores` has one row per counted sample.
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


_RESULT, _WRITER = TypeAdapter(PromptResult), "grm pairs"


class PairsFolder(Journal):
    """The finished prompts of one run. A context manager: one process at a time writes into the folder."""

    def __init__(self, path: Path, setup: PairsSetup) -> None:
        super().__init__(path / COMPARED, path / ".lock", f"another {_WRITER}")
        self.path, self.setup = path, setup
        self.done: dict[str, PromptResult] = {}

    def remaining(self, prompts: Sequence[PromptItem]) -> list[PromptItem]:
        """Return the unfinished prompts. Raises BadTask if a finished one had other texts."""
        return unfinished(prompts, self.done, self.path)

    def add(self, result: PromptResult) -> None:
        """Store the result of a finished prompt."""
        self.done[result.id] = result
        self._add_line(_RESULT.dump_json(result).decode())

    def write_pairs(self, rows: Iterable[dict[str, Any]]) -> None:
        """Replace the file of pairs."""
        replace_text(self.path / PAIRS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def _resume(self) -> None:
        check_setup(self.path / SETUP, self.setup, _WRITER)
        results = read_lines(self.path / COMPARED, _RESULT.validate_json, "finished prompt")
        self.done = {result.id: result for result in results}
