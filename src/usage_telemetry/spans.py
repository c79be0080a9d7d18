"""Recorded actions -> OpenTelemetry spans, as an exporter gets them from a Tracer.

The host's OpenTelemetry is not touched and does not reach in here. Nor does a Tracer of the SDK
stand between: it would ask a sampler, look for a parent, copy and check what the catalog has
checked, and take a lock for what nobody else can see, at eight times the cost of the span itself.
What it would hand to an exporter is a `ReadableSpan`; a test holds these against those, in OTLP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from usage_telemetry import attributes
from usage_telemetry.catalog import Value
from usage_telemetry.record import Ids, Record


class Spans:
    """Makes the spans of one resource.

    Args:
        resource_attributes: All attributes of the resource.
    """

    def __init__(self, resource_attributes: Mapping[str, str]) -> None:
        self._resource = Resource(dict(resource_attributes), attributes.SCHEMA_URL)
        self._scope = InstrumentationScope(attributes.SCOPE, "", attributes.SCHEMA_URL)

    def make(self, records: Iterable[tuple[Record, Ids]]) -> list[ReadableSpan]:
        """Finished root spans, none of which ever was the current span."""
        return [self._span(record, ids) for record, ids in records]

    def _span(self, record: Record, ids: Ids) -> ReadableSpan:
        span_attributes: dict[str, Value] = {
            attributes.ACTION: record.action,
            attributes.INTERFACE: record.interface,
        }
        for key, value in record.extras.items():
            span_attributes[attributes.EXTRA_PREFIX + key] = value
        if record.error is not None:
            span_attributes[attributes.ERROR_TYPE] = record.error
        return ReadableSpan(
            record.action,
            SpanContext(ids.trace_id, ids.span_id, is_remote=False, trace_flags=_FLAGS),
            resource=self._resource,
            attributes=span_attributes,
            status=_UNSET if record.error is None else _ERROR,
            start_time=record.start_ns,
            end_time=record.end_ns,
            instrumentation_scope=self._scope,
        )


_RANDOM_TRACE_ID = 0x02
"""random-trace-id of W3C Trace Context, level 2; older releases of the API have no name for it."""
_FLAGS = TraceFlags(TraceFlags.SAMPLED | _RANDOM_TRACE_ID)
_UNSET = Status(StatusCode.UNSET)
_ERROR = Status(StatusCode.ERROR)
