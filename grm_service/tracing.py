"""OpenTelemetry spans, enabled by OpenTelemetry's own environment variables; free of cost otherwise.

Spans carry request parameters, durations, token counts and error codes: never texts, never API keys.
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
    from opentelemetry.trace import Span as OTelSpan
    from opentelemetry.trace import Tracer

Attributes = dict[str, str | bool | int | float | list[str] | None]
_FLUSH_S = 5.0
_tracer: Tracer | None = None


class Span:
    """A span, or a stand-in that ignores everything (`recorded` None) if tracing is off."""

    def __init__(self, recorded: OTelSpan | None = None) -> None:
        self._recorded = recorded

    @property
    def trace_id(self) -> str | None:
        """The id of its trace in hexadecimal, as in a traceparent header; None if tracing is off."""
        return None if self._recorded is None else f"{self._recorded.get_span_context().trace_id:032x}"

    def note(self, attributes: Attributes) -> None:
        """Add attributes, except those that are None."""
        if self._recorded is not None:
            self._recorded.set_attributes({k: v for k, v in attributes.items() if v is not None})

    def name(self, name: str) -> None:
        """Replace the name that it was opened with."""
        if self._recorded is not None:
            self._recorded.update_name(name)

    def fail(self, code: str) -> None:
        """Mark it as failed with a stable error code."""
        if self._recorded is not None:
            # Imported late, here and below: OpenTelemetry is an optional extra.
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
    """Open a span around the block.

    Its parent is the remote span in `headers` (a traceparent) if they are passed, else the current span.
    """
    if _tracer is None:
        yield Span()
        return
    from opentelemetry.trace import SpanKind, use_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = None if headers is None else TraceContextTextMapPropagator().extract(headers)
    recorded = _tracer.start_span(name, parent, SpanKind[kind])
    # Exception messages may quote texts of a request: only the code is recorded.
    with use_span(recorded, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        current = Span(recorded)
        current.note(attributes)
        try:
            yield current
        except BaseException as error:
            current.fail(code_of(error))
            raise


def trace_headers() -> dict[str, str]:
    """Return the headers that propagate the current trace to another server."""
    headers: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(headers)
    return headers


def request_attributes(provider: str, model: str, params: Params) -> Attributes:
    """Return the attributes of a request to a model, by OTel's semantic conventions for generative AI."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.seed": params.seed,
    }


def usage_attributes(usage: Usage) -> Attributes:
    """Return the token counts of a span."""
    return {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
    }


def sample_attributes(sample: Sample) -> Attributes:
    """Return the finish reason and token counts of a sample, and why it was closed or has no soft scores."""
    return {
        "gen_ai.response.finish_reasons": [sample.finish_reason] if sample.finish_reason else None,
        "grm.closed": sample.closed,
        "grm.closed_reason": sample.closed_reason,
        "grm.soft_error": sample.soft_error,
        **usage_attributes(sample.usage),
    }


@contextmanager
def exporting() -> Iterator[None]:
    """Export spans by OTLP over HTTP while the block runs.

    Does nothing unless OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set. OTel's
    variables for samplers, batches, resources and the exporter apply. Raises MissingExtra.
    """
    global _tracer
    if not _is_enabled():
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise MissingExtra("otel", "OTEL_EXPORTER_OTLP_ENDPOINT is set, and tracing") from None
    defaults = {"service.name": "grm-service", "service.version": __version__}
    resource = Resource.create(defaults | dict(OTELResourceDetector().detect().attributes))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("grm_service", __version__)
    try:
        yield
    finally:
        _tracer = None
        # A collector that does not answer must not block the shutdown.
        flushing = threading.Thread(target=provider.shutdown, daemon=True)
        flushing.start()
        flushing.join(_FLUSH_S)


def _is_enabled() -> bool:
    env = os.environ.get
    if env("OTEL_SDK_DISABLED", "").lower() == "true" or "otlp" not in env("OTEL_TRACES_EXPORTER", "otlp"):
        return False
    return any(env(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT") for signal in ("", "TRACES_"))
