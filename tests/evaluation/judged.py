"""Builders of item results for tests."""

from grm_service.evaluation.run_folder import EvalSetup, ItemResult, SampleResult
from grm_service.judging.block_design import balanced_blocks
from grm_service.judging.orders import balanced_orders

SETUP = EvalSetup(profile="p", engine="e", k=8)


def item(scores, correct=(0,), order=None, name="item", **facts):
    """Return an item with one row of scores per sample; None is an unreadable sample."""
    n = max(len(row) for row in scores if row is not None)
    orders_ = order or balanced_orders(n, len(scores), 0)
    samples = tuple(
        SampleResult(order, row, None if row else "no_scores", False, 10)
        for order, row in zip(orders_, scores, strict=True)
    )
    return _judged(name, samples, n, correct, facts)


def large(rounds, n, scored, name="item"):
    """Return a large group judged in blocks; `scored(order)` returns the scores for one prompt."""
    samples = []
    for order in balanced_blocks(n, rounds, 0):
        scores = dict(zip(order, scored(order), strict=True))
        samples.append(SampleResult(order, tuple(scores.get(i) for i in range(n)), None, False, 10))
    return _judged(name, tuple(samples), n, (0,), {})


def _judged(name, samples, n, correct, facts):
    wanted = {
        "lengths": (10,) * n,
        "authors": (),
        "group": name,
        "source": "source",
        "probe": "",
        "error": None,
        "fingerprint": "sha256:1",
        "completion_tokens": sum(sample.tokens for sample in samples),
        "seconds": 1.0,
    }
    return ItemResult(id=name, digest="d", correct=correct, samples=samples, **{**wanted, **facts})
