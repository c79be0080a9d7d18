"""What is not delivered yet, on disk (SQLite), shared by all processes of one user and tool."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from opentelemetry.exporter.jitsu import forks
from opentelemetry.exporter.jitsu.batch import Batch, Event, batches_of, events_in
from opentelemetry.exporter.jitsu.database import (
    SCHEMA,
    OutboxUnusable,
    atomic,
    is_corrupt,
    set_aside,
    transaction,
)
from opentelemetry.exporter.jitsu.delivery import Delivery
from opentelemetry.exporter.jitsu.destination import Destination, Rest
from opentelemetry.exporter.jitsu.lock import exclusive
from opentelemetry.exporter.jitsu.private_files import read_private, write_private
from opentelemetry.exporter.jitsu.rows import (
    MAX_BYTES,
    WAITING,
    Known,
    add_counts,
    count_waiting,
    delete_events,
    insert,
    known,
    prune,
)

__all__ = ["Delivery", "Destination", "Event", "Outbox", "OutboxUnusable", "Rest"]

logger = logging.getLogger("usage_telemetry.exporter.jitsu")


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
        self._leftover: tuple[Path, list[Known], list[Batch]] | None = None
        self._disk_failed = False
        # Ids that an endpoint has accepted while the disk refused to write that down.
        self.unbooked: set[str] = set()

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
        batches = list(batches_of(destination.key, events, now))
        try:
            with self._disk(spilling=True) as db:
                insert(db, [known(destination)], batches)
                return prune(db, now)
        except OutboxUnusable as error:
            logger.debug("outbox: %s; kept in memory", error)
        with self._memory_db() as db:
            insert(db, [known(destination)], batches)
            return prune(db, now)

    def spill(self, now: float) -> bool:
        """Try to move what is kept in memory to disk; true if nothing is left in memory."""
        if not self.in_memory():
            return True
        try:
            with self._disk(spilling=True) as db:
                prune(db, now)
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
            batches = self._memory_batches()
            if not batches:
                return
            name = f"{time.time_ns():020d}-{os.urandom(4).hex()}.jsonl"
            self._leftover = (self._leftovers / name, self._memory_destinations(), batches)
            self._forget_memory()
        try:
            self._write_leftover()
        except OSError as error:  # no disk at all: nothing is left to try
            logger.debug("lost %d event(s) at exit: %s", events_in(batches), error)

    def _write_leftover(self) -> None:
        if self._leftover is None:
            return
        path, destinations, batches = self._leftover
        if batches:
            content = [destinations, [[*one[:5], one.body.decode()] for one in batches]]
            write_private(path, json.dumps(content).encode())
        else:
            path.unlink(missing_ok=True)

    def adopt(self) -> None:
        """Take in what an ended process had to `leave` beside the database."""
        if self.path is None:
            return
        try:
            names = sorted(os.listdir(self._leftovers))
        except OSError:  # most often there is no such folder
            return
        for path in (self._leftovers / name for name in names if name.endswith(".jsonl")):
            try:
                destinations, batches = json.loads(read_private(path, 4 * MAX_BYTES))
                with self._disk() as db:
                    insert(
                        db,
                        destinations,
                        [Batch._make((*of[:5], of[5].encode(), 0)) for of in batches],
                    )
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
            return count_waiting(db)

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
                count += count_waiting(db, destination)
        if self.path is not None and self.path.exists():
            with suppress(OutboxUnusable), self._disk() as db:
                count += count_waiting(db, destination)
        return count

    def add_counts(self, counts: dict[str, int]) -> None:
        """Add to the counters that outlive the process; best effort."""
        with suppress(OutboxUnusable), self._disk() as db:
            add_counts(db, counts)

    # -- booking -----------------------------------------------------------------------------

    def book_without_space(self, ids: Sequence[str]) -> None:
        """Forget events that are settled, on a disk that has no room for a journal or a log."""
        self.unbooked.update(ids)
        self.book_late()

    def book_late(self) -> None:
        """Try again to take note of what was accepted."""
        if not self.unbooked:
            return
        if self._leftover is not None:
            path, destinations, batches = self._leftover
            left = [rest for one in batches if (rest := one.without(self.unbooked)) is not None]
            self._leftover = (path, destinations, left)
            with suppress(OSError):
                self._write_leftover()
        ids = list(self.unbooked)
        with suppress(OutboxUnusable):
            with self._disk(journal="MEMORY") as db:
                delete_events(db, ids)
            self.unbooked.difference_update(ids)

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
                with transaction(self.path, journal, again=self._disk_failed) as db:
                    spill = spilling and not self._memory_is_served and self._memory is not None
                    if spill:
                        insert(db, self._memory_destinations(), self._memory_batches())
                    yield db
                if spill:
                    self._forget_memory()
                self._disk_failed = False
            except sqlite3.DatabaseError as error:
                self._disk_failed = True
                if is_corrupt(error):
                    set_aside(self.path)
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
                self._memory.executescript(SCHEMA)
            self._memory.execute("BEGIN")
            with atomic(self._memory):
                yield self._memory

    def _memory_batches(self) -> list[Batch]:
        if self._memory is None:
            return []
        return [Batch._make(row) for row in self._memory.execute(f"{WAITING} ORDER BY seq")]

    def _memory_destinations(self) -> list[Known]:
        if self._memory is None:
            return []
        return self._memory.execute("SELECT key, endpoint, token FROM destination").fetchall()

    def _forget_memory(self) -> None:
        if self._memory is not None:
            self._memory.execute("DELETE FROM batch")
