"""Formats of published preference data: one function per format turns a row into items."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from grm_service.evaluation.dataset import Item
from grm_service.types import Message

RawRow = Mapping[str, Any]
_LEVELS = ("hard", "normal", "easy")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")


class SkippedRow(Exception):
    """A row without a preference to measure; the message is the reason."""


@dataclass(frozen=True, slots=True)
class DataFormat:
    """A format, detected by its columns.

    `read` yields the items of a row; it also gets the row's number, for rows without an id. With `lists`,
    `chosen` and `rejected` must be lists of texts.
    """

    columns: frozenset[str]
    read: Callable[[RawRow, int], Iterator[Item]]
    lists: bool = False

    def matches(self, row: RawRow) -> bool:
        """Return whether the row has the columns of this format."""
        return self.columns <= row.keys() and (not self.lists or _has_lists(row))


def read_own(row: RawRow, number: int) -> Iterator[Item]:
    """Read the project's own format: `messages`, `responses`, `preferred` (null: a tie)."""
    if len(row["responses"]) < 2:
        raise SkippedRow("a single response")
    best, meta = row["preferred"], row.get("meta") or {}
    yield Item(
        id=str(row["id"]),
        source=str(row.get("source", "own")),
        messages=_messages(row["messages"]),
        responses=tuple(row["responses"]),
        correct=() if best is None else (best,),
        authors=tuple(meta.get("models") or ()),
        group=str(meta.get("group") or ""),
        probe=str(meta.get("probe") or ""),
    )


def read_rewardbench(row: RawRow, number: int) -> Iterator[Item]:
    """Read allenai/reward-bench: a pair, its models and its subset."""
    yield Item(
        id=f"rewardbench:{row['id']}",
        source=row["subset"],
        messages=_messages(row["prompt"]),
        responses=(row["chosen"], row["rejected"]),
        correct=(0,),
        authors=_authors(row.get("chosen_model"), row.get("rejected_model")),
    )


def read_rewardbench2(row: RawRow, number: int) -> Iterator[Item]:
    """Read allenai/reward-bench-2: one right answer of four; in the subset Ties any number of any number.

    With several right answers, each of them has to score above every wrong one. The benchmark's own score for
    Ties also weighs the margins; this is its accuracy only.
    """
    right, wrong = row["chosen"], row["rejected"]
    yield Item(
        id=f"rewardbench2:{row['id']}",
        source=row["subset"],
        messages=_messages(row["prompt"]),
        responses=(*right, *wrong),
        correct=tuple(range(len(right))),
        authors=_authors(*models)
        if len(models := row.get("models") or ()) == len(right) + len(wrong)
        else (),
    )


def read_judgebench(row: RawRow, number: int) -> Iterator[Item]:
    """Read ScalerLab/JudgeBench: pairs of answers from one model, one of them correct."""
    yield Item(
        id=f"judgebench:{row['pair_id']}",
        source=row["source"],
        messages=_messages(row["question"]),
        responses=(row["response_A"], row["response_B"]),
        correct=({"A>B": 0, "B>A": 1}[row["label"]],),
        authors=_authors(row.get("response_model"), row.get("response_model")),
        group=f"judgebench:{row.get('original_id', row['pair_id'])}",
    )


def read_rm_bench(row: RawRow, number: int) -> Iterator[Item]:
    """Read THU-KEG/RM-Bench: right and wrong answers in three styles, plainest first, as nine pairs.

    In "hard" pairs the wrong answer has the more elaborate style, in "easy" pairs the right one.
    """
    for right, wrong in product(range(len(row["chosen"])), range(len(row["rejected"]))):
        level = _LEVELS[1 + (right > wrong) - (right < wrong)]
        yield Item(
            id=f"rm_bench:{row['id']}:{right}{wrong}",
            source=f"{row.get('domain') or 'rm_bench'}/{level}",
            messages=_messages(row["prompt"]),
            responses=(row["chosen"][right], row["rejected"][wrong]),
            correct=(0,),
            group=f"rm_bench:{row['id']}",
        )


def read_ppe_human(row: RawRow, number: int) -> Iterator[Item]:
    """Read lmarena-ai/PPE-Human-Preference: answers of two models and a human vote, or a tie."""
    winner = str(row["winner"])
    best = {"model_a": (0,), "model_1": (0,), "model_b": (1,), "model_2": (1,)}.get(winner, ())
    if not best and not winner.startswith("tie"):
        raise SkippedRow(f"winner {winner!r}")
    yield Item(
        id=f"ppe:{row['question_id']}",
        source="ppe_human",
        messages=_messages(row["prompt"]),
        responses=(row["response_1"], row["response_2"]),
        correct=best,
        authors=_authors(row.get("model_a"), row.get("model_b")),
    )


def read_ppe_correctness(row: RawRow, number: int) -> Iterator[Item]:
    """Read lmarena-ai/PPE-*-Best-of-K: pairs of answers from one model, one of them correct."""
    group = f"ppe:{row['question_id']}:{row.get('model_name', '')}"
    for one, other in row["sampled_conflict_pairs"]:
        scores = row["scores"][one], row["scores"][other]
        if scores[0] == scores[1]:
            continue
        yield Item(
            id=f"{group}:{one}-{other}",
            source=str(row.get("benchmark") or "ppe_correctness"),
            messages=_messages(row["prompt"]),
            responses=(row[f"response_{one + 1}"], row[f"response_{other + 1}"]),
            correct=(0 if scores[0] > scores[1] else 1,),
            authors=_authors(row.get("model_name"), row.get("model_name")),
            group=group,
        )


def read_rmb_pair(row: RawRow, number: int) -> Iterator[Item]:
    """Read the pairs of RMB."""
    better, worse = row["chosen"], row["reject"]
    yield _rmb(row, str(row["pair_uid"]), [better, worse])


def read_rmb_bon(row: RawRow, number: int) -> Iterator[Item]:
    """Read the best-of-N sets of RMB."""
    yield _rmb(row, str(row["bon_uid"]), [row["bon_best"], *row["loser_list"]])


def read_pair(row: RawRow, number: int) -> Iterator[Item]:
    """Read plain `chosen` and `rejected`.

    They are texts with a `prompt`, or whole conversations, as lists of turns or as text (Anthropic/hh-rlhf).
    """
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, str) and "prompt" not in row:
        chosen, rejected = _dialogue(chosen), _dialogue(rejected)
    if isinstance(chosen, str):
        turns, better, worse = row["prompt"], chosen, rejected
    else:
        turns = row.get("prompt") or chosen[:-1]
        better, worse = chosen[-1]["content"], rejected[-1]["content"]
    yield Item(
        id=str(row.get("id", f"row-{number}")),
        source=str(row.get("source", "pair")),
        messages=_messages(turns),
        responses=(better, worse),
        correct=(0,),
        authors=_authors(row.get("chosen_model"), row.get("rejected_model")),
    )


def _format(columns: str, read: Callable[[RawRow, int], Iterator[Item]], lists: bool = False) -> DataFormat:
    return DataFormat(frozenset(columns.split()), read, lists)


def _has_lists(row: RawRow) -> bool:
    texts = row["chosen"], row["rejected"]
    return all(isinstance(each, list) and all(isinstance(text, str) for text in each) for each in texts)


# The first match wins, so formats with more columns come first.
FORMATS: Mapping[str, DataFormat] = {
    "own": _format("id messages responses preferred", read_own),
    "judgebench": _format("pair_id question response_A response_B label source", read_judgebench),
    "ppe-correctness": _format("question_id prompt scores sampled_conflict_pairs", read_ppe_correctness),
    "ppe-human": _format("question_id prompt response_1 response_2 winner", read_ppe_human),
    "rmb-pair": _format("pair_uid conversation_input chosen reject", read_rmb_pair),
    "rmb-bon": _format("bon_uid conversation_input bon_best loser_list", read_rmb_bon),
    "rewardbench2": _format("id prompt chosen rejected subset num_correct", read_rewardbench2, lists=True),
    "rewardbench": _format("id prompt chosen rejected subset chosen_model rejected_model", read_rewardbench),
    "rm-bench": _format("id prompt chosen rejected domain", read_rm_bench, lists=True),
    "pair": _format("chosen rejected", read_pair),
}


def detect_format(row: RawRow) -> str | None:
    """Return the name of the format that a row's columns match, None if there is none."""
    return next((name for name, each in FORMATS.items() if each.matches(row)), None)


def _messages(prompt: str | list[Mapping[str, str]]) -> tuple[Message, ...]:
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    return tuple(Message(turn["role"], turn["content"]) for turn in prompt)  # type: ignore[arg-type]


def _dialogue(text: str) -> list[Mapping[str, str]]:
    """Split a conversation written as text into turns. Raises ValueError."""
    before, *parts = _SPEAKER.split(text)
    if before.strip() or not parts or parts[-2] != "Assistant":
        raise ValueError("there is no prompt, and the texts do not alternate Human: and Assistant: turns")
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": _SPEAKERS[speaker], "content": content.strip()} for speaker, content in turns]


def _authors(*authors: str | None) -> tuple[str, ...]:
    return tuple(map(str, authors)) if all(authors) else ()


def _rmb(row: RawRow, id_: str, answers: list[Mapping[str, str]]) -> Item:
    return Item(
        id=f"rmb:{id_}",
        source="/".join(str(row.get("category_path", "rmb")).split("/")[:2]),
        messages=_messages(row["conversation_input"]),
        responses=tuple(answer["answer"] for answer in answers),
        correct=(0,),
        authors=_authors(*(answer.get("llm_name") for answer in answers)),
    )
