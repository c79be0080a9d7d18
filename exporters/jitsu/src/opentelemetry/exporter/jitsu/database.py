"""The file of an outbox: opened for one transaction, made if need be, set aside if it is broken."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

from opentelemetry.exporter.jitsu.lock import exclusive, held_here
from opentelemetry.exporter.jitsu.private_files import make_private_file
from opentelemetry.exporter.jitsu.rows import copy
from opentelemetry.exporter.jitsu.waiting import OutboxUnusable, Row

BUSY_TIMEOUT_S = 2.0
"""How long to wait for other processes' transactions; each takes milliseconds."""
BUSY_POLL_S = 0.01
"""How long to wait at most before asking again. SQLite itself would wait up to 0.1 s each time, and
among many processes the one that has waited longest would lose to those that have just come."""
BUSY_AGAIN_TIMEOUT_S = 0.05
"""The same after a failure: somebody holds the file for long, and an exit cannot wait for it."""
CACHE_KIB = 512
"""SQLite would take 2 MB for a connection that lives for milliseconds."""

SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    destination TEXT NOT NULL,
    recorded_at REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS sent (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    destination TEXT NOT NULL,
    sent_at REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS destination (
    key TEXT PRIMARY KEY,
    endpoint TEXT NOT NULL,
    token TEXT NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,
    rests_since REAL NOT NULL DEFAULT 0,
    rests_until REAL NOT NULL DEFAULT 0,
    binding INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
PRAGMA user_version = 1;
COMMIT;
"""


_creating = threading.Lock()


@contextmanager
def atomic(db: sqlite3.Connection) -> Iterator[None]:
    """What was begun is done as a whole or not at all."""
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite rolled back by itself: a full disk
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextmanager
def transaction(
    path: Path, journal: str = "DELETE", *, again: bool = False
) -> Iterator[sqlite3.Connection]:
    with _creating:  # closing a descriptor of the file would end SQLite's locks in other threads
        make_private_file(path)
    timeout_s = BUSY_AGAIN_TIMEOUT_S if again else BUSY_TIMEOUT_S
    with closing(sqlite3.connect(path, timeout=timeout_s, isolation_level=None)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            db.executescript(SCHEMA)
        elif version != 1:
            raise OutboxUnusable(f"{path} has the format {version} of a later release")
        if journal != "DELETE":
            db.execute(f"PRAGMA journal_mode = {journal}")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        # NORMAL: consistent after a power cut, and one flush cheaper than FULL.
        db.execute("PRAGMA synchronous = NORMAL")
        _begin(db, timeout_s)
        with atomic(db):
            yield db


def _begin(db: sqlite3.Connection, timeout_s: float) -> None:
    """Start a transaction that writes, as soon as nobody else has one."""
    deadline = time.monotonic() + timeout_s
    db.execute("PRAGMA busy_timeout = 1")
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(BUSY_POLL_S * int.from_bytes(os.urandom(1), "big") / 255)
    db.execute(f"PRAGMA busy_timeout = {int(timeout_s * 1000)}")


_SIGNS_OF_DAMAGE = ("not a database", "malformed", "no such table", "no such column")


def is_corrupt(error: sqlite3.DatabaseError) -> bool:
    text = str(error)
    return any(
        sign in text for sign in ("not a database", "malformed", "no such table", "no such c")
    )


def set_aside(path: Path) -> None:
    """Move a file that SQLite cannot read out of the way; one such file is kept for the curious.

    Done under the lock of the senders and after a second look: another process may have set it
    aside already and begun a new one. Events that can still be read go on to the new file.
    """
    lock = path.with_suffix(".lock")
    with suppress(OSError), nullcontext() if held_here(lock) else exclusive(lock, wait_s=0.1):
        if not _looks_corrupt(path):
            return
        destinations, rows = _salvage(path)
        path.replace(path.with_suffix(".corrupt"))
        with suppress(OSError):
            path.with_name(f"{path.name}-journal").unlink()
        with suppress(sqlite3.Error), transaction(path) as db:
            copy(db, destinations, rows)


def _looks_corrupt(path: Path) -> bool:
    try:
        with transaction(path) as db:
            db.execute("SELECT count(*), total(length(body)) FROM event").fetchone()
            db.execute("SELECT count(*), max(id) FROM sent").fetchone()
            db.execute("SELECT failures, binding FROM destination").fetchone()
            return str(db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok"
    except sqlite3.DatabaseError as error:
        return is_corrupt(error)


_READ_FORWARDS = (
    "SELECT seq, id, destination, recorded_at, body FROM event NOT INDEXED ORDER BY seq ASC"
)
_READ_BACKWARDS = (
    "SELECT seq, id, destination, recorded_at, body FROM event NOT INDEXED ORDER BY seq DESC"
)


def _salvage(path: Path) -> tuple[list[tuple[str, str, str]], list[Row]]:
    """What can still be read of a broken file, from both ends towards the damage."""
    destinations: list[tuple[str, str, str]] = []
    found: dict[int, Row] = {}
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=0.1)) as db:
        with suppress(sqlite3.Error):
            destinations.extend(db.execute("SELECT key, endpoint, token FROM destination"))
        for query in (_READ_FORWARDS, _READ_BACKWARDS):
            with suppress(sqlite3.Error, TypeError, ValueError):
                for row in db.execute(query):
                    found[row[0]] = (str(row[1]), str(row[2]), float(row[3]), bytes(row[4]))
    return destinations, [found[seq] for seq in sorted(found)]
