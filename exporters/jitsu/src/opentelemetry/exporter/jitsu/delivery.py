"""What the one who sends may do with an outbox: take events, and book what became of them."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.exporter.jitsu.batch import Batch, events_in, ids_of
from opentelemetry.exporter.jitsu.database import OutboxUnusable
from opentelemetry.exporter.jitsu.destination import Destination, Rest
from opentelemetry.exporter.jitsu.rows import add_counts, delete, log_sent, waiting

if TYPE_CHECKING:
    from opentelemetry.exporter.jitsu.outbox import Outbox

logger = logging.getLogger("usage_telemetry.exporter.jitsu")

BOOKING_S = 30.0
"""How long to go on trying to take note of what an endpoint has accepted."""


class Taken(NamedTuple):
    """What waits for a destination, as much of it as was asked for.

    Attributes:
        rest: How long the destination still has to be left alone.
        batches: The oldest that wait.
        more: Others do as well.
    """

    rest: Rest
    batches: list[Batch]
    more: bool


class Delivery:
    """What a holder of the right to send may do with the outbox."""

    def __init__(
        self,
        outbox: Outbox,
        transaction: Callable[[], AbstractContextManager[sqlite3.Connection]],
        destination: Destination,
        *,
        on_disk: bool,
    ) -> None:
        self._outbox = outbox
        self._transaction = transaction
        self._destination = destination
        self._on_disk = on_disk

    def take(self, max_events: int, max_bytes: int, now: float) -> Taken:
        """How long the destination still has to be left alone, and the oldest that waits for it.

        What is taken stays until `settle`. Within both limits, but for a first batch of more than
        `max_bytes`, which `batch.MAX_BYTES` bounds.
        """
        taken: list[Batch] = []
        events = size = 0
        more = False
        with self._transaction() as db:
            rest = self._rest(db, now)
            for row in waiting(db, self._destination):
                batch = row.without(self._outbox.unbooked)
                if batch is None:
                    continue
                part = batch.part(0, max_events - events)
                if part is None or (taken and size + len(part.body) > max_bytes):
                    more = True
                    break
                taken.append(part)
                events += part.events
                size += len(part.body) + 1
                more = part is not batch
        return Taken(rest, taken, more)

    def _rest(self, db: sqlite3.Connection, now: float) -> Rest:
        """A clock that was set back since then ends the rest: it says nothing about the server."""
        row = db.execute(
            "SELECT failures, rests_since, rests_until, binding, reason "
            "FROM destination WHERE key = ?",
            (self._destination.key,),
        ).fetchone()
        if row is None:
            return Rest()
        failures, since, until, binding, reason = row
        return Rest(failures, until if since <= now else 0.0, bool(binding), reason)

    def settle(
        self, sent: Sequence[Batch], given_up: dict[str, Sequence[Batch]], now: float
    ) -> None:
        """Book the fate of events: accepted ones go to the log of what was sent, others go.

        Does not fail: what the disk does not take note of is remembered, so that an accepted
        event is not sent again by this process at least.
        """
        settled = [*sent, *(batch for batches in given_up.values() for batch in batches)]
        deadline = time.monotonic() + BOOKING_S
        while True:
            try:
                with self._transaction() as db:
                    self._settle(db, sent, settled, given_up, now)
                break
            except OutboxUnusable as error:
                if "locked" in str(error) and time.monotonic() < deadline:
                    time.sleep(0.001)
                    continue
                logger.debug("outbox: %s; booked without a log", error)
                self._outbox.book_without_space(ids_of(settled))
                break
        if not self._on_disk:
            self._outbox.book_late()

    def _settle(
        self,
        db: sqlite3.Connection,
        sent: Sequence[Batch],
        settled: Sequence[Batch],
        given_up: dict[str, Sequence[Batch]],
        now: float,
    ) -> None:
        if self._on_disk:
            log_sent(db, sent, now)
            for batches in given_up.values():
                delete(db, batches)
        elif delete(db, settled) < events_in(settled):
            # Brought to disk in the meantime, because the process ends.
            self._outbox.unbooked.update(ids_of(settled))
        if sent:
            db.execute(
                "UPDATE destination SET failures = 0, rests_until = 0, reason = '' WHERE key = ?",
                (self._destination.key,),
            )
        counts = {f"given_up:{reason}": events_in(of) for reason, of in given_up.items()}
        add_counts(db, {**counts, "sent": events_in(sent)})

    def postpone(self, rest: Rest, now: float) -> None:
        """Leave the destination alone until `rest.until`."""
        with self._transaction() as db:
            db.execute(
                "UPDATE destination SET failures = ?, rests_since = ?, rests_until = ?, "
                "binding = ?, reason = ? WHERE key = ?",
                (rest.failures, now, rest.until, rest.binding, rest.reason, self._destination.key),
            )
            add_counts(db, {"retried": 1})
