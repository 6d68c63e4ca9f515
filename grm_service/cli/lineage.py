"""An improvement for people: a tree of drafts with their rewards, and what to make of the gain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.panel import Panel
from rich.text import Text
from rich.tree import Tree

from grm_service.improving.gain import Gain
from grm_service.improving.lineage import Draft, Flag, Improvement, Round, SecondOpinion, Stop
from grm_service.improving.loop import OnProgress

_STOPPED: dict[Stop, str] = {
    "rounds": "all rounds were made",
    "no_gain": "a round brought no gain outside the votes' spread",
    "tokens": "the budget of tokens is used up",
    "seconds": "the time is up",
    "failed": "it failed",
}
_FLAGS: dict[Flag, str] = {
    "same_model": "the policy is the judge: it rates its own answers",
    "gain_not_shared": "the second opinion does not share the gain",
    "gain_unclear": "the gain is within the votes' spread",
    "grew_longer": "the answer grew by more than half",
}


@contextmanager
def telling(console: Console) -> Iterator[OnProgress]:
    """A line for what is under way, for the loop to tell."""
    with console.status("the policy writes") as status:
        drafts = 0

        def on_event(event: Draft | Round | SecondOpinion) -> None:
            nonlocal drafts
            if isinstance(event, Draft):
                drafts += 1
                status.update(f"{drafts} drafts; the judge reads")
            elif isinstance(event, Round):
                best = max(event.record.verdict.vote.rewards)
                status.update(f"{drafts} drafts, the best has {best:.2f}; the policy writes")

        yield on_event


def show(console: Console, whole: Improvement) -> None:
    """The best draft, the tree, the gain and what speaks against it."""
    # Text, never markup: what a model wrote must not style or link anything here.
    console.print(Panel(Text(whole.text), title=f"draft {whole.best}, the best"))
    console.print(_tree(whole))
    for line in (*_gains(whole), *_ending(whole)):
        console.print(line, markup=False, highlight=False)
    for flag in whole.flags:
        console.print(f"! {_FLAGS[flag]}", style="yellow", markup=False, highlight=False)


def _tree(whole: Improvement) -> Tree:
    root = Tree("drafts, with the rewards of each verdict", guide_style="dim")
    branches = dict[int | None, Tree]({None: root})
    for draft in whole.drafts:
        branches[draft.id] = branches[draft.parent].add(_line(whole, draft))
    return root


def _line(whole: Improvement, draft: Draft) -> Text:
    rewards = [
        f"{each.record.verdict.vote.rewards[each.drafts.index(draft.id)]:.2f}"
        for each in whole.rounds
        if draft.id in each.drafts
    ]
    notes = [
        "given" if draft.given else "",
        "cut" if draft.cut else "",
        f"says the same as {draft.same_as}" if draft.same_as is not None else "",
        "the original" if draft.id == whole.original else "",
    ]
    style = "bold green" if draft.id == whole.best else ""
    line = Text(f"#{draft.id} {' → '.join(rewards) or '-'}  ", style=style)
    line.append(" ".join(draft.text.split())[:60], style="")
    return line.append("".join(f" ({note})" for note in notes if note), style="dim")


def _gains(whole: Improvement) -> Iterator[str]:
    if whole.best == whole.original:
        yield "the original stayed the best"
        return
    yield f"gain over the original: {_told(whole.gain)}"
    opinion = whole.opinion
    if opinion is not None:
        yield f"second opinion: {_told(opinion.gain) if opinion.error is None else opinion.error}"
    growth = "" if whole.growth is None else f", {whole.growth:.2f} times the original"
    yield f"length: {len(whole.text)} characters{growth}"


def _ending(whole: Improvement) -> Iterator[str]:
    why = f": {whole.failure[1]}" if whole.failure is not None else ""
    yield f"ended because {_STOPPED[whole.stopped]}{why}"
    who = {"policy": whole.cost.policy, "judge": whole.cost.judge, "second opinion": whole.cost.opinion}
    parts = ", ".join(f"{name} {usage.completion_tokens}" for name, usage in who.items())
    yield f"{whole.cost.generated} tokens generated in {whole.seconds:.1f} s: {parts}"


def _told(gain: Gain | None) -> str:
    if gain is None:
        return "no sample saw both"
    return f"{gain.mean:+.2f}" + ("" if gain.error is None else f" ± {gain.error:.2f}")
