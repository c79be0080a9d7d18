"""Events put together and taken apart again, whatever they are."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.jitsu import batch
from opentelemetry.exporter.jitsu.batch import (
    Batch,
    Event,
    batches_of,
    events_in,
    halves,
    ids_of,
)

TIMES = st.integers(min_value=0, max_value=999_999).map("2026-01-01T00:00:00.{:06d}Z".format)
SIZES = st.sampled_from((0, 10, 400, 8000))


@st.composite
def some_events(draw: st.DrawFn, least: int = 0) -> list[Event]:
    drawn = draw(st.lists(st.tuples(TIMES, SIZES), min_size=least, max_size=200))
    return [event(f"id-{number}", time, size) for number, (time, size) in enumerate(drawn)]


def event(event_id: str, time: str, size: int) -> Event:
    body = {"eventn_ctx_event_id": event_id, "extra": "\n" * size}
    return Event(event_id, time, json.dumps(body).encode())


@given(some_events())
def test_batches_hold_all_events_in_their_order_within_the_limits(events: list[Event]) -> None:
    made = list(batches_of("key", events, 1.5))
    assert ids_of(made) == [one.id for one in events]
    assert b"\n".join(one.body for one in made).split(b"\n") == [e.body for e in events] or not made
    for one in made:
        assert one.events <= batch.MAX_EVENTS
        assert one.events == 1 or len(one.body) <= batch.MAX_BYTES + one.events
        mine = [e.time for e in events if e.id in one.ids.split(" ")]
        assert (one.first, one.last) == (min(mine), max(mine))


@given(some_events(least=2), st.data())
def test_halves_are_parts_of_one_number_that_make_up_the_whole(
    events: list[Event], data: st.DataObject
) -> None:
    whole = list(batches_of("key", events, 1.5))
    one, other = halves(whole)
    assert ids_of(one) + ids_of(other) == ids_of(whole)
    assert 0 <= events_in(other) - events_in(one) <= 1
    lines = [line for part in (*one, *other) for line in part.body.split(b"\n")]
    assert lines == [each.body for each in events]


@given(some_events(least=1), st.sets(st.integers(min_value=0, max_value=200)))
def test_what_is_taken_out_is_all_that_is_missing(events: list[Event], numbers: set[int]) -> None:
    unwanted = {f"id-{number}" for number in numbers}
    left = [
        rest
        for one in batches_of("key", events, 1.5)
        if (rest := one.without(unwanted)) is not None
    ]
    assert ids_of(left) == [one.id for one in events if one.id not in unwanted]


@given(some_events(least=1), st.data())
def test_of_a_damaged_batch_the_whole_events_remain(
    events: list[Event], data: st.DataObject
) -> None:
    (one, *_) = batches_of("key", events, 1.5)
    at = data.draw(st.integers(min_value=0, max_value=len(one.body) - 1))
    torn = one._replace(body=one.body[:at] + b"\x00" + one.body[at + 1 :])
    intact = torn.intact()
    kept = ids_of([intact]) if intact else []
    assert one.events - len(kept) <= 1 or torn.body.count(b"\n") != one.body.count(b"\n")
    for event_id in kept:
        assert event_id in one.ids.split(" ")


def test_a_batch_that_never_was_one_is_not_intact() -> None:
    torn = Batch("key", 1.5, "", "", "a b", b"{}")
    assert torn.intact() is None
    assert torn._replace(ids="a").intact() is None
