"""Spans for OpenTelemetry, where its own environment variables ask for them; else nothing, at no cost.

A span tells what was asked for, how long it took, what it cost and how it ended: never texts, never keys.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from grm_service.errors import MissingExtra, code_of
from grm_service.types import Params, Sample, Usage
from grm_service.version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Span as Recorded
    from opentelemetry.trace import Tracer

Attributes = dict[str, str | bool | int | float | list[str] | None]
_FLUSH_S = 5.0
_tracer: Tracer | None = None


class Span:
    """One span; `recorded` None: nobody asked for it, and what it is told is dropped."""

    def __init__(self, recorded: Recorded | None = None) -> None:
        self._recorded = recorded

    @property
    def trace_id(self) -> str | None:
        """Of the trace that it belongs to, as a traceparent has it."""
        return None if self._recorded is None else f"{self._recorded.get_span_context().trace_id:032x}"

    def note(self, attributes: Attributes) -> None:
        """Adds attributes; None is left out."""
        if self._recorded is not None:
            self._recorded.set_attributes({k: v for k, v in attributes.items() if v is not None})

    def name(self, name: str) -> None:
        """Gives it a better name than it began with."""
        if self._recorded is not None:
            self._recorded.update_name(name)

    def fail(self, code: str) -> None:
        """Marks it as failed, by a stable code."""
        if self._recorded is not None:
            from opentelemetry.trace import StatusCode

            self._recorded.set_attribute("error.type", code)
            self._recorded.set_status(StatusCode.ERROR)


@contextmanager
def span(
    name: str,
    attributes: Attributes,
    kind: Literal["SERVER", "INTERNAL", "CLIENT"] = "INTERNAL",
    headers: Mapping[str, str] | None = None,
) -> Iterator[Span]:
    """A span around what is inside, below the one that is open or the one that the headers name."""
    if _tracer is None:
        yield Span()
        return
    from opentelemetry.trace import SpanKind, use_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = None if headers is None else TraceContextTextMapPropagator().extract(headers)
    recorded = _tracer.start_span(name, parent, SpanKind[kind])
    # What an exception says may quote a text: its code is all that is told.
    with use_span(recorded, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        opened = Span(recorded)
        opened.note(attributes)
        try:
            yield opened
        except BaseException as failed:
            opened.fail(code_of(failed))
            raise


def outgoing() -> dict[str, str]:
    """The headers by which a server that is asked joins the trace."""
    headers: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(headers)
    return headers


def asked(provider: str, model: str, params: Params) -> Attributes:
    """What is asked of a model, in the words of OTel's conventions for generative AI."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.seed": params.seed,
    }


def spent(usage: Usage) -> Attributes:
    """The tokens of a span."""
    return {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
    }


def taken(sample: Sample) -> Attributes:
    """What became of a sample."""
    return {
        "gen_ai.response.finish_reasons": [sample.finish_reason] if sample.finish_reason else None,
        "grm.closed": sample.closed,
        **spent(sample.usage),
    }


@contextmanager
def exporting() -> Iterator[None]:
    """While inside, spans go where OTEL_EXPORTER_OTLP_ENDPOINT or its _TRACES_ kin says, by OTLP over HTTP.

    OTel's other variables for samplers, batches, resources and the exporter are heeded. Raises MissingExtra.
    """
    global _tracer
    if not _asked_for():
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise MissingExtra("otel", "OTEL_EXPORTER_OTLP_ENDPOINT is set, and tracing") from None
    own = {"service.name": "grm-service", "service.version": __version__}
    resource = Resource.create(own | dict(OTELResourceDetector().detect().attributes))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("grm_service", __version__)
    try:
        yield
    finally:
        _tracer = None
        # A collector that does not answer must not hold up the end.
        flushing = threading.Thread(target=provider.shutdown, daemon=True)
        flushing.start()
        flushing.join(_FLUSH_S)


def _asked_for() -> bool:
    told = os.environ.get
    if told("OTEL_SDK_DISABLED", "").lower() == "true" or "otlp" not in told("OTEL_TRACES_EXPORTER", "otlp"):
        return False
    return any(told(f"OTEL_EXPORTER_OTLP_{kin}ENDPOINT") for kin in ("", "TRACES_"))
