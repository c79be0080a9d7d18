"""The spans we make are those that a Tracer of the SDK would have made, to any exporter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import StatusCode

from usage_telemetry import attributes
from usage_telemetry.catalog import Value
from usage_telemetry.record import Ids, Record, with_ids
from usage_telemetry.spans import Spans

RESOURCE = {"service.name": "tool", "service.version": "1.2.3", "os.type": "linux"}
NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=20)
VALUES: st.SearchStrategy[Value] = (
    st.integers(min_value=0, max_value=2**63 - 1)
    | st.booleans()
    | NAMES
    | st.lists(NAMES, max_size=4).map(tuple)
)
TIMES = st.integers(min_value=1, max_value=2**63 - 1)
RECORDS = st.builds(
    Record,
    NAMES,
    NAMES,
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.none() | NAMES,
    TIMES,
    TIMES,
)


class TheseIds(RandomIdGenerator):
    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def generate_trace_id(self) -> int:
        return self._ids.trace_id

    def generate_span_id(self) -> int:
        return self._ids.span_id


def of_a_tracer(record: Record, ids: Ids) -> ReadableSpan:
    """The span that the SDK makes of an action, through all of its own parts."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(
        resource=Resource(RESOURCE, attributes.SCHEMA_URL),
        shutdown_on_exit=False,
        id_generator=TheseIds(ids),
    )
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer(attributes.SCOPE, schema_url=attributes.SCHEMA_URL)
    found: dict[str, Value] = {
        "usage.action": record.action,
        "usage.interface": record.interface,
        **{f"usage.extra.{key}": value for key, value in record.extras.items()},
    }
    if record.error is not None:
        found["error.type"] = record.error
    span = tracer.start_span(
        record.action, context=Context(), attributes=found, start_time=record.start_ns
    )
    if record.error is not None:
        span.set_status(StatusCode.ERROR)
    span.end(record.end_ns)
    [made] = exporter.get_finished_spans()
    return made


@given(RECORDS)
def test_a_span_is_the_same_as_the_sdks_own_in_otlp_and_as_json(record: Record) -> None:
    [(_, ids)] = with_ids([record])

    [ours] = Spans(RESOURCE).make([(record, ids)])
    theirs = of_a_tracer(record, ids)

    assert encode_spans([ours]) == encode_spans([theirs])
    assert ours.to_json() == theirs.to_json()
    assert ours.resource == theirs.resource
    assert ours.instrumentation_scope == theirs.instrumentation_scope
    assert (ours.dropped_attributes, ours.events, ours.links) == (0, (), ())


def test_ids_differ_and_are_valid() -> None:
    record = Record("act", "cli", {}, None, 1, 1)

    spans = Spans(RESOURCE).make(with_ids([record] * 1000))

    assert len({span.context.trace_id for span in spans}) == 1000
    assert len({span.context.span_id for span in spans}) == 1000
    assert all(span.context.is_valid for span in spans)
