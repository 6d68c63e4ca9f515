"""The folder of one evaluation run: its setup and its finished items, from which a run resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from grm_service import run_journal
from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item
from grm_service.run_journal import Journal, check_setup, read_lines, unfinished
from grm_service.types import JudgeOptions, PrincipleMode, PrincipleSpec, ScoreKind, StopRule

ITEMS, SETUP = "items.jsonl", "setup.json"
JudgeKind = Literal["grm", "pairwise", "swapped", "absolute", "logprob"]
"""The service's judge, or one of the baselines (baselines.py)."""


@dataclass(frozen=True, slots=True)
class EvalSetup:
    """The options of a run; `k` is the number of samples per item, None means the profile's default.

    `fingerprint` is the hash of profile and prompts, `principle_set_fingerprint` that of the principle set;
    both are None if only a running service knows them. Fields are added at the end, with a default, so that
    older folders and reports can still be read.
    """

    profile: str
    engine: str
    k: int
    score: ScoreKind | None = "hard"
    principles: PrincipleMode = "self"
    principle_set: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int = 0
    judge: JudgeKind = "grm"
    fingerprint: str | None = None
    principle_set_fingerprint: str | None = None
    k_meta: int | None = None
    stop: StopRule = "none"
    timeout_s: float | None = None
    thinking_tokens: int | None = None

    @property
    def meta_share(self) -> float | None:
        """The share of the samples that the meta RM retains, None for the service's default."""
        return None if self.k_meta is None else self.k_meta / self.k

    def item_options(self, item: Item) -> JudgeOptions:
        """Return the options to judge one item with; its seed is its own."""
        return JudgeOptions(
            k=self.k,
            k_meta=self.k_meta,
            seed=item.seed(self.seed),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            thinking_tokens=self.thinking_tokens,
            score=self.score,
            stop=self.stop,
            timeout_s=self.timeout_s,
            principles=PrincipleSpec(self.principles, self.principle_set),
        )


@dataclass(frozen=True, slots=True)
class SampleResult:
    """One sample without its text, which is in the audit trail; see types.Sample.

    `scores` go into the vote (soft scores if the run uses them; `soft_error` is the reason if the sample has
    none). `tokens` are completion tokens, None if unknown. `grade` is the meta RM's, 0..1. `closed_reason`:
    why it was closed.
    """

    order: tuple[int, ...]
    scores: tuple[float | None, ...] | None
    error: str | None
    closed: bool
    tokens: int | None
    grade: float | None = None
    closed_reason: str | None = None
    soft_error: str | None = None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The result of one item, without texts; `lengths` are those of the responses, in characters.

    `error` is the code of the failure if the item has no vote. `verdict` is the verdict's id in the audit
    trail. Tokens and `seconds` are those of the whole verdict, 0 if a running service did not report them;
    None for tokens that the judge's server does not state.
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
    prompt_tokens: int | None = 0
    cached_tokens: int | None = 0
    completion_tokens: int | None = 0
    seconds: float = 0.0

    @property
    def in_blocks(self) -> bool:
        """True if samples show only some of the responses (judging/block_design.py)."""
        return any(len(sample.order) < len(self.lengths) for sample in self.samples)


_ITEM_RESULT, _WRITER = TypeAdapter(ItemResult), "grm eval"


class RunFolder(Journal):
    """The finished items of one run. A context manager: only one process at a time writes to a folder."""

    def __init__(self, path: Path, setup: EvalSetup) -> None:
        super().__init__(path / ITEMS, path / ".lock", f"another {_WRITER}")
        self.path, self.setup = path, setup
        self.done: dict[str, ItemResult] = {}

    def remaining(self, items: Sequence[Item]) -> list[Item]:
        """Return the items that are not judged yet. Raises BadTask if a judged one had other texts."""
        return unfinished(items, self.done, self.path)

    def add(self, result: ItemResult) -> None:
        """Store a finished item. Raises BadTask if its model or profile differs from that of the others."""
        for other in self.done.values():
            if {None} & {other.fingerprint, result.fingerprint}:
                continue  # a failed item has no fingerprint
            if (other.fingerprint, other.model) != (result.fingerprint, result.model):
                raise BadTask(
                    f"{self.path} holds verdicts of {other.model} ({other.fingerprint}), but {result.id} "
                    f"was judged by {result.model} ({result.fingerprint}): use a new folder"
                )
            break
        self.done[result.id] = result
        self._add_line(_ITEM_RESULT.dump_json(result).decode())

    def _resume(self) -> None:
        check_setup(self.path / SETUP, self.setup, _WRITER)
        self.done = {result.id: result for result in _items(self.path / ITEMS)}


def read_setup(folder: Path) -> EvalSetup:
    """Return the setup of a run. Raises BadTask if the folder holds no run."""
    return run_journal.read_setup(folder / SETUP, EvalSetup, _WRITER)


def read_items(folder: Path) -> list[ItemResult]:
    """Return the finished items of a run. Raises BadTask if the folder holds no run."""
    read_setup(folder)
    return _items(folder / ITEMS)


def _items(file: Path) -> list[ItemResult]:
    return read_lines(file, _ITEM_RESULT.validate_json, "finished item")
