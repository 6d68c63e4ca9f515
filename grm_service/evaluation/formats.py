"""Formats of published preference data: one function per format turns a row into items."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from grm_service.evaluation.dataset import Item, SkippedRow
from grm_service.evaluation.pair_rows import split_pair
from grm_service.row_values import (
    RawRow,
    conversation,
    has,
    identifier,
    index,
    required_list,
    response,
    responses,
)

_LEVELS = ("hard", "normal", "easy")
_LABELS = {"A>B": 0, "B>A": 1}
_WINNERS = {"model_a": (0,), "model_1": (0,), "model_b": (1,), "model_2": (1,)}
_LIST_AS_TEXT = re.compile(r"""\s*\[\s*(['"]).*\1\s*\]\s*""", re.DOTALL)


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
    texts = responses(row, "responses")
    if len(texts) < 2:
        raise SkippedRow("a single response")
    best, meta = row["preferred"], row.get("meta") or {}
    if not isinstance(meta, Mapping):
        raise ValueError("meta must be an object")
    yield Item(
        id=identifier(row, "id", f"row-{number}"),
        source=str(row.get("source") or "own"),
        messages=conversation(row, "messages"),
        responses=texts,
        correct=() if best is None else (index(best, len(texts), "preferred"),),
        authors=_authors(*required_list(meta, "models")) if has(meta, "models") else (),
        group=str(meta.get("group") or ""),
        probe=str(meta.get("probe") or ""),
    )


def read_rewardbench(row: RawRow, number: int) -> Iterator[Item]:
    """Read allenai/reward-bench: a pair, its models and its subset."""
    yield Item(
        id=f"rewardbench:{identifier(row, 'id', str(number))}",
        source=str(row["subset"]),
        messages=conversation(row, "prompt"),
        responses=(response(row, "chosen"), response(row, "rejected")),
        correct=(0,),
        authors=_authors(row.get("chosen_model"), row.get("rejected_model")),
    )


def read_rewardbench2(row: RawRow, number: int) -> Iterator[Item]:
    """Read allenai/reward-bench-2: one right answer of four; in the subset Ties any number of any number.

    With several right answers, each of them has to score above every wrong one. The benchmark's own score for
    Ties also weighs the margins; this is its accuracy only.
    """
    right, wrong = responses(row, "chosen"), responses(row, "rejected")
    models = required_list(row, "models") if has(row, "models") else ()
    yield Item(
        id=f"rewardbench2:{identifier(row, 'id', str(number))}",
        source=str(row["subset"]),
        messages=conversation(row, "prompt"),
        responses=right + wrong,
        correct=tuple(range(len(right))),
        authors=_authors(*models) if len(models) == len(right) + len(wrong) else (),
    )


def read_judgebench(row: RawRow, number: int) -> Iterator[Item]:
    """Read ScalerLab/JudgeBench: pairs of answers from one model, one of them correct."""
    right = _LABELS.get(row["label"]) if isinstance(row["label"], str) else None
    if right is None:
        raise ValueError(f"label is {reprlib.repr(row['label'])}: it must be A>B or B>A")
    id_ = identifier(row, "pair_id", str(number))
    yield Item(
        id=f"judgebench:{id_}",
        source=str(row["source"]),
        messages=conversation(row, "question"),
        responses=(response(row, "response_A"), response(row, "response_B")),
        correct=(right,),
        authors=_authors(row.get("response_model"), row.get("response_model")),
        group=f"judgebench:{identifier(row, 'original_id', id_)}",
    )


def read_rm_bench(row: RawRow, number: int) -> Iterator[Item]:
    """Read THU-KEG/RM-Bench: right and wrong answers in three styles, plainest first, as nine pairs.

    In "hard" pairs the wrong answer has the more elaborate style, in "easy" pairs the right one.
    """
    chosen, rejected = responses(row, "chosen"), responses(row, "rejected")
    messages, id_ = conversation(row, "prompt"), identifier(row, "id", str(number))
    for right, wrong in product(range(len(chosen)), range(len(rejected))):
        level = _LEVELS[1 + (right > wrong) - (right < wrong)]
        yield Item(
            id=f"rm_bench:{id_}:{right}{wrong}",
            source=f"{row.get('domain') or 'rm_bench'}/{level}",
            messages=messages,
            responses=(chosen[right], rejected[wrong]),
            correct=(0,),
            group=f"rm_bench:{id_}",
        )


def read_ppe_human(row: RawRow, number: int) -> Iterator[Item]:
    """Read lmarena-ai/PPE-Human-Preference: answers of two models and a human vote, or a tie."""
    winner = row["winner"] if isinstance(row["winner"], str) else reprlib.repr(row["winner"])
    if winner not in _WINNERS and not winner.startswith("tie"):
        raise SkippedRow(f"winner {winner[:40]!r}")
    yield Item(
        id=f"ppe:{identifier(row, 'question_id', str(number))}",
        source="ppe_human",
        messages=conversation(row, "prompt"),
        responses=(response(row, "response_1"), response(row, "response_2")),
        correct=_WINNERS.get(winner, ()),
        authors=_authors(row.get("model_a"), row.get("model_b")),
    )


def read_ppe_correctness(row: RawRow, number: int) -> Iterator[Item]:
    """Read lmarena-ai/PPE-*-Best-of-K: pairs of answers from one model, one of them correct."""
    group = f"ppe:{identifier(row, 'question_id', str(number))}:{row.get('model_name') or ''}"
    messages, scores = conversation(row, "prompt"), required_list(row, "scores")
    pairs = required_list(row, "sampled_conflict_pairs") if has(row, "sampled_conflict_pairs") else ()
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(
                f"sampled_conflict_pairs has {reprlib.repr(pair)}: it must have lists of two indices"
            )
        one, other = (index(each, len(scores), "a conflict pair's index") for each in pair)
        first, second = (_score(scores[i]) for i in (one, other))
        if first == second:
            continue
        yield Item(
            id=f"{group}:{one}-{other}",
            source=str(row.get("benchmark") or "ppe_correctness"),
            messages=messages,
            responses=(response(row, f"response_{one + 1}"), response(row, f"response_{other + 1}")),
            correct=(0 if first > second else 1,),
            authors=_authors(row.get("model_name"), row.get("model_name")),
            group=group,
        )


def read_rmb_pair(row: RawRow, number: int) -> Iterator[Item]:
    """Read the pairs of RMB."""
    yield _rmb(row, identifier(row, "pair_uid", str(number)), [row["chosen"], row["reject"]])


def read_rmb_bon(row: RawRow, number: int) -> Iterator[Item]:
    """Read the best-of-N sets of RMB."""
    answers = [row["bon_best"], *required_list(row, "loser_list")]
    yield _rmb(row, identifier(row, "bon_uid", str(number)), answers)


def read_pair(row: RawRow, number: int) -> Iterator[Item]:
    """Read plain `chosen` and `rejected`, texts or conversations, with or without a prompt (pair_rows.py)."""
    messages, better, worse = split_pair(row)
    yield Item(
        id=identifier(row, "id", f"row-{number}"),
        source=str(row.get("source") or "pair"),
        messages=messages,
        responses=(better, worse),
        correct=(0,),
        authors=_authors(row.get("chosen_model"), row.get("rejected_model")),
    )


def _format(columns: str, read: Callable[[RawRow, int], Iterator[Item]], lists: bool = False) -> DataFormat:
    return DataFormat(frozenset(columns.split()), read, lists)


# The first match wins, so formats with more columns come first.
FORMATS: Mapping[str, DataFormat] = {
    "own": _format("messages responses preferred", read_own),
    "judgebench": _format("pair_id question response_A response_B label source", read_judgebench),
    "ppe-correctness": _format("question_id prompt scores sampled_conflict_pairs", read_ppe_correctness),
    "ppe-human": _format("question_id prompt response_1 response_2 winner", read_ppe_human),
    "rmb-pair": _format("pair_uid conversation_input chosen reject", read_rmb_pair),
    "rmb-bon": _format("bon_uid conversation_input bon_best loser_list", read_rmb_bon),
    "rewardbench2": _format("id prompt chosen rejected subset num_correct", read_rewardbench2),
    "rewardbench": _format("id prompt chosen rejected subset chosen_model rejected_model", read_rewardbench),
    "rm-bench": _format("id prompt chosen rejected domain", read_rm_bench, lists=True),
    "pair": _format("chosen rejected", read_pair),
}


def detect_format(row: RawRow) -> str | None:
    """Return the name of the format that a row's columns match, None if there is none.

    Columns with a value count first: where rows of several formats are in one table, `datasets` fills the
    others with null.
    """
    # A preference of null has a meaning: a tie.
    filled = {name: value for name, value in row.items() if value is not None or name == "preferred"}
    matching = (name for columns in (filled, row) for name, each in FORMATS.items() if each.matches(columns))
    return next(matching, None)


def _has_lists(row: RawRow) -> bool:
    return all(_is_list_of_texts(row[column]) for column in ("chosen", "rejected"))


def _is_list_of_texts(value: object) -> bool:
    """Return whether a value is a list of texts, also one stored as text, which `read` refuses."""
    if isinstance(value, str):
        return _LIST_AS_TEXT.fullmatch(value) is not None
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _authors(*authors: object) -> tuple[str, ...]:
    return tuple(map(str, authors)) if all(authors) else ()


def _score(value: object) -> float:
    if not isinstance(value, (int, float)) or value != value:  # NaN is below and above nothing
        raise ValueError(f"a score is {reprlib.repr(value)}: it must be a number, true or false")
    return value


def _rmb(row: RawRow, id_: str, answers: Sequence[Any]) -> Item:
    for answer in answers:
        if not isinstance(answer, Mapping):
            raise ValueError("every answer must be an object with answer and llm_name")
    return Item(
        id=f"rmb:{id_}",
        source="/".join(str(row.get("category_path") or "rmb").split("/")[:2]),
        messages=conversation(row, "conversation_input"),
        responses=tuple(response(answer, "answer") for answer in answers),
        correct=(0,),
        authors=_authors(*(answer.get("llm_name") for answer in answers)),
    )
