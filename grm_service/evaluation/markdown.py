"""Render reports, comparisons and checks as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from grm_service.evaluation.cells import bold, code, escape, listed, percent, points, share, table, tokens
from grm_service.evaluation.comparison import Check, Comparison, Comparisons, Curve, Difference
from grm_service.evaluation.outcomes import Grading
from grm_service.evaluation.report import Accuracy, EvalReport, VoteAccuracy
from grm_service.evaluation.scaling import Step, subsampling_obstacle
from grm_service.evaluation.stats import Area

_MIN_AUTHOR_ITEMS = 5
"""Authors with fewer items are in report.json only."""
_MAX_UNREAD = 20
"""Names of further files that were not read are in report.json only."""


def render_report(report: EvalReport, plots: Sequence[str]) -> str:
    """Render a report; `plots` are the names of image files in its folder."""
    judge = escape(report.setup.profile or report.model or "A service")
    parts = [
        f"# {judge} on {escape(report.data or 'items')}",
        _summary(report),
        _failures(report),
        _accuracy(report),
        *(f"![{name}]({name})" for name in plots),
        "" if plots else "No plots: they need the extra `eval`, `pip install 'grm-service[eval]'`.",
        _scaling(report),
        _votes(report),
        _calibration(report),
        _biases(report),
        _cost(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(report: EvalReport) -> str:
    setup = report.setup
    method = f"{setup.score} scores, principles {setup.principles}" + (
        f" ({escape(setup.principle_set)})" if setup.principle_set else ""
    )
    if setup.judge != "grm":
        method = f"the baseline `{setup.judge}`"
    if setup.stop != "none":
        method += f", stop `{setup.stop}`"
    return (
        f"{report.items} items, k = {setup.k}, {method}, model {escape(report.model or 'unknown')}, "
        f"engine {escape(setup.engine)}, profile {escape((report.fingerprint or 'unknown')[:19])}. "
        "Brackets are 95 % intervals."
    )


def render_comparisons(comparisons: Comparisons, plots: Sequence[str]) -> str:
    """Render a comparison of runs with the first one; `plots` are as for `render_report`."""
    first, *others = (escape(curve.run) for curve in comparisons.curves)
    parts = [
        f"# {', '.join(others)} against {first}",
        "## Accuracy against tokens",
        f"{comparisons.curves[0].n} items that all runs have. Brackets are 95 % intervals; differences are "
        f"in points, by paired bootstrap. The last column is {first} with all its samples minus this row.",
        _curves(comparisons.curves),
        *(f"![{name}]({name})" for name in plots),
        *(_comparison(each, flips=len(others) == 1) for each in comparisons.against_first),
    ]
    return "\n\n".join(parts) + "\n"


def _curves(curves: Sequence[Curve]) -> str:
    rows = [
        [
            curve.run,
            str(point.k),
            tokens(point.tokens),
            f"{tokens(curve.prompt_tokens)} ({tokens(curve.cached_tokens)})"
            if point is curve.points[-1]
            else "",
            percent(point.half, point.half_interval),
            points(point.difference, point.difference_interval),
        ]
        for curve in curves
        for point in curve.points
    ]
    header = ["run", "k", "completion tokens", "prompt tokens (cached)", "ties shared"]
    return table([*header, f"{curves[0].run} minus this"], rows)


def _comparison(comparison: Comparison, flips: bool) -> str:
    n, by_source = comparison.overall.n, comparison.by_source.items()
    rows = [
        _difference(bold("all"), comparison.overall),
        *(_difference(name, each) for name, each in by_source),
    ]
    settings = [[name, str(a), str(b)] for name, (a, b) in comparison.settings.items()]
    header = ["source", "n", "A", "B", "difference", "ties shared", "B only right", "A only right"]
    parts = [
        f"## B = {escape(comparison.b)} against A = {escape(comparison.a)}",
        f"{n} items in common ({comparison.only_a} in A only, {comparison.only_b} in B only). Completion "
        f"tokens per item: {tokens(comparison.tokens[0])} and {tokens(comparison.tokens[1])}. "
        "Differences are B minus A.",
        table(["setting", "A", "B"], settings) if settings else "The settings are the same.",
        table(header, rows),
    ]
    if flips:
        parts += ["### Items that flipped", _flips(comparison)]
    return "\n\n".join(parts)


def _flips(comparison: Comparison) -> str:
    rows = [[f.id, f.right.upper(), f.a_verdict or "-", f.b_verdict or "-"] for f in comparison.flipped]
    return table(["item", "right", "A's verdict", "B's verdict"], rows) if rows else "None."


def render_checks(checks: Sequence[Check]) -> str:
    """Render a check of a report against a committed one."""
    rows = [
        [c.figure, percent(c.value), percent(c.committed, c.interval), "yes" if c.reproduced else bold("no")]
        for c in checks
    ]
    n, outside = len(checks), sum(not c.reproduced for c in checks)
    summary = f"{outside} of {n} figures lie outside" if outside else f"All {n} figures lie within"
    return f"{table(['', 'now', 'committed', 'within'], rows)}\n\n{summary} the intervals."


def _failures(report: EvalReport) -> str:
    sentences = [f"{n} rows left out: {escape(reason)}." for reason, n in report.left_out.items()]
    if report.unread:
        more = len(report.unread) - _MAX_UNREAD
        names = ", ".join(code(name) for name in report.unread[:_MAX_UNREAD])
        sentences.append(f"Files not read: {names}{f' and {more} more' if more > 0 else ''}.")
    sentences += [
        f"{n} items have no vote ({escape(code)}) and count as wrong." for code, n in report.failed.items()
    ]
    return " ".join(sentences)


def _accuracy(report: EvalReport) -> str:
    if report.overall is None:
        return ""
    rows = [_accuracy_row(bold("all"), report.overall)]
    rows += [_accuracy_row(name, each) for name, each in report.by_source.items()]
    rows += [_accuracy_row(f"probe: {name}", each) for name, each in report.by_probe.items()]
    text = table(["source", "n", "strictly right", "ties shared", "ties", "no vote"], rows)
    if report.ties is not None:
        text += (
            f"\n\n{report.ties.n} items that annotators call a tie: the judge also ties "
            f"{percent(report.ties.judged_ties)}, mean gap of the top two {report.ties.gap:.2f}."
        )
    return "## Accuracy\n\n" + text


def _accuracy_row(name: str, each: Accuracy) -> list[str]:
    return [name, str(each.n), *_accuracies(each), str(each.ties), str(each.failed)]


def _accuracies(each: Accuracy | Step | VoteAccuracy) -> list[str]:
    return [percent(each.strict, each.strict_interval), percent(each.half, each.half_interval)]


def _scaling(report: EvalReport) -> str:
    if not report.scaling:
        return ""
    rows = [
        [
            str(step.k),
            *_accuracies(step),
            points(step.gain, step.gain_interval),
            tokens(step.tokens),
            ", ".join(f"{estimate} {n}" for estimate, n in step.subsets.items()),
        ]
        for step in report.scaling
    ]
    obstacle = subsampling_obstacle(report.setup.stop, {*report.failed, *report.reading.errors})
    note = (
        "Smaller k are means over the smaller runs with balanced orders that the samples contain, at this "
        "run's temperature; a request with k = 1 is greedy and may do better."
        if obstacle is None
        else f"Smaller k are left out: {obstacle}."
    )
    baseline = f"more than k = {report.scaling[0].k}"
    header = ["k", "strictly right", "ties shared", baseline, "tokens per item", "subsets"]
    return f"## Scaling with k\n\n{table(header, rows)}\n\n{note}"


def _votes(report: EvalReport) -> str:
    if not report.votes:
        return ""
    rows = [
        [each.vote, *_accuracies(each), points(each.difference, each.difference_interval)]
        for each in report.votes
    ]
    note = (
        "Other votes over the same samples; the service returns the mean. A majority counts the samples that "
        "rank a response first. Soft scores need a run of their own (`--score soft`)."
    )
    if report.grading is not None:
        note += f" {_grading(report.grading, report.setup.k_meta)}"
    votes = table(["vote", "strictly right", "ties shared", "more than the mean"], rows)
    return f"## Votes\n\n{votes}\n\n{note}"


def _grading(grading: Grading, k_meta: int | None) -> str:
    overall, within = _area(grading.auc), _area(grading.within)
    best = "half of the samples" if k_meta is None else f"{k_meta} samples"
    return (
        f"`meta` is the mean over the {best} that the meta RM grades highest, as returned by a service with "
        f"a meta RM. Of {grading.n} graded samples {percent(grading.right)} are right; the grades separate "
        f"them from the others with an area under the ROC curve of {overall}, and of {within} within an item "
        "(0.5: chance)."
    )


def _area(area: Area | None) -> str:
    if area is None:
        return "unknown"
    bounds = area.interval
    return f"{area.value:.3f}" + (f" [{bounds.low:.3f}, {bounds.high:.3f}]" if bounds else "")


def _calibration(report: EvalReport) -> str:
    calibration = report.calibration
    if calibration is None:
        return ""
    rows = [
        [f"{b.low:.1f} to {b.high:.1f}", str(b.n), percent(b.predicted), percent(b.right, b.interval)]
        for b in calibration.bins
    ]
    return (
        "## Agreement as a prediction of being right\n\n"
        f"{table(['agreement', 'n', 'mean', 'right'], rows)}\n\n"
        f"Expected calibration error {calibration.error:.3f}. Area under the risk-coverage curve "
        f"{calibration.area:.3f}; uninformative agreement would have {calibration.area_of_chance:.3f}."
    )


def _biases(report: EvalReport) -> str:
    position, length = report.position, report.length
    rows = list[list[str]]()
    if position is not None:
        rows += [
            ["samples that prefer the first response (0.5: no bias)", *share(position.first_wins)],
            ["samples right if the right response is first", *share(position.right_when_first)],
            ["samples right if it is last", *share(position.right_when_last)],
            ["same winner in both orders", *share(position.order_consistency)],
            ["same winner in two halves with equal orders (chance)", *share(position.halves_consistency)],
        ]
    rows += [
        ["right if the right response is the longest", *share(length.longest_right)],
        ["right if it is not", *share(length.other_right)],
        [f"the longest wins (right: {percent(length.longest_is_right)})", *share(length.longest_wins)],
    ]
    for author in report.authors:
        if author.n >= _MIN_AUTHOR_ITEMS:
            label = f"favours {author.author}{' (itself)' if author.self else ''}: wins minus right"
            rows.append([label, str(author.n), points(author.favour, author.interval)])
    return "## Biases\n\n" + table(["", "n", "share"], rows)


def _cost(report: EvalReport) -> str:
    cost, samples = report.cost, report.reading
    text = (
        f"{samples.taken} samples: {percent(samples.readable)} readable{listed(samples.errors)}, "
        f"{percent(samples.closed)} finished by the closing{listed(samples.closed_reasons)}"
        f"{listed(samples.soft_errors, ', without soft scores')}. Tokens per item: "
        f"{tokens(cost.prompt_tokens)} of prompts ({tokens(cost.cached_tokens)} cached), "
        f"{tokens(cost.completion_tokens)} of answers."
    )
    if cost.seconds_median is not None:
        seconds = f"{cost.seconds_median:.1f} s (median; 95th percentile {cost.seconds_p95:.1f} s)"
        text += f" A verdict takes {seconds} while others run concurrently."
    rows = []
    for each in cost.stopping:
        saved = map(percent, (each.samples_saved, each.tokens_saved, each.same_winner))
        rows.append([code(each.rule), *saved, points(each.accuracy_change, each.interval)])
    header = ["stop", "samples saved", "tokens saved", "same winner", "change in accuracy"]
    return "## Readability and cost\n\n" + text + (f"\n\n{table(header, rows)}" if rows else "")


def _difference(name: str, each: Difference) -> list[str]:
    strict, half = points(each.strict, each.strict_interval), points(each.half, each.half_interval)
    counts = [str(each.better), str(each.worse)]
    return [name, str(each.n), percent(each.a), percent(each.b), strict, half, *counts]
