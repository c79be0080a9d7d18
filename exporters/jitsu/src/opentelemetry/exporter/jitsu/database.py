"""The file of an outbox: opened for one transaction, made if need be, set aside if it is broken."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

from opentelemetry.exporter.jitsu.batch import Batch
from opentelemetry.exporter.jitsu.lock import exclusive, held_here
from opentelemetry.exporter.jitsu.private_files import make_private_file
from opentelemetry.exporter.jitsu.rows import WAITING, Known, insert

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
CREATE TABLE IF NOT EXISTS batch (
    seq INTEGER PRIMARY KEY,
    destination TEXT NOT NULL,
    waiting INTEGER NOT NULL,
    at REAL NOT NULL,
    events INTEGER NOT NULL,
    first TEXT NOT NULL,
    last TEXT NOT NULL,
    ids TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS batch_waiting ON batch (destination, seq, events) WHERE waiting;
CREATE INDEX IF NOT EXISTS batch_last ON batch (last);
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


class OutboxUnusable(OSError):
    """The outbox on disk cannot be used just now; delivery goes on from memory."""


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
        # Debian's builds overwrite what they free, at a third of the cost of all the rest.
        db.execute("PRAGMA secure_delete = OFF")
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
    return any(sign in str(error) for sign in _SIGNS_OF_DAMAGE)


def set_aside(path: Path) -> None:
    """Move a file that SQLite cannot read out of the way; one such file is kept for the curious.

    Done under the lock of the senders and after a second look: another process may have set it
    aside already and begun a new one. Events that can still be read go on to the new file.
    """
    lock = path.with_suffix(".lock")
    with suppress(OSError), nullcontext() if held_here(lock) else exclusive(lock, wait_s=0.1):
        if not _looks_corrupt(path):
            return
        destinations, batches = _salvage(path)
        path.replace(path.with_suffix(".corrupt"))
        with suppress(OSError):
            path.with_name(f"{path.name}-journal").unlink()
        with suppress(sqlite3.Error), transaction(path) as db:
            insert(db, destinations, batches)


def _looks_corrupt(path: Path) -> bool:
    try:
        with transaction(path) as db:
            db.execute("SELECT total(events), total(length(body)) FROM batch").fetchone()
            db.execute("SELECT failures, binding FROM destination").fetchone()
            return str(db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok"
    except sqlite3.DatabaseError as error:
        return is_corrupt(error)


def _salvage(path: Path) -> tuple[list[Known], list[Batch]]:
    """What can still be read of a broken file, from both ends towards the damage."""
    destinations: list[Known] = []
    found: dict[int, Batch] = {}
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=0.1)) as db:
        with suppress(sqlite3.Error):
            destinations.extend(db.execute("SELECT key, endpoint, token FROM destination"))
        for order in ("ASC", "DESC"):
            with suppress(sqlite3.Error):
                for row in db.execute(f"{WAITING} ORDER BY +seq {order}"):
                    with suppress(AttributeError, TypeError, ValueError):  # not even our types
                        intact = Batch._make(row).intact()
                        if intact is not None:
                            found[intact.seq] = intact
    return destinations, [found[seq] for seq in sorted(found)]
