"""Span -> event, as pure functions."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.jitsu.event import (
    MAX_EVENT_BYTES,
    EventRefused,
    encode,
    encode_resource,
    environment_fields,
    event_from_span,
    span_fields,
    timestamp_from_ns,
)

DOCUMENTED = {
    "_timestamp",
    "action",
    "error",
    "eventn_ctx_event_id",
    "extra",
    "group_id",
    "interface",
    "os_name",
    "os_version",
    "python_version",
    "src",
    "tool_name",
    "tool_version",
    "user_id",
}


def test_an_event_has_the_documented_fields_and_no_other(spans: Any) -> None:
    (span,) = spans(1, **{"usage.interface": "service_backend", "usage.extra.kind": "x"})
    event = event_from_span(span)
    assert event is not None
    assert set(event) == DOCUMENTED
    assert event["extra"] == {"kind": "x"}
    assert event["python_version"] == {"major": 3, "minor": 11, "patch": 7}


def test_what_all_events_of_a_resource_share_is_written_once_and_makes_no_difference(
    spans: Any,
) -> None:
    (span,) = spans(1, **{"usage.extra.kind": "x"})
    further = encode_resource(span.resource.attributes)
    for options in ({}, {"no_ip": True}, {"utc_time": True}):
        fields, event = span_fields(span, **options), event_from_span(span, **options)
        assert fields is not None
        assert event is not None
        assert encode(fields, further) == encode(event)
    with pytest.raises(EventRefused) as refused:
        encode_resource({"service.version": b"bytes"})
    assert refused.value.reason == "not_json"


def test_a_span_without_an_action_is_no_event(spans: Any) -> None:
    assert event_from_span(spans(1, action=None)[0]) is None


def test_the_id_is_a_uuid4_and_the_same_on_every_retry(spans: Any) -> None:
    one, other = spans(2)
    first, again, second = (event_from_span(span) for span in (one, one, other))
    assert first is not None
    assert again is not None
    assert second is not None
    assert uuid.UUID(first["eventn_ctx_event_id"]).version == 4
    assert first["eventn_ctx_event_id"] == again["eventn_ctx_event_id"]
    assert first["eventn_ctx_event_id"] != second["eventn_ctx_event_id"]


def test_options_add_their_field_alone(spans: Any) -> None:
    event = event_from_span(spans(1)[0], no_ip=True, utc_time=True)
    assert event is not None
    assert set(event) == DOCUMENTED | {"source_ip", "utc_time"}
    assert event["source_ip"] is None
    assert event["utc_time"] == event["_timestamp"]


@given(st.integers(min_value=0, max_value=253_402_300_799 * 10**9))
def test_a_timestamp_is_utc_with_six_digits(time_ns: int) -> None:
    text = timestamp_from_ns(time_ns)
    assert len(text) == len("2023-07-07T14:08:44.332528Z")
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert abs(moment.timestamp() - time_ns / 1e9) < 1e-4


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=5))
def test_any_version_of_anything_makes_a_documented_event(resource: dict[str, str]) -> None:
    fields = environment_fields({"process.runtime.version": "weird", **resource})
    assert set(fields) == {"os_name", "os_version", "python_version"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=10), json_values, max_size=4))
def test_an_event_is_written_as_json_or_refused(event: dict[str, object]) -> None:
    try:
        body = encode(event)
    except EventRefused:
        pass
    else:
        assert len(body) <= MAX_EVENT_BYTES
        assert json.loads(body) == event


@pytest.mark.parametrize("value", ["\ud800", float("nan"), b"bytes", {1, 2}])
def test_what_json_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(EventRefused) as refused:
        encode({"extra": value})
    assert refused.value.reason == "not_json"


def test_an_event_over_8_kib_is_refused() -> None:
    with pytest.raises(EventRefused, match="8192 are allowed"):
        encode({"extra": "x" * MAX_EVENT_BYTES})
