"""OTLP trace messages -> plain values, with the official ``opentelemetry-proto`` classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

Value: TypeAlias = "str | bool | int | float | bytes | list[Value] | dict[str, Value] | None"


@dataclass(frozen=True)
class ReceivedSpan:
    """One span with the resource and the scope it came under."""

    name: str
    kind: str  # INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER or UNSPECIFIED
    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits
    parent_span_id: str | None  # None: a root span
    start_ns: int
    end_ns: int
    attributes: dict[str, Value]
    status: str  # UNSET, OK or ERROR
    status_message: str
    events: list[str]
    links: int
    resource: dict[str, Value]
    resource_schema_url: str
    scope_name: str
    scope_version: str
    scope_attributes: dict[str, Value]
    scope_schema_url: str

    @property
    def duration_s(self) -> float:
        """End less start, in seconds."""
        return (self.end_ns - self.start_ns) / 1e9


def decode(message: ExportTraceServiceRequest) -> list[ReceivedSpan]:
    """Every span of one export request, in the order of the message."""
    return [
        _decode_span(resource_spans, scope_spans, span)
        for resource_spans in message.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def _decode_span(
    resource_spans: ResourceSpans, scope_spans: ScopeSpans, span: Span
) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() or None,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_decode_pairs(span.attributes),
        status=Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        status_message=span.status.message,
        events=[event.name for event in span.events],
        links=len(span.links),
        resource=_decode_pairs(resource_spans.resource.attributes),
        resource_schema_url=resource_spans.schema_url,
        scope_name=scope_spans.scope.name,
        scope_version=scope_spans.scope.version,
        scope_attributes=_decode_pairs(scope_spans.scope.attributes),
        scope_schema_url=scope_spans.schema_url,
    )


def _decode_pairs(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    return {pair.key: _decode_value(pair.value) for pair in pairs}


def _decode_value(value: AnyValue) -> Value:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_decode_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _decode_pairs(value.kvlist_value.values)
    plain: str | bool | int | float | bytes = getattr(value, kind)
    return plain
