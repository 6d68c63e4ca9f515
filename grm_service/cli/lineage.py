"""An improvement in the terminal: a tree of drafts with their rewards, the gain, its flags and the cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.panel import Panel
from rich.text import Text
from rich.tree import Tree

from grm_service.improving.gain import Gain
from grm_service.improving.lineage import Draft, Flag, Improvement, Round, SecondOpinion, Stop
from grm_service.improving.loop import OnEvent
from grm_service.printable import printable

_STOPPED: dict[Stop, str] = {
    "rounds": "all rounds are done",
    "no_gain": "the last round brought no gain beyond the spread of the votes",
    "tokens": "the token budget is used up",
    "seconds": "the time is up",
    "failed": "a round failed",
}
_FLAGS: dict[Flag, str] = {
    "same_model": "the policy is the judge: it rates its own answers",
    "gain_not_shared": "the second opinion does not confirm the gain",
    "gain_unclear": "the gain is within the spread of the votes",
    "grew_longer": "the answer grew by more than half",
}


@contextmanager
def progress(console: Console) -> Iterator[OnEvent]:
    """Show the loop's progress as a status line; yield the callback for its events."""
    with console.status("the policy is writing") as status:
        drafts = 0

        def on_event(event: Draft | Round | SecondOpinion) -> None:
            nonlocal drafts
            if isinstance(event, Draft):
                drafts += 1
                status.update(f"{drafts} drafts; the judge is reading")
            elif isinstance(event, Round):
                best = max(event.record.verdict.vote.rewards)
                status.update(f"{drafts} drafts, best reward {best:.2f}; the policy is writing")

        yield on_event


def show(console: Console, improvement: Improvement) -> None:
    """Print the best draft, the tree of drafts, the gain and its flags."""
    # Text, not markup: a model's output must not style or link anything in the terminal.
    console.print(Panel(Text(printable(improvement.text)), title=f"draft {improvement.best}, the best"))
    console.print(_tree(improvement))
    for line in (*_gains(improvement), *_ending(improvement)):
        console.print(line)
    for flag in improvement.flags:
        console.print(f"! {_FLAGS[flag]}", style="yellow")


def _tree(improvement: Improvement) -> Tree:
    root = Tree("drafts, with the rewards of each verdict", guide_style="dim")
    branches = dict[int | None, Tree]({None: root})
    for draft in improvement.drafts:
        branches[draft.id] = branches[draft.parent].add(_line(improvement, draft))
    return root


def _line(improvement: Improvement, draft: Draft) -> Text:
    rewards = [
        f"{judged.record.verdict.vote.rewards[judged.drafts.index(draft.id)]:.2f}"
        for judged in improvement.rounds
        if draft.id in judged.drafts
    ]
    notes = [
        "given" if draft.given else "",
        "cut" if draft.cut else "",
        f"same text as {draft.same_as}" if draft.same_as is not None else "",
        "the original" if draft.id == improvement.original else "",
    ]
    style = "bold green" if draft.id == improvement.best else ""
    line = Text(f"#{draft.id} {' → '.join(rewards) or '-'}  ", style=style)
    line.append(printable(" ".join(draft.text.split())[:60]), style="")
    return line.append("".join(f" ({note})" for note in notes if note), style="dim")


def _gains(improvement: Improvement) -> Iterator[str]:
    if improvement.best == improvement.original:
        yield "the original is still the best"
        return
    yield f"gain over the original: {_gain_text(improvement.gain)}"
    opinion = improvement.opinion
    if opinion is not None:
        yield f"second opinion: {_gain_text(opinion.gain) if opinion.error is None else opinion.error}"
    growth = "" if improvement.growth is None else f", {improvement.growth:.2f} times the original"
    yield f"length: {len(improvement.text)} characters{growth}"


def _ending(improvement: Improvement) -> Iterator[str]:
    message = f": {improvement.failure[1]}" if improvement.failure is not None else ""
    yield f"stopped because {_STOPPED[improvement.stopped]}{message}"
    cost = improvement.cost
    usages = {"policy": cost.policy, "judge": cost.judge, "second opinion": cost.opinion}
    parts = ", ".join(f"{name} {_count(usage.completion_tokens)}" for name, usage in usages.items())
    yield f"{_count(cost.generated)} tokens generated in {improvement.seconds:.1f} s: {parts}"


def _count(tokens: int | None) -> str:
    return "unknown" if tokens is None else str(tokens)


def _gain_text(gain: Gain | None) -> str:
    if gain is None:
        return "no sample scored both"
    return f"{gain.mean:+.2f}" + ("" if gain.error is None else f" ± {gain.error:.2f}")
