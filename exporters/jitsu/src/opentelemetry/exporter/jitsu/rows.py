"""SQL over one open transaction of an outbox: what goes in, what comes out, the caps."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from opentelemetry.exporter.jitsu.waiting import Destination, Event, Row, Waiting

MAX_AGE_S = 7 * 24 * 3600
"""Usage a week old still counts for the week it happened in; older news only misleads."""
MAX_ROWS = 10_000
"""Some 6 MB of typical events: weeks of a busy UI, minutes of a runaway loop."""
MAX_BYTES = 10 * 1024 * 1024
"""What a telemetry file may take of a user's disk without being noticed."""
SENT_MAX_AGE_S = 30 * 24 * 3600
"""How long a user can look up what was sent."""
SENT_MAX_ROWS = 10_000
"""The log of what was sent obeys the same disk budget as what waits."""


def insert(
    db: sqlite3.Connection, destination: Destination, events: Sequence[Event], now: float
) -> None:
    key = destination.key
    copy(
        db,
        [(key, destination.endpoint, destination.token)],
        [(event.id, key, now, event.body) for event in events],
    )


def copy(
    db: sqlite3.Connection,
    destinations: Sequence[tuple[str, str, str]],
    rows: Sequence[Row],
) -> None:
    """Insert events that are new; one that waits or was sent already is not taken again."""
    db.executemany(
        "INSERT OR IGNORE INTO destination (key, endpoint, token) VALUES (?,?,?)", destinations
    )
    db.executemany(
        "INSERT OR IGNORE INTO event (id, destination, recorded_at, body) "
        "SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS (SELECT 1 FROM sent WHERE id = ?1)",
        rows,
    )


def delete(db: sqlite3.Connection, ids: Sequence[str]) -> int:
    """By id, not by seq: another process may have begun a new file since they were taken."""
    return db.executemany("DELETE FROM event WHERE id = ?", [(one,) for one in ids]).rowcount


def log_sent(
    db: sqlite3.Connection, destination: Destination, sent: Sequence[Waiting], now: float
) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO sent (id, destination, sent_at, body) VALUES (?,?,?,?)",
        [(row.id, destination.key, now, row.body) for row in sent],
    )
    db.execute("DELETE FROM sent WHERE seq <= (SELECT max(seq) FROM sent) - ?", (SENT_MAX_ROWS,))
    _delete_older(db, "sent", "sent_at", now - SENT_MAX_AGE_S)


def prune(db: sqlite3.Connection, now: float) -> int:
    """Apply the caps, oldest first; how many events went, each counted under its reason."""
    counts = {}
    counts["given_up:over_age"] = _delete_older(db, "event", "recorded_at", now - MAX_AGE_S)
    rows = count_waiting(db)
    if rows > MAX_ROWS:
        cursor = db.execute(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM event ORDER BY seq LIMIT ?)",
            (rows - MAX_ROWS,),
        )
        counts["given_up:over_rows"] = cursor.rowcount
    if _file_bytes(db) > MAX_BYTES and _body_bytes(db) > MAX_BYTES:
        cursor = db.execute(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM "
            "(SELECT seq, sum(length(body)) OVER (ORDER BY seq DESC) AS kept FROM event) "
            "WHERE kept > ?)",
            (MAX_BYTES,),
        )
        counts["given_up:over_bytes"] = cursor.rowcount
    evicted = sum(counts.values())
    if evicted:
        add_counts(db, counts)
    return evicted


def _delete_older(db: sqlite3.Connection, table: str, column: str, horizon: float) -> int:
    """Delete rows up to the first that is young enough, without looking at all the others."""
    young = db.execute(
        f"SELECT seq FROM {table} WHERE {column} >= ? ORDER BY seq LIMIT 1",  # noqa: S608
        (horizon,),
    ).fetchone()
    if young is None:
        return db.execute(f"DELETE FROM {table}").rowcount  # noqa: S608
    return db.execute(f"DELETE FROM {table} WHERE seq < ?", young).rowcount  # noqa: S608


def _file_bytes(db: sqlite3.Connection) -> int:
    """An upper bound of `_body_bytes` that costs nothing."""
    pages, page_bytes = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
    )
    return int(pages * page_bytes)


def _body_bytes(db: sqlite3.Connection) -> float:
    return float(db.execute("SELECT total(length(body)) FROM event").fetchone()[0])


def count_waiting(db: sqlite3.Connection, destination: Destination | None = None) -> int:
    if destination is None:
        row = db.execute("SELECT count(*) FROM event").fetchone()
    else:
        row = db.execute(
            "SELECT count(*) FROM event WHERE destination = ?", (destination.key,)
        ).fetchone()
    return int(row[0])


def add_counts(db: sqlite3.Connection, counts: dict[str, int]) -> None:
    db.executemany(
        "INSERT INTO counter (name, value) VALUES (?,?) "
        "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        [(name, value) for name, value in counts.items() if value],
    )
