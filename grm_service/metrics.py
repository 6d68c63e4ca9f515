"""What a service counts, for Prometheus. Labels have few values: no texts, no ids, no callers' names."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from grm_service.admission import Line
from grm_service.flights import How
from grm_service.types import Record, Sample

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_SHARES = tuple(i / 10 for i in range(1, 11))
_REWARDS = tuple(float(i) for i in range(1, 11))


class Metrics:
    """One registry a service, so that several can live in one process."""

    def __init__(self, line: Line) -> None:
        registry = self.registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"grm_{name}", what, labels, registry=registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"grm_{name}", what, labels, buckets=buckets, registry=registry)

        self.requests = counter("requests", "HTTP requests answered.", "route", "status")
        self.request_seconds = histogram("request_seconds", "Whole HTTP requests.", _SECONDS, "route")
        self.failures = counter("failures", "Judgements that gave no verdict, by error code.", "code")
        self.replays = counter("replays", "Judgements made (miss), shared (join), given again (hit).", "how")
        self.queue_seconds = histogram("queue_seconds", "Waiting before the judging.", _SECONDS)
        self.judge_seconds = histogram("judge_seconds", "Judging.", _SECONDS, "profile")
        self.samples = counter("samples", "Samples, by what became of them.", "outcome")
        self.tokens = counter("tokens", "Tokens.", "kind")
        self.agreement = histogram("agreement", "Share of samples for the best.", _SHARES, "profile")
        self.rewards = histogram("rewards", "Rewards given.", _REWARDS, "profile")
        self.zero_spread = counter("zero_spread", "Verdicts in which all rewards were equal.", "profile")
        waiting = Gauge("grm_waiting_requests", "Requests in the line.", registry=registry)
        waiting.set_function(lambda: line.waiting)
        in_flight = Gauge("grm_samples_in_flight", "Samples that are being generated.", registry=registry)
        in_flight.set_function(lambda: line.in_flight)

    def judged(self, record: Record) -> None:
        """Counts a verdict that was just made."""
        verdict, vote = record.verdict, record.verdict.vote
        self.queue_seconds.observe(record.queue_s)
        self.judge_seconds.labels(verdict.profile).observe(verdict.judge_s)
        for sample in verdict.samples:
            self.samples.labels(_outcome(sample)).inc()
        for kind in ("prompt", "cached", "completion"):
            self.tokens.labels(kind).inc(getattr(verdict.usage, f"{kind}_tokens"))
        if vote.agreement is not None:
            self.agreement.labels(verdict.profile).observe(vote.agreement)
        for reward in vote.rewards:
            self.rewards.labels(verdict.profile).observe(reward)
        if len(vote.rewards) > 1 and len(set(vote.rewards)) == 1:
            self.zero_spread.labels(verdict.profile).inc()

    def asked(self, how: How) -> None:
        """Counts one that got its verdict."""
        self.replays.labels(how).inc()

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)


def _outcome(sample: Sample) -> str:
    return sample.error or ("closed" if sample.closed else "ok")
