"""SQL over one open transaction of an outbox: what goes in, what comes out, the caps."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence

from opentelemetry.exporter.jitsu.batch import MAX_EVENTS as MAX_BATCH_EVENTS
from opentelemetry.exporter.jitsu.batch import Batch
from opentelemetry.exporter.jitsu.destination import Destination

MAX_AGE_S = 7 * 24 * 3600
"""Usage a week old still counts for the week it happened in; older news only misleads."""
MAX_EVENTS = 10_000
"""Some 5 MB of typical events: weeks of a busy UI, minutes of a runaway loop."""
MAX_BYTES = 10 * 1024 * 1024
"""What a telemetry file may take of a user's disk without being noticed."""
SENT_MAX_AGE_S = 30 * 24 * 3600
"""How long a user can look up what was sent."""
SENT_MAX_EVENTS = 10_000
"""The log of what was sent obeys the same disk budget as what waits."""

Known = tuple[str, str, str]
"""A destination as the outbox knows it: key, endpoint, token."""

WAITING = "SELECT destination, at, first, last, ids, body, seq FROM batch WHERE waiting "

_OLDEST = (
    f"{WAITING} AND seq = "  # noqa: S608
    "(SELECT min(seq) FROM batch INDEXED BY batch_waiting WHERE waiting)"
)
"""By the index: left to itself, SQLite reads the whole log that lies before what waits."""


def known(destination: Destination) -> Known:
    return destination.key, destination.endpoint, destination.token


def insert(db: sqlite3.Connection, destinations: Iterable[Known], batches: Iterable[Batch]) -> None:
    """Put in events that are new; one that waits or was sent already is not taken again."""
    db.executemany(
        "INSERT OR IGNORE INTO destination (key, endpoint, token) VALUES (?,?,?)", destinations
    )
    for batch in batches:
        new = batch.without(_already_there(db, batch))
        if new is not None:
            _insert(db, new, waiting=True)


def _insert(db: sqlite3.Connection, batch: Batch, *, waiting: bool) -> int:
    """A row's `seq` counts events, not rows: it is the place of its last one. Returns it."""
    cursor = db.execute(
        "INSERT INTO batch (destination, at, first, last, ids, body, waiting, events, seq) VALUES "
        "(?1,?2,?3,?4,?5,?6,?7,?8, (SELECT coalesce(max(seq), 0) FROM batch) + ?8)",
        (*batch[:6], waiting, batch.events),
    )
    return int(cursor.lastrowid or 0)


def _already_there(db: sqlite3.Connection, batch: Batch) -> set[str]:
    """An event keeps its `_timestamp`, so that only batches of the same time can hold it."""
    mine = set(batch.ids.split(" "))
    rows = db.execute(
        "SELECT ids FROM batch WHERE last >= ? AND first <= ?", (batch.first, batch.last)
    )
    return {one for (ids,) in rows for one in mine.intersection(ids.split(" "))}


def waiting(db: sqlite3.Connection, destination: Destination) -> Iterator[Batch]:
    """What waits for a destination, the oldest first."""
    rows = db.execute(f"{WAITING} AND destination = ? ORDER BY seq", (destination.key,))
    return map(Batch._make, rows)


def delete(db: sqlite3.Connection, batches: Iterable[Batch]) -> int:
    """Remove the events of these batches; how many of them there were."""
    deleted = 0
    for batch in batches:
        row = (batch.seq, batch.ids)
        if db.execute("DELETE FROM batch WHERE waiting AND seq = ? AND ids = ?", row).rowcount:
            deleted += batch.events
        else:
            deleted += delete_events(db, batch.ids.split(" "))
    return deleted


def delete_events(db: sqlite3.Connection, ids: Collection[str]) -> int:
    """Remove events that wait, whatever batch they are in; how many of them there were."""
    unwanted = set(ids)
    deleted = 0
    for seq, of_batch in db.execute("SELECT seq, ids FROM batch WHERE waiting").fetchall():
        if not unwanted.isdisjoint(of_batch.split(" ")):
            batch = Batch._make(db.execute(f"{WAITING} AND seq = ?", (seq,)).fetchone())
            rest = batch.without(unwanted)
            _replace(db, batch, rest)
            deleted += batch.events - (rest.events if rest else 0)
    return deleted


def _replace(db: sqlite3.Connection, batch: Batch, rest: Batch | None) -> None:
    if rest is None:
        db.execute("DELETE FROM batch WHERE seq = ?", (batch.seq,))
    else:
        db.execute(
            "UPDATE batch SET ids = ?, body = ?, events = ? WHERE seq = ?",
            (rest.ids, rest.body, rest.events, rest.seq),
        )


def log_sent(db: sqlite3.Connection, batches: Sequence[Batch], now: float) -> None:
    """Note what an endpoint has accepted, and forget what was noted long ago.

    The row itself becomes the note, which SQLite writes without touching the body. Where it is not
    what it was when it was taken (another process has begun a new file since, or only some of its
    events were sent), the note is a row of its own.
    """
    newest = 0
    for batch in batches:
        if db.execute(
            "UPDATE batch SET waiting = 0, at = ? WHERE waiting AND seq = ? AND ids = ?",
            (now, batch.seq, batch.ids),
        ).rowcount:
            newest = max(newest, batch.seq)
        else:
            delete_events(db, batch.ids.split(" "))
            newest = _insert(db, batch._replace(recorded_at=now), waiting=False)
    too_many = (newest - SENT_MAX_EVENTS + MAX_BATCH_EVENTS,)
    db.execute("DELETE FROM batch WHERE NOT waiting AND seq <= ?", too_many)
    horizon = now - SENT_MAX_AGE_S
    oldest = db.execute("SELECT at FROM batch WHERE NOT waiting ORDER BY seq LIMIT 1").fetchone()
    if oldest is not None and oldest[0] < horizon:
        db.execute("DELETE FROM batch WHERE NOT waiting AND at < ?", (horizon,))


def prune(db: sqlite3.Connection, now: float) -> int:
    """Apply the caps, oldest first; how many events went, each counted under its reason."""
    counts = {}
    # From the index alone: most often this is all there is to it.
    events, oldest = db.execute(
        "SELECT total(events), min(seq) FROM batch WHERE waiting"
    ).fetchone()
    if oldest is not None and _is_aged(db, oldest, now - MAX_AGE_S):
        counts["given_up:over_age"] = _delete_aged(db, now - MAX_AGE_S)
        events -= counts["given_up:over_age"]
    if events > MAX_EVENTS:
        counts["given_up:over_events"] = _delete_oldest(db, events=int(events) - MAX_EVENTS)
    if _file_bytes(db) > MAX_BYTES and (size := _body_bytes(db)) > MAX_BYTES:
        counts["given_up:over_bytes"] = _delete_oldest(db, size=size - MAX_BYTES)
    evicted = sum(counts.values())
    if evicted:
        add_counts(db, counts)
    return evicted


def _is_aged(db: sqlite3.Connection, seq: int, horizon: float) -> bool:
    row = db.execute("SELECT at < ? FROM batch WHERE seq = ?", (horizon, seq)).fetchone()
    return bool(row[0])


def _delete_aged(db: sqlite3.Connection, horizon: float) -> int:
    aged = "FROM batch WHERE waiting AND at < ?"
    number = db.execute(f"SELECT total(events) {aged}", (horizon,)).fetchone()[0]
    db.execute(f"DELETE {aged}", (horizon,))
    return int(number)


def _delete_oldest(db: sqlite3.Connection, *, events: int = 0, size: int = 0) -> int:
    """Delete the oldest events, as many as make up a number or a size; how many they were."""
    deleted = freed = 0
    while deleted < events or freed < size:
        batch = Batch._make(db.execute(_OLDEST).fetchone())
        index = 0
        for line in batch.body.split(b"\n"):
            if deleted >= events and freed >= size:
                break
            freed += len(line) + 1
            deleted += 1
            index += 1
        _replace(db, batch, batch.part(index))
    return deleted


def _file_bytes(db: sqlite3.Connection) -> int:
    """An upper bound of `_body_bytes` that costs nothing."""
    pages, page_bytes = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
    )
    return int(pages * page_bytes)


def _body_bytes(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT total(length(body) + 1) FROM batch WHERE waiting").fetchone()[0])


def count_waiting(db: sqlite3.Connection, destination: Destination | None = None) -> int:
    if destination is None:
        row = db.execute("SELECT total(events) FROM batch WHERE waiting").fetchone()
    else:
        row = db.execute(
            "SELECT total(events) FROM batch WHERE waiting AND destination = ?", (destination.key,)
        ).fetchone()
    return int(row[0])


def add_counts(db: sqlite3.Connection, counts: dict[str, int]) -> None:
    db.executemany(
        "INSERT INTO counter (name, value) VALUES (?,?) "
        "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        [(name, value) for name, value in counts.items() if value],
    )
