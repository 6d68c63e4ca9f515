"""Preference data of others as items: a small function for each format, told apart by its columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from grm_service.evaluation.dataset import Item
from grm_service.types import Message

Row = Mapping[str, Any]
_LEVELS = ("hard", "normal", "easy")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_SPEAKER = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")


class NothingToJudge(Exception):
    """Nothing can be right or wrong of this row; says why."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads rows that have all of `columns`; they come with their number, for those without an id. With
    `several`, `chosen` and `rejected` are lists of texts.
    """

    columns: frozenset[str]
    read: Callable[[Row, int], Iterator[Item]]
    several: bool = False

    def fits(self, row: Row) -> bool:
        """Whether the row is one of the format's, by its columns; see `several`."""
        return self.columns <= row.keys() and (not self.several or _several(row))


def own(row: Row, number: int) -> Iterator[Item]:
    """The project's own format: `messages`, `responses`, `preferred`; null between several is a tie."""
    if len(row["responses"]) < 2:
        raise NothingToJudge("a single response")
    best, meta = row["preferred"], row.get("meta") or {}
    yield Item(
        id=str(row["id"]),
        source=str(row.get("source", "own")),
        messages=_turns(row["messages"]),
        responses=tuple(row["responses"]),
        correct=() if best is None else (best,),
        authors=tuple(meta.get("models") or ()),
        group=str(meta.get("group") or ""),
        probe=str(meta.get("probe") or ""),
    )


def rewardbench(row: Row, number: int) -> Iterator[Item]:
    """allenai/reward-bench: a pair, its models and its subset."""
    yield Item(
        id=f"rewardbench:{row['id']}",
        source=row["subset"],
        messages=_turns(row["prompt"]),
        responses=(row["chosen"], row["rejected"]),
        correct=(0,),
        authors=_known(row.get("chosen_model"), row.get("rejected_model")),
    )


def rewardbench2(row: Row, number: int) -> Iterator[Item]:
    """allenai/reward-bench-2: one right answer among four, and, in Ties, any number among any number.

    With several right answers each has to score above every wrong one. The benchmark's own score of Ties also
    weighs how far apart they are; this is its accuracy only.
    """
    right, wrong = row["chosen"], row["rejected"]
    yield Item(
        id=f"rewardbench2:{row['id']}",
        source=row["subset"],
        messages=_turns(row["prompt"]),
        responses=(*right, *wrong),
        correct=tuple(range(len(right))),
        authors=_known(*models) if len(models := row.get("models") or ()) == len(right) + len(wrong) else (),
    )


def judgebench(row: Row, number: int) -> Iterator[Item]:
    """ScalerLab/JudgeBench: pairs of answers of one model, one of them correct."""
    yield Item(
        id=f"judgebench:{row['pair_id']}",
        source=row["source"],
        messages=_turns(row["question"]),
        responses=(row["response_A"], row["response_B"]),
        correct=({"A>B": 0, "B>A": 1}[row["label"]],),
        authors=_known(row.get("response_model"), row.get("response_model")),
        group=f"judgebench:{row.get('original_id', row['pair_id'])}",
    )


def rm_bench(row: Row, number: int) -> Iterator[Item]:
    """THU-KEG/RM-Bench: right and wrong answers in three styles, plainest first: nine pairs.

    "hard" are those in which the wrong answer has the showier style, "easy" those in which the right one has.
    """
    for right, wrong in product(range(len(row["chosen"])), range(len(row["rejected"]))):
        level = _LEVELS[1 + (right > wrong) - (right < wrong)]
        yield Item(
            id=f"rm_bench:{row['id']}:{right}{wrong}",
            source=f"{row.get('domain') or 'rm_bench'}/{level}",
            messages=_turns(row["prompt"]),
            responses=(row["chosen"][right], row["rejected"][wrong]),
            correct=(0,),
            group=f"rm_bench:{row['id']}",
        )


def ppe_human(row: Row, number: int) -> Iterator[Item]:
    """lmarena-ai/PPE-Human-Preference: two models' answers and which one a person took, or a tie."""
    winner = str(row["winner"])
    best = {"model_a": (0,), "model_1": (0,), "model_b": (1,), "model_2": (1,)}.get(winner, ())
    if not best and not winner.startswith("tie"):
        raise NothingToJudge(f"winner {winner!r}")
    yield Item(
        id=f"ppe:{row['question_id']}",
        source="ppe_human",
        messages=_turns(row["prompt"]),
        responses=(row["response_1"], row["response_2"]),
        correct=best,
        authors=_known(row.get("model_a"), row.get("model_b")),
    )


def ppe_correctness(row: Row, number: int) -> Iterator[Item]:
    """lmarena-ai/PPE-*-Best-of-K: pairs drawn from many answers of one model, one of them correct."""
    group = f"ppe:{row['question_id']}:{row.get('model_name', '')}"
    for one, other in row["sampled_conflict_pairs"]:
        scores = row["scores"][one], row["scores"][other]
        if scores[0] == scores[1]:
            continue
        yield Item(
            id=f"{group}:{one}-{other}",
            source=str(row.get("benchmark") or "ppe_correctness"),
            messages=_turns(row["prompt"]),
            responses=(row[f"response_{one + 1}"], row[f"response_{other + 1}"]),
            correct=(0 if scores[0] > scores[1] else 1,),
            authors=_known(row.get("model_name"), row.get("model_name")),
            group=group,
        )


def rmb_pair(row: Row, number: int) -> Iterator[Item]:
    """RMB's pairs."""
    better, worse = row["chosen"], row["reject"]
    yield _rmb(row, str(row["pair_uid"]), [better, worse])


def rmb_bon(row: Row, number: int) -> Iterator[Item]:
    """RMB's best of N."""
    yield _rmb(row, str(row["bon_uid"]), [row["bon_best"], *row["loser_list"]])


def pair(row: Row, number: int) -> Iterator[Item]:
    """Plain `chosen` and `rejected`: texts beside a `prompt`, or conversations that end in them, as lists of
    turns or as text (Anthropic/hh-rlhf).
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
        messages=_turns(turns),
        responses=(better, worse),
        correct=(0,),
        authors=_known(row.get("chosen_model"), row.get("rejected_model")),
    )


def _reader(columns: str, read: Callable[[Row, int], Iterator[Item]], several: bool = False) -> Reader:
    return Reader(frozenset(columns.split()), read, several)


def _several(row: Row) -> bool:
    texts = row["chosen"], row["rejected"]
    return all(isinstance(each, list) and all(isinstance(text, str) for text in each) for each in texts)


# The first whose columns are all there: those that ask for more stand above those that ask for less.
READERS: Mapping[str, Reader] = {
    "own": _reader("id messages responses preferred", own),
    "judgebench": _reader("pair_id question response_A response_B label source", judgebench),
    "ppe-correctness": _reader("question_id prompt scores sampled_conflict_pairs", ppe_correctness),
    "ppe-human": _reader("question_id prompt response_1 response_2 winner", ppe_human),
    "rmb-pair": _reader("pair_uid conversation_input chosen reject", rmb_pair),
    "rmb-bon": _reader("bon_uid conversation_input bon_best loser_list", rmb_bon),
    "rewardbench2": _reader("id prompt chosen rejected subset num_correct", rewardbench2, several=True),
    "rewardbench": _reader("id prompt chosen rejected subset chosen_model rejected_model", rewardbench),
    "rm-bench": _reader("id prompt chosen rejected domain", rm_bench, several=True),
    "pair": _reader("chosen rejected", pair),
}


def detect(row: Row) -> str | None:
    """The name of the format that a row's columns are those of."""
    return next((name for name, reader in READERS.items() if reader.fits(row)), None)


def _turns(said: str | list[Mapping[str, str]]) -> tuple[Message, ...]:
    if isinstance(said, str):
        return (Message("user", said),)
    return tuple(Message(turn["role"], turn["content"]) for turn in said)  # type: ignore[arg-type]


def _dialogue(text: str) -> list[Mapping[str, str]]:
    before, *parts = _SPEAKER.split(text)
    if before.strip() or not parts or parts[-2] != "Assistant":
        raise ValueError("there is no prompt, and the texts are no turns of Human: and Assistant:")
    said = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": _SPEAKERS[who], "content": what.strip()} for who, what in said]


def _known(*authors: str | None) -> tuple[str, ...]:
    return tuple(map(str, authors)) if all(authors) else ()


def _rmb(row: Row, id_: str, answers: list[Mapping[str, str]]) -> Item:
    return Item(
        id=f"rmb:{id_}",
        source="/".join(str(row.get("category_path", "rmb")).split("/")[:2]),
        messages=_turns(row["conversation_input"]),
        responses=tuple(answer["answer"] for answer in answers),
        correct=(0,),
        authors=_known(*(answer.get("llm_name") for answer in answers)),
    )
