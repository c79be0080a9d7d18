"""What the one who sends may do with an outbox: take events, and book what became of them."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from opentelemetry.exporter.jitsu.rows import add_counts, delete, log_sent
from opentelemetry.exporter.jitsu.waiting import Destination, OutboxUnusable, Rest, Waiting

if TYPE_CHECKING:
    from opentelemetry.exporter.jitsu.outbox import Outbox

logger = logging.getLogger("usage_telemetry.exporter.jitsu")

BOOKING_S = 30.0
"""How long to go on trying to take note of what an endpoint has accepted."""


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

    def rest(self, now: float) -> Rest:
        """How long the destination still has to be left alone.

        A clock that was set back since then ends the rest: it says nothing about the server.
        """
        with self._transaction() as db:
            row = db.execute(
                "SELECT failures, rests_since, rests_until, binding, reason "
                "FROM destination WHERE key = ?",
                (self._destination.key,),
            ).fetchone()
        if row is None:
            return Rest()
        failures, since, until, binding, reason = row
        return Rest(failures, until if since <= now else 0.0, bool(binding), reason)

    def take(self, max_events: int, max_bytes: int) -> list[Waiting]:
        """The oldest waiting events, within both limits; they stay until `settle`."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT seq, id, body FROM event WHERE destination = ? ORDER BY seq LIMIT ?",
                (self._destination.key, max_events + len(self._outbox.unbooked)),
            ).fetchall()
        batch: list[Waiting] = []
        size = 0
        for row in map(Waiting._make, rows):
            if self._outbox.booked_late(row.id):
                continue
            size += len(row.body) + 1
            if batch and (size > max_bytes or len(batch) == max_events):
                break
            batch.append(row)
        return batch

    def settle(
        self, sent: Sequence[Waiting], given_up: dict[str, list[Waiting]], now: float
    ) -> None:
        """Book the fate of events: accepted ones go to the log of what was sent, others go.

        Does not fail: what the disk does not take note of is remembered, so that an accepted
        event is not sent again by this process at least.
        """
        ids = [row.id for row in (*sent, *(row for rows in given_up.values() for row in rows))]
        deadline = time.monotonic() + BOOKING_S
        while True:
            try:
                with self._transaction() as db:
                    self._settle(db, sent, ids, given_up, now)
                break
            except OutboxUnusable as error:
                if "locked" in str(error) and time.monotonic() < deadline:
                    time.sleep(0.001)
                    continue
                logger.debug("outbox: %s; booked without a log", error)
                self._outbox.book_without_space(ids)
                break
        if not self._on_disk:
            self._outbox.book_late()

    def _settle(
        self,
        db: sqlite3.Connection,
        sent: Sequence[Waiting],
        ids: Sequence[str],
        given_up: dict[str, list[Waiting]],
        now: float,
    ) -> None:
        if not self._on_disk and delete(db, ids) < len(ids):
            # Brought to disk in the meantime, because the process ends.
            self._outbox.unbooked.update(ids)
        if self._on_disk:
            log_sent(db, self._destination, sent, now)
            delete(db, ids)
        if sent:
            db.execute(
                "UPDATE destination SET failures = 0, rests_until = 0, reason = '' WHERE key = ?",
                (self._destination.key,),
            )
        counts = {f"given_up:{reason}": len(rows) for reason, rows in given_up.items()}
        add_counts(db, {**counts, "sent": len(sent)})

    def postpone(self, rest: Rest, now: float) -> None:
        """Leave the destination alone until `rest.until`."""
        with self._transaction() as db:
            db.execute(
                "UPDATE destination SET failures = ?, rests_since = ?, rests_until = ?, "
                "binding = ?, reason = ? WHERE key = ?",
                (rest.failures, now, rest.until, rest.binding, rest.reason, self._destination.key),
            )
            add_counts(db, {"retried": 1})
