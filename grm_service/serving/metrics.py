"""Prometheus metrics of a service. Labels have few values: no texts, no ids, no names of callers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from grm_service.audit.records import Record
from grm_service.audit.trail import Trail
from grm_service.errors import DeadlineExceeded, GRMError
from grm_service.judging.vote import top
from grm_service.serving.queue import RequestQueue
from grm_service.serving.single_flight import Reuse
from grm_service.types import Sample, Usage, Verdict

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_SHARES = tuple(i / 10 for i in range(1, 11))
_REWARDS = tuple(float(i) for i in range(1, 11))
_SPREADS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.5)
_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


class Metrics:
    """The metrics of one service, in a registry of its own."""

    def __init__(self, queue: RequestQueue) -> None:
        registry = self.registry = CollectorRegistry()

        def counter(name: str, help_: str, *labels: str) -> Counter:
            return Counter(f"grm_{name}", help_, labels, registry=registry)

        def histogram(name: str, help_: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"grm_{name}", help_, labels, buckets=buckets, registry=registry)

        self.requests = counter("requests", "HTTP requests answered.", "route", "status")
        self.request_seconds = histogram("request_seconds", "Duration of HTTP requests.", _SECONDS, "route")
        self.rejected = counter(
            "rejected", "HTTP requests rejected before they were handled, by reason.", "reason"
        )
        self.failures = counter("failures", "Judgements without a verdict, by error code.", "code")
        self.replays = counter(
            "replays", "Verdicts that were new (miss), shared (join) or replayed (hit).", "how"
        )
        self.queue_seconds = histogram("queue_seconds", "Time in the queue.", _SECONDS)
        self.judge_seconds = histogram("judge_seconds", "Time to judge.", _SECONDS, "profile")
        self.rendezvous = counter(
            "rendezvous",
            "Groups gathered from single responses: complete, by window, or one alone.",
            "route",
            "outcome",
        )
        self.rendezvous_wait = histogram(
            "rendezvous_wait_seconds", "From the first response of a group to its closing.", _SECONDS, "route"
        )
        self.fallbacks = counter(
            "fallbacks", "Fallback rewards returned instead of an error, by error code.", "route", "code"
        )
        self.deadlines = counter(
            "deadlines_exceeded",
            "Judgements out of time: while queued (shed), without a sample (failed), with some (partial).",
            "outcome",
        )
        self.samples = counter("samples", "Samples started, by outcome.", "outcome")
        self.sample_seconds = histogram("sample_seconds", "Duration of readable samples.", _SECONDS)
        self.tokens = counter("tokens", "Tokens, including those of failures.", "kind")
        self.responses = histogram("responses", "Responses per verdict.", _SIZES, "profile")
        self.valid = histogram("valid", "Share of readable samples per verdict.", _SHARES, "profile")
        self.std = histogram("std", "Standard deviation of one response's scores.", _SPREADS, "profile")
        self.top_shown = counter(
            "top_shown",
            "Samples whose best response was at this position; m tied ones count 1/m.",
            "profile",
            "place",
        )
        self.top_shown_expected = counter(
            "top_shown_expected", "The count of top_shown expected without position bias.", "profile"
        )
        self.agreement = histogram(
            "agreement", "Share of samples that put the best response on top.", _SHARES, "profile"
        )
        self.rewards = histogram("rewards", "Rewards.", _REWARDS, "profile")
        self.zero_spread = counter("zero_spread", "Verdicts in which all rewards were equal.", "profile")
        self.requests_in_flight = Gauge(
            "grm_requests_in_flight", "HTTP requests in flight, without health checks.", registry=registry
        )
        waiting = Gauge("grm_waiting_requests", "Requests in the queue.", registry=registry)
        waiting.set_function(lambda: queue.waiting)
        self._audit_broken = Gauge(
            "grm_audit_broken",
            "1 if the audit trail is not as this service wrote it, else 0.",
            registry=registry,
        )
        in_flight = Gauge("grm_samples_in_flight", "Samples being generated.", registry=registry)
        in_flight.set_function(lambda: queue.in_flight)
        chars = Gauge(
            "grm_prompt_chars_in_flight", "Characters of the prompts of these samples.", registry=registry
        )
        chars.set_function(lambda: queue.chars_in_flight)

    def watch(self, trail: Trail) -> None:
        """Show whether a trail is broken."""
        self._audit_broken.set_function(lambda: trail.broken)

    def sampled(self, sample: Sample, seconds: float) -> None:
        """Count a sample that has ended."""
        self.samples.labels(sample.error or ("closed" if sample.closed else "ok")).inc()
        if sample.critique is not None:
            self.sample_seconds.observe(seconds)
        self.spent(sample.usage)

    def spent(self, usage: Usage) -> None:
        """Count tokens, as far as the server states them."""
        for kind in ("prompt", "cached", "completion"):
            self.tokens.labels(kind).inc(getattr(usage, f"{kind}_tokens") or 0)

    def failed(self, error: GRMError) -> None:
        """Count a judgement without a verdict."""
        self.failures.labels(error.code).inc()
        if isinstance(error, DeadlineExceeded):
            self.deadlines.labels(error.label or "failed").inc()

    def judged(self, record: Record, synthetic: bool = False) -> None:
        """Count a new verdict; its samples are counted already. A synthetic one adds to no distribution."""
        verdict, vote = record.verdict, record.verdict.vote
        self.queue_seconds.observe(record.queue_s)
        self.judge_seconds.labels(verdict.profile).observe(verdict.judge_s)
        if any(sample.error == DeadlineExceeded.code for sample in verdict.samples):
            self.deadlines.labels("partial").inc()
        if synthetic:
            return
        if vote.agreement is not None:
            self.agreement.labels(verdict.profile).observe(vote.agreement)
        for reward in vote.rewards:
            self.rewards.labels(verdict.profile).observe(reward)
        if len(vote.rewards) > 1 and len(set(vote.rewards)) == 1:
            self.zero_spread.labels(verdict.profile).inc()
        for std in vote.std:
            self.std.labels(verdict.profile).observe(std)
        self.responses.labels(verdict.profile).observe(len(vote.rewards))
        valid = sum(sample.critique is not None for sample in verdict.samples)
        self.valid.labels(verdict.profile).observe(valid / len(verdict.samples))
        self._count_positions(verdict)

    def group_closed(self, route: str, outcome: str, waited_s: float) -> None:
        """Count a group gathered from single responses."""
        self.rendezvous.labels(route, outcome).inc()
        self.rendezvous_wait.labels(route).observe(waited_s)

    def answered(self, reuse: Reuse) -> None:
        """Count a verdict returned to a caller."""
        self.replays.labels(reuse).inc()

    def _count_positions(self, verdict: Verdict) -> None:
        """Track position bias: over full rotations an unbiased judge favours no position."""
        for sample in verdict.samples:
            if sample.scores is None or len(sample.order) < 2:
                continue
            best = top(sample.scores)
            for place, response in (("first", sample.order[0]), ("last", sample.order[-1])):
                self.top_shown.labels(verdict.profile, place).inc((response in best) / len(best))
            self.top_shown_expected.labels(verdict.profile).inc(1 / len(sample.order))

    def text(self) -> bytes:
        """Return the metrics in the Prometheus text format."""
        return generate_latest(self.registry)
