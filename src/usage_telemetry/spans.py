"""Recorded actions -> OpenTelemetry spans on a provider of our own.

The host's OpenTelemetry is not touched and does not reach in here: every part that the SDK would
fill from the environment or from global state is given explicitly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import StatusCode

from usage_telemetry import attributes
from usage_telemetry.catalog import Value
from usage_telemetry.record import Ids, Record


class Spans:
    """A private TracerProvider for one resource.

    Args:
        resource_attributes: All attributes of the resource.
    """

    def __init__(self, resource_attributes: Mapping[str, str]) -> None:
        self._ids = _GivenIds()
        self._ended = _Ended()
        provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource(dict(resource_attributes), attributes.SCHEMA_URL),
            shutdown_on_exit=False,
            id_generator=self._ids,
            span_limits=_NO_LIMITS,
            meter_provider=NoOpMeterProvider(),
        )
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer(attributes.SCOPE, schema_url=attributes.SCHEMA_URL)

    def make(self, records: Iterable[tuple[Record, Ids]]) -> list[ReadableSpan]:
        """Finished root spans, none of which ever was the current span."""
        for record, ids in records:
            self._ids.next = ids
            span_attributes: dict[str, Value] = {
                attributes.ACTION: record.action,
                attributes.INTERFACE: record.interface,
            }
            for key, value in record.extras.items():
                span_attributes[attributes.EXTRA_PREFIX + key] = value
            if record.error is not None:
                span_attributes[attributes.ERROR_TYPE] = record.error
            span = self._tracer.start_span(
                record.action,
                context=_NO_PARENT,
                attributes=span_attributes,
                start_time=record.start_ns,
                record_exception=False,
                set_status_on_exception=False,
            )
            if record.error is not None:
                span.set_status(StatusCode.ERROR)
            span.end(record.end_ns)
        return self._ended.take()


_NO_PARENT = Context()

_NO_LIMITS = SpanLimits(
    max_attributes=SpanLimits.UNSET,
    max_events=SpanLimits.UNSET,
    max_links=SpanLimits.UNSET,
    max_span_attributes=SpanLimits.UNSET,
    max_event_attributes=SpanLimits.UNSET,
    max_link_attributes=SpanLimits.UNSET,
    max_attribute_length=SpanLimits.UNSET,
    max_span_attribute_length=SpanLimits.UNSET,
)
"""The catalog bounds what a span holds; the host's OTEL_*_LIMIT are for the host's spans."""


class _GivenIds(IdGenerator):
    next = Ids(0, 0)

    def generate_trace_id(self) -> int:
        return self.next.trace_id

    def generate_span_id(self) -> int:
        return self.next.span_id

    def is_trace_id_random(self) -> bool:
        return True


class _Ended(SpanProcessor):
    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self._spans.append(span)

    def take(self) -> list[ReadableSpan]:
        spans, self._spans = self._spans, []
        return spans
