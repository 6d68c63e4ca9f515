"""Records like those of a service, for tests without one."""

from dataclasses import replace
from datetime import UTC, datetime

from grm_service.audit.records import Record, Review
from grm_service.judging.vote import vote
from grm_service.types import Critique, JudgeOptions, Message, Principle, Sample, Task, Usage, Verdict

PRINCIPLE = Principle("It answers the question.", 0.5)


def record(number, scores=((7.0, 4.0), (8.0, 5.0)), **changes):
    samples = tuple(
        Sample(
            index,
            index * 7,
            (1, 0),
            f"text {number} of {index} \\boxed{{…}}",
            critique=Critique((PRINCIPLE,), "an analysis", row),
            finish_reason="stop",
            usage=Usage(10, 2, 5),
            counted=True,
        )
        for index, row in enumerate(scores)
    )
    verdict = Verdict(
        "ok",
        "smollm2-135m",
        "sha256:abc",
        "a-model",
        vote(scores),
        len(scores),
        None,
        samples,
        (),
        Usage(20, 4, 10),
        0.25,
    )
    task = Task(
        (Message("user", f"Question {number}?"),), ("one", "two"), options=JudgeOptions(k=len(scores))
    )
    result = Record(
        f"vd_{number}", datetime(2026, 1, 1, tzinfo=UTC), task, (), None, verdict, 0.0, version="1"
    )
    return replace(result, **changes)


def review(number, of, decision="agree", **fields):
    reviewer = fields.pop("reviewer", "ann")
    return Review(f"rv_{number}", of, datetime(2026, 1, 2, tzinfo=UTC), "", reviewer, decision, **fields)
