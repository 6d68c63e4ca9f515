"""Reports and comparisons in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from grm_service.evaluation.bias import Share
from grm_service.evaluation.compare import Comparison, Comparisons, Curve, Difference
from grm_service.evaluation.grading import Grading
from grm_service.evaluation.report import Accuracy, EvalReport
from grm_service.evaluation.reproduce import Check
from grm_service.evaluation.stats import Area, Interval

_MANY = 5
"""Items of an author; those with fewer are in report.json only."""


def report(found: EvalReport, pictures: Sequence[str]) -> str:
    """The report for people; `pictures` are files beside it."""
    setup = found.setup
    asked = f"{setup.score} scores, principles {setup.principles}" + (
        f" ({setup.principle_set})" if setup.principle_set else ""
    )
    if setup.judge != "grm":
        asked = f"the baseline `{setup.judge}`"
    parts = [
        f"# {setup.profile or found.model or 'A service'} on {found.data or 'items'}",
        f"{found.items} items, k = {setup.k}, {asked}, model {found.model or 'unknown'}, "
        f"engine {setup.engine}, profile {(found.fingerprint or 'unknown')[:19]}. "
        "Brackets are 95 % intervals.",
        _left_out(found),
        _accuracy(found),
        *(f"![{name}]({name})" for name in pictures),
        "" if pictures else "No pictures: they need the extra `eval`, `pip install 'grm-service[eval]'`.",
        _scaling(found),
        _votes(found),
        _calibration(found),
        _bias(found),
        _cost(found),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def comparisons(found: Comparisons, pictures: Sequence[str]) -> str:
    """Runs against the first one; `pictures` are files beside it."""
    first, *others = (curve.run for curve in found.curves)
    parts = [
        f"# {', '.join(others)} against {first}",
        "## Accuracy against tokens",
        f"{found.curves[0].n} items that all runs have. Brackets are 95 % intervals; differences are in "
        f"points, by paired bootstrap. The last column is {first} with all its samples less this.",
        _curves(found.curves),
        *(f"![{name}]({name})" for name in pictures),
        *(_comparison(each, flips=len(others) == 1) for each in found.against_first),
    ]
    return "\n\n".join(parts) + "\n"


def _curves(found: Sequence[Curve]) -> str:
    rows = [
        [
            curve.run,
            str(point.k),
            f"{point.tokens:.0f}",
            f"{curve.prompt_tokens:.0f} ({curve.cached_tokens:.0f})" if point is curve.points[-1] else "",
            percent(point.half, point.half_interval),
            _points(point.difference, point.difference_interval),
        ]
        for curve in found
        for point in curve.points
    ]
    header = ["run", "k", "completion tokens", "prompt tokens (cached)", "ties shared"]
    return _table([*header, f"{found[0].run} less this"], rows)


def _comparison(found: Comparison, flips: bool) -> str:
    rows = [_difference("**all**", found.overall), *(_difference(n, d) for n, d in found.by_source.items())]
    settings = [[name, str(a), str(b)] for name, (a, b) in found.settings.items()]
    flipped = [[f.id, f.right.upper(), f.a_verdict or "-", f.b_verdict or "-"] for f in found.flipped]
    parts = [
        f"## B = {found.b} against A = {found.a}",
        f"{found.overall.n} items in common ({found.only_a} in A only, {found.only_b} in B only). Completion "
        f"tokens an item: {found.tokens[0]:.0f} and {found.tokens[1]:.0f}. Differences are B less A.",
        _table(["setting", "A", "B"], settings) if settings else "The settings are the same.",
        _table(
            ["source", "n", "A", "B", "difference", "ties shared", "B only right", "A only right"],
            rows,
        ),
    ]
    if flips:
        header = ["item", "right", "A's verdict", "B's verdict"]
        parts += ["### Items that flipped", _table(header, flipped) if flipped else "None."]
    return "\n\n".join(parts)


def checks(found: Sequence[Check]) -> str:
    """What was reproduced, and what was not."""
    rows = [
        [each.what, percent(each.now), percent(each.before, each.interval), "yes" if each.held else "**no**"]
        for each in found
    ]
    lost = sum(not each.held for each in found)
    says = f"{lost} of {len(found)} figures lie outside" if lost else f"All {len(found)} figures lie within"
    return f"{_table(['', 'now', 'before', 'within'], rows)}\n\n{says} the intervals."


def percent(value: float | None, interval: Interval | None = None) -> str:
    """A share as a person reads it."""
    if value is None:
        return "-"
    return f"{value:.1%}" + (f" [{interval.low:.1%}, {interval.high:.1%}]" if interval else "")


def _points(value: float, interval: Interval) -> str:
    """A difference of shares, in percentage points."""
    # Adding 0 turns the -0.0 of rounding into 0.0.
    middle, low, high = (round(100 * x, 1) + 0.0 for x in (value, interval.low, interval.high))
    return f"{middle:+.1f} [{low:+.1f}, {high:+.1f}]"


def _left_out(found: EvalReport) -> str:
    said = [f"{n} rows left out: {why}." for why, n in found.left_out.items()]
    said += [f"{n} items have no vote ({code}) and count as wrong." for code, n in found.failed.items()]
    return " ".join(said)


def _accuracy(found: EvalReport) -> str:
    if found.overall is None:
        return ""
    rows = [_accurate("**all**", found.overall)]
    rows += [_accurate(name, each) for name, each in found.by_source.items()]
    rows += [_accurate(f"probe: {name}", each) for name, each in found.by_probe.items()]
    text = _table(["source", "n", "strictly right", "ties shared", "ties", "no vote"], rows)
    if found.ties is not None:
        text += (
            f"\n\n{found.ties.n} items that people call a tie: {percent(found.ties.judged_ties)} judged so, "
            f"mean gap of the top two {found.ties.gap:.2f}."
        )
    return "## Accuracy\n\n" + text


def _accurate(name: str, each: Accuracy) -> list[str]:
    strict, half = percent(each.strict, each.strict_interval), percent(each.half, each.half_interval)
    return [name, str(each.n), strict, half, str(each.ties), str(each.failed)]


def _scaling(found: EvalReport) -> str:
    rows = [
        [
            str(step.k),
            percent(step.strict, step.strict_interval),
            percent(step.half, step.half_interval),
            _points(step.gain, step.gain_interval),
            f"{step.tokens:.0f}",
            ", ".join(f"{how} {n}" for how, n in step.subsets.items()),
        ]
        for step in found.scaling
    ]
    note = (
        "Smaller k are means over the smaller runs with balanced orders that the samples hold, at this run's "
        "temperature; a request with k = 1 is greedy and may do better."
    )
    fewest = min((step.k for step in found.scaling), default=0)
    header = ["k", "strictly right", "ties shared", f"more than k = {fewest}", "tokens an item", "subsets"]
    return f"## Scaling with k\n\n{_table(header, rows)}\n\n{note}" if rows else ""


def _votes(found: EvalReport) -> str:
    rows = [
        [
            each.vote,
            percent(each.strict, each.strict_interval),
            percent(each.half, each.half_interval),
            _points(each.difference, each.difference_interval),
        ]
        for each in found.votes
    ]
    note = (
        "The same samples, voted in other ways; the service serves the mean. A majority counts the samples "
        "that have a response on top. Soft scores are a run of their own (`--score soft`)."
    )
    if found.grading is not None:
        note += f" {_grading(found.grading)}"
    table = _table(["vote", "strictly right", "ties shared", "more than the mean"], rows)
    return f"## Votes\n\n{table}\n\n{note}" if rows else ""


def _grading(found: Grading) -> str:
    whole, within = _area(found.auc), _area(found.within)
    return (
        "`meta` is the mean of the half that the meta RM grades best, as a service with one serves it. Of "
        f"{found.n} graded samples {percent(found.right)} are right; grades tell them from the others with "
        f"an area under the ROC curve of {whole}, and among samples of one item of {within} (0.5: chance)."
    )


def _area(area: Area | None) -> str:
    if area is None:
        return "unknown size"
    bounds = area.interval
    return f"{area.value:.3f}" + (f" [{bounds.low:.3f}, {bounds.high:.3f}]" if bounds else "")


def _calibration(found: EvalReport) -> str:
    known = found.calibration
    if known is None:
        return ""
    rows = [
        [f"{b.low:.1f} to {b.high:.1f}", str(b.n), percent(b.predicted), percent(b.right, b.interval)]
        for b in known.bins
    ]
    return (
        "## Agreement as a prediction of being right\n\n"
        f"{_table(['agreement', 'n', 'mean', 'right'], rows)}\n\n"
        f"Expected calibration error {known.error:.3f}. Area under risk and coverage {known.area:.3f}; "
        f"agreement that says nothing would have {known.area_of_chance:.3f}."
    )


def _bias(found: EvalReport) -> str:
    place, size = found.position, found.length
    rows = list[list[str]]()
    if place is not None:
        rows += [
            ["samples that prefer the one shown first (0.5: no bias)", *_share(place.first_wins)],
            ["samples right where the right one stood first", *_share(place.right_when_first)],
            ["samples right where it stood last", *_share(place.right_when_last)],
            ["same winner in both orders", *_share(place.order_consistency)],
            ["same winner in two halves of alike orders (chance)", *_share(place.halves_consistency)],
        ]
    rows += [
        ["right where the right one is the longest", *_share(size.longest_right)],
        ["right where it is not", *_share(size.other_right)],
        [f"the longest wins (right: {percent(size.longest_is_right)})", *_share(size.longest_wins)],
    ]
    rows += [
        [
            f"favours {author.author}{' (itself)' if author.self else ''}: wins less right",
            str(author.n),
            _points(author.favour, author.interval),
        ]
        for author in found.authors
        if author.n >= _MANY
    ]
    return "## Biases\n\n" + _table(["", "n", "share"], rows)


def _cost(found: EvalReport) -> str:
    spent, read = found.cost, found.reading
    errors = ", ".join(f"{code} {n}" for code, n in read.errors.items())
    seconds = (
        ""
        if spent.seconds_median is None
        else f" {spent.seconds_median:.1f} s a verdict in the median, {spent.seconds_p95:.1f} s at the 95th "
        "percentile, with others beside it."
    )
    text = (
        f"{read.taken} samples: {percent(read.readable)} readable, {percent(read.closed)} finished by the "
        f"closing{f' ({errors})' if errors else ''}. An item takes {spent.prompt_tokens:.0f} prompt tokens "
        f"({spent.cached_tokens:.0f} of them cached) and {spent.completion_tokens:.0f} completion tokens."
        f"{seconds}"
    )
    rows = [
        [
            f"`{each.rule}`",
            percent(each.samples_saved),
            percent(each.tokens_saved),
            percent(each.same_winner),
            _points(each.accuracy_change, each.interval),
        ]
        for each in spent.stopping
    ]
    header = ["stop", "samples saved", "tokens saved", "same winner", "change in accuracy"]
    return "## Reading and cost\n\n" + text + (f"\n\n{_table(header, rows)}" if rows else "")


def _difference(name: str, each: Difference) -> list[str]:
    return [
        name,
        str(each.n),
        percent(each.a),
        percent(each.b),
        _points(each.strict, each.strict_interval),
        _points(each.half, each.half_interval),
        str(each.better),
        str(each.worse),
    ]


def _share(share: Share) -> list[str]:
    return [str(share.n), percent(share.value, share.interval)]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
