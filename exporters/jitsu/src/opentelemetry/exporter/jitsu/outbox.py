"""What is not delivered yet, on disk (SQLite), shared by all processes of one user and tool."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from opentelemetry.exporter.jitsu import forks
from opentelemetry.exporter.jitsu.lock import exclusive, held_here
from opentelemetry.exporter.jitsu.private_files import (
    make_private_file,
    read_private,
    write_private,
)

logger = logging.getLogger("usage_telemetry.exporter.jitsu")

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
"""How long to wait for other processes' transactions; each takes milliseconds."""
BUSY_POLL_S = 0.01
"""How long to wait at most before asking again. SQLite itself would wait up to 0.1 s each time, and
among many processes the one that has waited longest would lose to those that have just come."""
BOOKING_S = 30.0
"""How long to go on trying to take note of what an endpoint has accepted."""
BUSY_AGAIN_TIMEOUT_S = 0.05
"""The same after a failure: somebody holds the file for long, and an exit cannot wait for it."""
CACHE_KIB = 512
"""SQLite would take 2 MB for a connection that lives for milliseconds."""

_SCHEMA = """
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


Row = tuple[str, str, float, bytes]
"""Id, key of the destination, when it was recorded (seconds since the epoch), JSON."""


class Rest(NamedTuple):
    """Until when a destination is left alone (seconds since the epoch), after how many failures
    in a row, and whether that binds a flush too (the server asked for it)."""

    failures: int = 0
    until: float = 0.0
    binding: bool = False
    reason: str = ""


class OutboxUnusable(OSError):
    """The outbox on disk cannot be used just now; delivery goes on from memory."""


class Outbox(forks.BeginsAnew):
    """Events that wait for delivery, in one SQLite file, or in memory where there can be none.

    Each operation opens the file, runs one transaction and closes it again. So nothing is shared
    with a forked child, and no lock outlives an operation. The journal is SQLite's default one:
    unlike WAL it also holds where several machines share a home directory.

    Args:
        path: The file; None: memory only.
    """

    def __init__(self, path: Path | None) -> None:
        # Absolute, because a host may change its working directory.
        self.path = None if path is None else Path(os.path.abspath(path))
        self.begin_anew()
        forks.register(self)

    def begin_anew(self) -> None:
        """At first, and in a forked child: what the parent keeps in memory is the parent's."""
        self._mutex = threading.Lock()
        self._memory: sqlite3.Connection | None = None
        # A batch from memory is on its way: its events must not be handed to the disk now, where
        # another process could take them.
        self._memory_is_served = False
        # What a leaving process wrote beside a database that could not be used.
        self._leftover: tuple[Path, list[tuple[str, str, str]], list[Row]] | None = None
        self._disk_failed = False
        # Ids that an endpoint has accepted while the disk refused to write that down.
        self._unbooked: set[str] = set()

    @property
    def _leftovers(self) -> Path:
        """Below the folder of spools, which a user who opts out has emptied."""
        assert self.path is not None
        return self.path.parent / "spool" / self.path.stem

    # -- recording ---------------------------------------------------------------------------

    def append(self, destination: Destination, events: Sequence[Event], now: float) -> int:
        """Keep `events` until they are delivered, on disk or, failing that, in memory.

        Returns:
            How many older events had to go because of a cap.
        """
        try:
            with self._disk(spilling=True) as db:
                _insert(db, destination, events, now)
                return _prune(db, now)
        except OutboxUnusable as error:
            logger.debug("outbox: %s; kept in memory", error)
        with self._memory_db() as db:
            _insert(db, destination, events, now)
            return _prune(db, now)

    def spill(self, now: float) -> bool:
        """Try to move what is kept in memory to disk; true if nothing is left in memory."""
        if not self.in_memory():
            return True
        try:
            with self._disk(spilling=True) as db:
                _prune(db, now)
        except OutboxUnusable:
            return False
        return not self.in_memory()

    def leave(self, now: float) -> None:
        """The process ends: bring what is kept in memory to disk, in whichever way it takes it.

        Where the database is locked or broken, a file beside it takes the events, for the next
        process to `adopt`. What is on its way goes to disk as well; if an answer still comes, it
        is booked there.
        """
        self._memory_is_served = False
        if self.path is None or (not self._disk_failed and self.spill(now)):
            return
        with self._mutex:
            rows = self._memory_rows()
            if not rows:
                return
            name = f"{time.time_ns():020d}-{os.urandom(4).hex()}.jsonl"
            self._leftover = (self._leftovers / name, self._memory_destinations(), rows)
            self._forget_memory()
        try:
            self._write_leftover()
        except OSError as error:  # no disk at all: nothing is left to try
            logger.debug("lost %d event(s) at exit: %s", len(rows), error)

    def _write_leftover(self) -> None:
        if self._leftover is None:
            return
        path, destinations, rows = self._leftover
        if rows:
            body = [destinations, [[*row[:3], row[3].decode()] for row in rows]]
            write_private(path, json.dumps(body).encode())
        else:
            path.unlink(missing_ok=True)

    def adopt(self) -> None:
        """Take in what an ended process had to `leave` beside the database."""
        if self.path is None:
            return
        for path in sorted(self._leftovers.glob("*.jsonl")):
            try:
                destinations, rows = json.loads(read_private(path, 4 * MAX_BYTES))
                with self._disk() as db:
                    _copy(db, destinations, [(*row[:3], row[3].encode()) for row in rows])
            except OutboxUnusable:
                return
            except Exception as error:  # not written by us, or half of it
                logger.debug("outbox: %s is unreadable: %s", path.name, type(error).__name__)
            with suppress(OSError):
                path.unlink()

    def in_memory(self) -> int:
        """How many events are kept in memory because the disk refused them."""
        if self._memory is None:
            return 0
        with self._memory_db() as db:
            return _count(db)

    # -- delivering --------------------------------------------------------------------------

    @contextmanager
    def delivering_from_memory(self, destination: Destination) -> Iterator[Delivery]:
        """The right to send what is kept in memory, which belongs to this process alone."""
        self._memory_is_served = True
        try:
            yield Delivery(self, self._memory_db, destination, on_disk=False)
        finally:
            self._memory_is_served = False

    @contextmanager
    def delivering_from_disk(self, destination: Destination) -> Iterator[Delivery]:
        """The right to send what is on disk: one holder at a time on this machine.

        Raises:
            LockBusy: Another process or thread is sending from this outbox.
            OSError: There is no file, or it cannot be locked.
        """
        if self.path is None or not self.path.exists():
            raise FileNotFoundError("no outbox on disk")
        with exclusive(self.path.with_suffix(".lock")):
            self.book_late()
            yield Delivery(self, self._disk, destination, on_disk=True)

    def waiting(self, destination: Destination | None = None) -> int:
        """How many events wait, on disk and in memory, as far as can be seen."""
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

    # -- booking -----------------------------------------------------------------------------

    def booked_late(self, event_id: str) -> bool:
        """The event was accepted, and the disk did not take note of it yet."""
        return event_id in self._unbooked

    def book_without_space(self, ids: Sequence[str]) -> None:
        """Forget events that are settled, on a disk that has no room for a journal or a log."""
        self._unbooked.update(ids)
        self.book_late()

    def book_late(self) -> None:
        """Try again to take note of what was accepted."""
        if not self._unbooked:
            return
        if self._leftover is not None:
            path, destinations, rows = self._leftover
            rows = [row for row in rows if row[0] not in self._unbooked]
            self._leftover = (path, destinations, rows)
            with suppress(OSError):
                self._write_leftover()
        ids = list(self._unbooked)
        with suppress(OutboxUnusable):
            with self._disk(journal="MEMORY") as db:
                _delete(db, ids)
            self._unbooked.difference_update(ids)

    # -- connections -------------------------------------------------------------------------

    @contextmanager
    def _disk(
        self, *, spilling: bool = False, journal: str = "DELETE"
    ) -> Iterator[sqlite3.Connection]:
        """One transaction on the file; whatever goes wrong with it is OutboxUnusable.

        Args:
            spilling: Take along what is in memory.
            journal: SQLite's journal mode; in memory it needs no space on disk.
        """
        if self.path is None:
            raise OutboxUnusable("no file")
        with self._mutex, forks.whole():
            try:
                with _transaction(self.path, journal, again=self._disk_failed) as db:
                    rows = self._memory_rows() if spilling and not self._memory_is_served else []
                    if rows:
                        _copy(db, self._memory_destinations(), rows)
                    yield db
                if rows:
                    self._forget_memory()
                self._disk_failed = False
            except sqlite3.DatabaseError as error:
                self._disk_failed = True
                if _is_corrupt(error):
                    _set_aside(self.path)
                raise OutboxUnusable(str(error)) from None
            except (OSError, sqlite3.Error) as error:
                self._disk_failed = True
                raise OutboxUnusable(str(error)) from None

    @contextmanager
    def _memory_db(self) -> Iterator[sqlite3.Connection]:
        with self._mutex, forks.whole():
            if self._memory is None:
                self._memory = sqlite3.connect(
                    ":memory:", isolation_level=None, check_same_thread=False
                )
                self._memory.executescript(_SCHEMA)
            self._memory.execute("BEGIN")
            with _atomic(self._memory):
                yield self._memory

    def _memory_rows(self) -> list[Row]:
        if self._memory is None:
            return []
        return self._memory.execute(
            "SELECT id, destination, recorded_at, body FROM event ORDER BY seq"
        ).fetchall()

    def _memory_destinations(self) -> list[tuple[str, str, str]]:
        if self._memory is None:
            return []
        return self._memory.execute("SELECT key, endpoint, token FROM destination").fetchall()

    def _forget_memory(self) -> None:
        if self._memory is not None:
            self._memory.execute("DELETE FROM event")


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
                (self._destination.key, max_events + len(self._outbox._unbooked)),
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
        if not self._on_disk and _delete(db, ids) < len(ids):
            # Brought to disk in the meantime, because the process ends.
            self._outbox._unbooked.update(ids)
        if self._on_disk:
            _log_sent(db, self._destination, sent, now)
            _delete(db, ids)
        if sent:
            db.execute(
                "UPDATE destination SET failures = 0, rests_until = 0, reason = '' WHERE key = ?",
                (self._destination.key,),
            )
        counts = {f"given_up:{reason}": len(rows) for reason, rows in given_up.items()}
        _add_counts(db, {**counts, "sent": len(sent)})

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
    _copy(
        db,
        [(key, destination.endpoint, destination.token)],
        [(event.id, key, now, event.body) for event in events],
    )


def _copy(
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


def _delete(db: sqlite3.Connection, ids: Sequence[str]) -> int:
    """By id, not by seq: another process may have begun a new file since they were taken."""
    return db.executemany("DELETE FROM event WHERE id = ?", [(one,) for one in ids]).rowcount


def _log_sent(
    db: sqlite3.Connection, destination: Destination, sent: Sequence[Waiting], now: float
) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO sent (id, destination, sent_at, body) VALUES (?,?,?,?)",
        [(row.id, destination.key, now, row.body) for row in sent],
    )
    db.execute("DELETE FROM sent WHERE seq <= (SELECT max(seq) FROM sent) - ?", (SENT_MAX_ROWS,))
    _delete_older(db, "sent", "sent_at", now - SENT_MAX_AGE_S)


def _prune(db: sqlite3.Connection, now: float) -> int:
    """Apply the caps, oldest first; how many events went, each counted under its reason."""
    counts = {}
    counts["given_up:over_age"] = _delete_older(db, "event", "recorded_at", now - MAX_AGE_S)
    rows = _count(db)
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
        _add_counts(db, counts)
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


_creating = threading.Lock()


@contextmanager
def _atomic(db: sqlite3.Connection) -> Iterator[None]:
    """What was begun is done as a whole or not at all."""
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite rolled back by itself: a full disk
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextmanager
def _transaction(
    path: Path, journal: str = "DELETE", *, again: bool = False
) -> Iterator[sqlite3.Connection]:
    with _creating:  # closing a descriptor of the file would end SQLite's locks in other threads
        make_private_file(path)
    timeout_s = BUSY_AGAIN_TIMEOUT_S if again else BUSY_TIMEOUT_S
    with closing(sqlite3.connect(path, timeout=timeout_s, isolation_level=None)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            db.executescript(_SCHEMA)
        elif version != 1:
            raise OutboxUnusable(f"{path} has the format {version} of a later release")
        if journal != "DELETE":
            db.execute(f"PRAGMA journal_mode = {journal}")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        # NORMAL: consistent after a power cut, and one flush cheaper than FULL.
        db.execute("PRAGMA synchronous = NORMAL")
        _begin(db, timeout_s)
        with _atomic(db):
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


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    text = str(error)
    return any(
        sign in text for sign in ("not a database", "malformed", "no such table", "no such c")
    )


def _set_aside(path: Path) -> None:
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
        with suppress(sqlite3.Error), _transaction(path) as db:
            _copy(db, destinations, rows)


def _looks_corrupt(path: Path) -> bool:
    try:
        with _transaction(path) as db:
            db.execute("SELECT count(*), total(length(body)) FROM event").fetchone()
            db.execute("SELECT count(*), max(id) FROM sent").fetchone()
            db.execute("SELECT failures, binding FROM destination").fetchone()
            return str(db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok"
    except sqlite3.DatabaseError as error:
        return _is_corrupt(error)


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
