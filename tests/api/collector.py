"""An OpenTelemetry collector on 127.0.0.1 that receives spans by OTLP over HTTP."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


class Collector(ThreadingHTTPServer):
    """Records what it receives: raw `bodies`, `spans` as dictionaries, and `resources`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies, self.spans, self.resources = [], [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def named(self, name):
        return [span for span in self.spans if span["name"] == name]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.server.resources.append(_attributes(resource.resource))
            for scope in resource.scope_spans:
                self.server.spans += [_span_fields(span) for span in scope.spans]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def _attributes(holder):
    values = ((attribute.key, attribute.value) for attribute in holder.attributes)
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values}


def _span_fields(span):
    return {
        "name": span.name,
        "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        "started": span.start_time_unix_nano,
        "ended": span.end_time_unix_nano,
        "failed": span.status.code == Status.STATUS_CODE_ERROR,
        "events": len(span.events),
        **_attributes(span),
    }
