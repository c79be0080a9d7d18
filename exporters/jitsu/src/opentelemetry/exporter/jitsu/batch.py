"""Events put together: what one row of the outbox holds. Pure, no I/O."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

MAX_EVENTS = 64
"""With a row of its own for each event, the database would take three times as long; larger batches
gain little, and there is more to lose of a damaged file."""
MAX_BYTES = 64 * 1024
"""Eight of the largest events there may be."""


class Event(NamedTuple):
    """One event on its way: its id (UUID4), its `_timestamp`, and its JSON, without a line end."""

    id: str
    time: str
    body: bytes


class Batch(NamedTuple):
    """Events for one destination, in the order in which they came.

    Attributes:
        destination: Key of the destination.
        recorded_at: When they were put into the outbox, seconds since the epoch.
        first, last: No event's `_timestamp` lies outside of these.
        ids: Ids of the events, a space between each two.
        body: JSON of the events, a line each.
        seq: Row of the outbox that they were taken from; 0: none.
    """

    destination: str
    recorded_at: float
    first: str
    last: str
    ids: str
    body: bytes
    seq: int = 0

    @property
    def events(self) -> int:
        """How many there are."""
        return self.ids.count(" ") + 1

    def part(self, start: int, stop: int | None = None) -> Batch | None:
        """The events from `start` to before `stop`; None: there are none."""
        return self._of(range(self.events)[start:stop])

    def without(self, unwanted: Collection[str]) -> Batch | None:
        """All but the events of these ids; None: that leaves none."""
        ids = self.ids.split(" ")
        return self._of([index for index, one in enumerate(ids) if one not in unwanted])

    def intact(self) -> Batch | None:
        """All but the events that are not what was once put in; None: that leaves none."""
        ids = self.ids.split(" ")
        lines = self.body.split(b"\n")
        if len(ids) != len(lines):
            return None
        whole = [i for i, pair in enumerate(zip(ids, lines, strict=True)) if _is_event(*pair)]
        return self._of(whole)

    def _of(self, indices: Sequence[int]) -> Batch | None:
        if len(indices) == self.events:
            return self
        if not indices:
            return None
        ids, lines = self.ids.split(" "), self.body.split(b"\n")
        return self._replace(
            ids=" ".join(ids[index] for index in indices),
            body=b"\n".join(lines[index] for index in indices),
        )


def batches_of(destination: str, events: Sequence[Event], recorded_at: float) -> Iterator[Batch]:
    """Put events together, in their order.

    Args:
        destination: Key of where they go.
        events: The events.
        recorded_at: Seconds since the epoch.
    """
    start = size = 0
    for index, event in enumerate(events):
        if index - start == MAX_EVENTS or (index > start and size + len(event.body) > MAX_BYTES):
            yield _batch(destination, events[start:index], recorded_at)
            start, size = index, 0
        size += len(event.body)
    if events:
        yield _batch(destination, events[start:], recorded_at)


def events_in(batches: Iterable[Batch]) -> int:
    """How many events there are in all of them."""
    return sum(batch.events for batch in batches)


def ids_of(batches: Iterable[Batch]) -> list[str]:
    """The ids of all their events."""
    return [one for batch in batches for one in batch.ids.split(" ")]


def halves(batches: Sequence[Batch]) -> list[Sequence[Batch]]:
    """Two parts of about the same number of events, of at least two."""
    middle = events_in(batches) // 2
    parts: tuple[list[Batch], list[Batch]] = ([], [])
    for batch in batches:
        for part, cut in zip(parts, (batch.part(0, middle), batch.part(middle)), strict=True):
            if cut is not None:
                part.append(cut)
        middle = max(0, middle - batch.events)
    return list(parts)


def _batch(destination: str, events: Sequence[Event], recorded_at: float) -> Batch:
    ids, times, bodies = zip(*events, strict=True)
    return Batch(
        destination, recorded_at, min(times), max(times), " ".join(ids), b"\n".join(bodies)
    )


def _is_event(event_id: str, line: bytes) -> bool:
    try:
        event = json.loads(line)
    except ValueError:
        return False
    return isinstance(event, dict) and event.get("eventn_ctx_event_id") == event_id
