"""What a run keeps on disk, so that it can go on after a kill and be compared with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from grm_service import run_journal
from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item
from grm_service.run_journal import Journal, same_setup, unfinished, whole_lines
from grm_service.types import PrincipleMode, ScoreKind

ITEMS, SETUP = "items.jsonl", "setup.json"
JudgeKind = Literal["grm", "pairwise", "swapped", "absolute", "logprob"]
"""The service's judge, or one of the baselines (baselines.py)."""


@dataclass(frozen=True, slots=True)
class EvalSetup:
    """How the items of a folder are judged; `k` is the most samples, None means as the profile says.

    `fingerprint` is that of profile and prompts, `principle_set_fingerprint` that of the set; None where only
    a running service knows it.
    """

    profile: str
    engine: str
    k: int
    score: ScoreKind = "hard"
    principles: PrincipleMode = "self"
    principle_set: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int = 0
    judge: JudgeKind = "grm"
    fingerprint: str | None = None
    principle_set_fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class SampleResult:
    """One sample without its texts, which are in the audit trail: see types.Sample. `scores` are what it put
    into the vote (soft ones where they were asked for), `tokens` what it wrote, `grade` the meta RM's.
    """

    order: tuple[int, ...]
    scores: tuple[float | None, ...] | None
    error: str | None
    closed: bool
    tokens: int
    grade: float | None = None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of an item, without texts; `lengths` are the responses' characters.

    `error` is the code of why there is no vote, None where there is one. `verdict` is its name in the audit
    trail. Tokens and `seconds` are the whole verdict's, 0 where a running service did not tell.
    """

    id: str
    digest: str
    source: str
    correct: tuple[int, ...]
    lengths: tuple[int, ...]
    authors: tuple[str, ...]
    group: str
    probe: str
    error: str | None
    samples: tuple[SampleResult, ...] = ()
    verdict: str | None = None
    fingerprint: str | None = None
    model: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    @property
    def in_blocks(self) -> bool:
        """Whether samples showed some of the responses only."""
        return any(len(sample.order) < len(self.lengths) for sample in self.samples)


_JUDGED, _WRITER = TypeAdapter(ItemResult), "grm eval"


class RunFolder(Journal):
    """The finished items of one run. A context manager: one process at a time writes into it."""

    def __init__(self, path: Path, setup: EvalSetup) -> None:
        super().__init__(path / ITEMS, path / ".lock", f"another {_WRITER}")
        self.path, self.setup = path, setup
        self.done: dict[str, ItemResult] = {}

    def left(self, items: Sequence[Item]) -> list[Item]:
        """Those not judged yet. Raises BadTask where a judged one had other texts."""
        return unfinished(items, self.done, self.path)

    def add(self, judged: ItemResult) -> None:
        """Keeps a finished item. Raises BadTask where another model or profile judged it than the others."""
        for before in self.done.values():
            if {None} & {before.fingerprint, judged.fingerprint}:
                continue  # failed, so nobody told
            if (before.fingerprint, before.model) != (judged.fingerprint, judged.model):
                raise BadTask(
                    f"{self.path} holds verdicts of {before.model} ({before.fingerprint}), but {judged.id} "
                    f"was judged by {judged.model} ({judged.fingerprint}): take a new folder"
                )
            break
        self.done[judged.id] = judged
        self._add_line(_JUDGED.dump_json(judged).decode())

    def _go_on(self) -> None:
        same_setup(self.path / SETUP, self.setup, _WRITER)
        self.done = {judged.id: judged for judged in _items(self.path / ITEMS)}


def read_setup(folder: Path) -> EvalSetup:
    """How the items of a folder were judged. Raises BadTask where it holds no run."""
    return run_journal.read_setup(folder / SETUP, EvalSetup, _WRITER)


def read_items(folder: Path) -> list[ItemResult]:
    """The finished items of a folder. Raises BadTask where it holds none."""
    read_setup(folder)
    return _items(folder / ITEMS)


def _items(file: Path) -> list[ItemResult]:
    return whole_lines(file, _JUDGED.validate_json, "finished item")
