"""What is not delivered yet, on disk (SQLite), shared by all processes of one user and tool."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from opentelemetry.exporter.jitsu import forks
from opentelemetry.exporter.jitsu.lock import exclusive
from opentelemetry.exporter.jitsu.private_files import make_private_file

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

BUSY_TIMEOUT_S = 2.0
"""How long to wait for another process's transaction; ours take milliseconds."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    destination TEXT NOT NULL,
    recorded_at REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS sent (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
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
"""


@dataclass(frozen=True)
class Destination:
    """An endpoint and the write key that opens it; events wait for one destination each."""

    endpoint: str
    token: str

    @cached_property
    def key(self) -> str:
        """What the outbox calls it; tells nothing about the token."""
        return sha256(f"{self.endpoint}\0{self.token}".encode()).hexdigest()[:16]


class Event(NamedTuple):
    """One event on its way: its id (UUID4) and its JSON."""

    id: str
    body: bytes


class Waiting(NamedTuple):
    """An event in the outbox; `seq` is its place in the order of recording."""

    seq: int
    id: str
    body: bytes


class Rest(NamedTuple):
    """Until when a destination is left alone (seconds since the epoch), after how many failures
    in a row, and whether that binds a flush too (the server asked for it)."""

    failures: int = 0
    until: float = 0.0
    binding: bool = False
    reason: str = ""


class OutboxUnusable(OSError):
    """The outbox on disk cannot be used just now; delivery goes on from memory."""


class Outbox:
    """Events that wait for delivery, in one SQLite file, or in memory where there can be none.

    Each operation opens the file, runs one transaction and closes it again. So nothing is shared
    with a forked child, and no lock outlives an operation. The journal is SQLite's default one:
    unlike WAL it also holds where several machines share a home directory.

    Args:
        path: The file; None: memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._mutex = threading.Lock()
        self._memory: sqlite3.Connection | None = None
        forks.register(self)

    # -- recording ---------------------------------------------------------------------------

    def append(self, destination: Destination, events: Sequence[Event], now: float) -> int:
        """Keep `events` until they are delivered, on disk or, failing that, in memory.

        Returns:
            How many older events had to go because of a cap.
        """
        try:
            with self._disk() as db:
                moved = self._spill_into(db)
                _insert(db, destination, events, now)
                evicted = _prune(db, now)
            if moved:
                self._drop_memory()
            return evicted
        except OutboxUnusable:
            with self._memory_db() as db:
                _insert(db, destination, events, now)
                return _prune(db, now)

    def spill(self, now: float) -> bool:
        """Try to move what is kept in memory to disk; true if nothing is left in memory."""
        if not self.in_memory():
            return True
        try:
            with self._disk() as db:
                self._spill_into(db)
                _prune(db, now)
            self._drop_memory()
        except OutboxUnusable:
            return False
        return True

    def in_memory(self) -> int:
        """How many events are kept in memory because the disk refused them."""
        if self._memory is None:
            return 0
        with self._memory_db() as db:
            return _count(db)

    # -- delivering --------------------------------------------------------------------------

    @contextmanager
    def delivering(self, destination: Destination) -> Iterator[Delivery]:
        """The right to send for `destination`: one holder at a time on this machine.

        Events in memory belong to this process alone and are served first; the disk's are
        served while the lock beside the file is held.

        Raises:
            LockBusy: Another process or thread is sending from this outbox.
        """
        if self.in_memory() or self.path is None or not self.path.exists():
            yield Delivery(self._memory_db, destination, log_sent=False)
            return
        with exclusive(self.path.with_suffix(".lock")):
            yield Delivery(self._disk, destination, log_sent=True)

    def waiting(self, destination: Destination | None = None) -> int:
        """How many events wait, on disk and in memory."""
        count = 0
        if self._memory is not None:
            with self._memory_db() as db:
                count += _count(db, destination)
        if self.path is not None and self.path.exists():
            with suppress(OutboxUnusable), self._disk() as db:
                count += _count(db, destination)
        return count

    def add_counts(self, counts: dict[str, int]) -> None:
        """Add to the counters that outlive the process; best effort."""
        with suppress(OutboxUnusable), self._disk() as db:
            _add_counts(db, counts)

    # -- connections -------------------------------------------------------------------------

    @contextmanager
    def _disk(self) -> Iterator[sqlite3.Connection]:
        """One transaction on the file; whatever goes wrong with it is OutboxUnusable."""
        if self.path is None:
            raise OutboxUnusable("no file")
        with self._mutex, forks.whole():
            try:
                with _transaction(self.path) as db:
                    yield db
            except sqlite3.DatabaseError as error:
                if _is_corrupt(error):
                    _set_aside(self.path)
                raise OutboxUnusable(str(error)) from None
            except (OSError, sqlite3.Error) as error:
                raise OutboxUnusable(str(error)) from None

    @contextmanager
    def _memory_db(self) -> Iterator[sqlite3.Connection]:
        with self._mutex, forks.whole():
            if self._memory is None:
                self._memory = sqlite3.connect(
                    ":memory:", isolation_level=None, check_same_thread=False
                )
                self._memory.executescript(_SCHEMA)
            with _atomic(self._memory):
                yield self._memory

    def _spill_into(self, disk: sqlite3.Connection) -> int:
        """Copy the events in memory to `disk`; called with the mutex held."""
        if self._memory is None:
            return 0
        rows = self._memory.execute(
            "SELECT id, destination, recorded_at, body FROM event ORDER BY seq"
        ).fetchall()
        disk.executemany(
            "INSERT OR IGNORE INTO event (id, destination, recorded_at, body) VALUES (?,?,?,?)",
            rows,
        )
        disk.executemany(
            "INSERT OR IGNORE INTO destination (key, endpoint, token) VALUES (?,?,?)",
            self._memory.execute("SELECT key, endpoint, token FROM destination").fetchall(),
        )
        return len(rows)

    def _drop_memory(self) -> None:
        with self._mutex:
            if self._memory is not None:
                self._memory.close()
                self._memory = None

    def begin_anew(self) -> None:
        """In a forked child: what the parent keeps in memory is the parent's to deliver."""
        self._mutex = threading.Lock()
        self._memory = None


class Delivery:
    """What a holder of the right to send may do with the outbox."""

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[sqlite3.Connection]],
        destination: Destination,
        *,
        log_sent: bool,
    ) -> None:
        self._transaction = transaction
        self._destination = destination
        self._log_sent = log_sent

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
                (self._destination.key, max_events),
            ).fetchall()
        batch: list[Waiting] = []
        size = 0
        for row in map(Waiting._make, rows):
            size += len(row.body) + 1
            if batch and size > max_bytes:
                break
            batch.append(row)
        return batch

    def settle(
        self, sent: Sequence[Waiting], given_up: dict[str, list[Waiting]], now: float
    ) -> None:
        """Book the fate of events: accepted ones go to the log of what was sent, others go."""
        counts = {f"given_up:{reason}": len(rows) for reason, rows in given_up.items()}
        counts["sent"] = len(sent)
        with self._transaction() as db:
            if self._log_sent:
                _log_sent(db, self._destination, sent, now)
            gone = [*sent, *(row for rows in given_up.values() for row in rows)]
            db.executemany("DELETE FROM event WHERE seq = ?", [(row.seq,) for row in gone])
            if sent:
                db.execute(
                    "UPDATE destination SET failures = 0, rests_until = 0, reason = '' "
                    "WHERE key = ?",
                    (self._destination.key,),
                )
            _add_counts(db, counts)

    def postpone(self, rest: Rest, now: float) -> None:
        """Leave the destination alone until `rest.until`."""
        with self._transaction() as db:
            db.execute(
                "UPDATE destination SET failures = ?, rests_since = ?, rests_until = ?, "
                "binding = ?, reason = ? WHERE key = ?",
                (rest.failures, now, rest.until, rest.binding, rest.reason, self._destination.key),
            )
            _add_counts(db, {"retried": 1})


# -- SQL over one open transaction ---------------------------------------------------------------


def _insert(
    db: sqlite3.Connection, destination: Destination, events: Sequence[Event], now: float
) -> None:
    key = destination.key
    db.execute(
        "INSERT OR IGNORE INTO destination (key, endpoint, token) VALUES (?,?,?)",
        (key, destination.endpoint, destination.token),
    )
    db.executemany(
        "INSERT OR IGNORE INTO event (id, destination, recorded_at, body) VALUES (?,?,?,?)",
        [(event.id, key, now, event.body) for event in events],
    )


def _log_sent(
    db: sqlite3.Connection, destination: Destination, sent: Sequence[Waiting], now: float
) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO sent (seq, id, destination, sent_at, body) VALUES (?,?,?,?,?)",
        [(row.seq, row.id, destination.key, now, row.body) for row in sent],
    )
    db.execute(
        "DELETE FROM sent WHERE sent_at < ? OR seq <= (SELECT max(seq) FROM sent) - ?",
        (now - SENT_MAX_AGE_S, SENT_MAX_ROWS),
    )


def _prune(db: sqlite3.Connection, now: float) -> int:
    """Apply the caps, oldest first; how many events went, each counted under its reason."""
    counts = {}
    cursor = db.execute("DELETE FROM event WHERE recorded_at < ?", (now - MAX_AGE_S,))
    counts["given_up:over_age"] = cursor.rowcount
    rows, size = db.execute("SELECT count(*), total(length(body)) FROM event").fetchone()
    if rows > MAX_ROWS:
        cursor = db.execute(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM event ORDER BY seq LIMIT ?)",
            (rows - MAX_ROWS,),
        )
        counts["given_up:over_rows"] = cursor.rowcount
        size = db.execute("SELECT total(length(body)) FROM event").fetchone()[0]
    if size > MAX_BYTES:
        cursor = db.execute(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM "
            "(SELECT seq, sum(length(body)) OVER (ORDER BY seq DESC) AS kept FROM event) "
            "WHERE kept > ?)",
            (MAX_BYTES,),
        )
        counts["given_up:over_bytes"] = cursor.rowcount
    evicted = sum(counts.values())
    if evicted:
        _add_counts(db, counts)
    return evicted


def _count(db: sqlite3.Connection, destination: Destination | None = None) -> int:
    if destination is None:
        row = db.execute("SELECT count(*) FROM event").fetchone()
    else:
        row = db.execute(
            "SELECT count(*) FROM event WHERE destination = ?", (destination.key,)
        ).fetchone()
    return int(row[0])


def _add_counts(db: sqlite3.Connection, counts: dict[str, int]) -> None:
    db.executemany(
        "INSERT INTO counter (name, value) VALUES (?,?) "
        "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        [(name, value) for name, value in counts.items() if value],
    )


# -- the file ------------------------------------------------------------------------------------


@contextmanager
def _atomic(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextmanager
def _transaction(path: Path) -> Iterator[sqlite3.Connection]:
    make_private_file(path)
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as db:
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            db.executescript(_SCHEMA)
        # NORMAL: consistent after a power cut, and one flush cheaper than FULL.
        db.execute("PRAGMA synchronous = NORMAL")
        with _atomic(db):
            yield db


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    return "not a database" in str(error) or "malformed" in str(error)


def _set_aside(path: Path) -> None:
    """Move a file that SQLite cannot read out of the way; one such file is kept for the curious.

    Done under the lock of the senders and after a second look: another process may have set it
    aside already and begun a new one.
    """
    with suppress(OSError), exclusive(path.with_suffix(".lock")):
        try:
            with _transaction(path) as db:
                db.execute("SELECT count(*), total(length(body)) FROM event").fetchone()
        except sqlite3.DatabaseError as error:
            if _is_corrupt(error):
                path.replace(path.with_suffix(".corrupt"))
