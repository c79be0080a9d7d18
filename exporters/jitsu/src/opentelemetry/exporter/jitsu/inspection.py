"""Looking into an outbox from outside: what waits, what was sent, to where; never a write.

The file is opened read-only and each look is one short transaction, so that a process that
delivers from it meanwhile is not held up.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.jitsu.database import BUSY_TIMEOUT_S, OutboxUnusable
from opentelemetry.exporter.jitsu.destination import Destination
from opentelemetry.exporter.jitsu.private_files import read_private
from opentelemetry.exporter.jitsu.rows import MAX_BYTES


@dataclass(frozen=True)
class DestinationState:
    """One endpoint that events of an outbox go to; the token is not part of it.

    Attributes:
        address: Scheme, host and port; no path, query, user or password.
        encrypted: The connection is TLS, or does not leave the machine.
        waiting: How many events wait for it.
        rests_until: It is left alone until then (seconds since the epoch); 0: it is not.
        reason: Why it is left alone, such as ``status_503``; empty: it is not.
    """

    address: str
    encrypted: bool
    waiting: int
    rests_until: float
    reason: str


@dataclass(frozen=True)
class OutboxState:
    """What an outbox holds.

    Attributes:
        waiting: Events that wait, for all destinations.
        oldest: When the oldest of them was recorded, seconds since the epoch; None: none waits.
        sent: Events in the log of what was sent.
        destinations: Every endpoint that it knows.
        counters: Since the file was made: ``sent``, ``retried``, ``given_up:<reason>``.
    """

    waiting: int = 0
    oldest: float | None = None
    sent: int = 0
    destinations: tuple[DestinationState, ...] = ()
    counters: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SentEvent:
    """One event that an endpoint accepted.

    Attributes:
        id: Its ``eventn_ctx_event_id``.
        sent_at: When it was accepted, seconds since the epoch.
        address: Where it went, as in `DestinationState`.
        event: The event as it was sent.
    """

    id: str
    sent_at: float
    address: str
    event: dict[str, Any]


def outbox_state(path: Path) -> OutboxState:
    """What the outbox at `path` holds; nothing, where there is no file.

    Raises:
        OutboxUnusable: It cannot be read: not SQLite, not the owner's, a symbolic link.
    """
    if not os.path.lexists(path):
        return OutboxState()
    with _reading(path) as db:
        count = "SELECT total(events), min(at) FROM batch WHERE"
        waiting, oldest = db.execute(f"{count} waiting").fetchone()
        sent, _ = db.execute(f"{count} NOT waiting").fetchone()
        rows = db.execute(
            "SELECT endpoint, rests_until, reason, "
            "(SELECT total(events) FROM batch WHERE waiting AND destination = key) "
            "FROM destination ORDER BY rowid"
        ).fetchall()
        counters = dict(db.execute("SELECT name, value FROM counter ORDER BY name").fetchall())
    destinations = tuple(
        DestinationState(address_of(endpoint), is_encrypted(endpoint), int(number), until, reason)
        for endpoint, until, reason, number in rows
    )
    return OutboxState(int(waiting), oldest, int(sent), destinations, counters)


def sent_events(path: Path, since: float = 0.0) -> list[SentEvent]:
    """What the log of the outbox at `path` holds from `since` on, the oldest first.

    Args:
        path: The outbox; it need not exist.
        since: Seconds since the epoch.

    Raises:
        OutboxUnusable: It cannot be read.
    """
    if not os.path.lexists(path):
        return []
    with _reading(path) as db:
        rows = db.execute(
            "SELECT at, endpoint, body FROM batch "
            "LEFT JOIN destination ON destination.key = batch.destination "
            "WHERE NOT waiting AND at >= ? ORDER BY at, seq",
            (since,),
        ).fetchall()
    return [
        SentEvent(event["eventn_ctx_event_id"], sent_at, address_of(endpoint or ""), event)
        for sent_at, endpoint, body in rows
        for event in map(json.loads, body.split(b"\n"))
    ]


def destinations(path: Path, *, with_waiting: bool = False) -> list[Destination]:
    """Where the events of an outbox go, tokens included: to deliver, not to show.

    Args:
        path: The outbox; it need not exist.
        with_waiting: Only those that an event waits for.

    Raises:
        OutboxUnusable: It cannot be read.
    """
    if not os.path.lexists(path):
        return []
    with _reading(path) as db:
        rows = db.execute(
            "SELECT endpoint, token, "
            "EXISTS (SELECT 1 FROM batch WHERE waiting AND destination = key) "
            "FROM destination ORDER BY rowid"
        ).fetchall()
    return [
        Destination(endpoint, token)
        for endpoint, token, waited_for in rows
        if waited_for or not with_waiting
    ]


def left_beside(path: Path) -> int:
    """How many events ended processes left in files beside the outbox, see `Outbox.leave`."""
    number = 0
    for leftover in (path.parent / "spool" / path.stem).glob("*.jsonl"):
        try:
            _, batches = json.loads(read_private(leftover, 4 * MAX_BYTES))
            number += sum(ids.count(" ") + 1 for _, _, _, _, ids, _ in batches)
        except (OSError, ValueError, TypeError):  # taken in meanwhile, or not written by us
            continue
    return number


def address_of(endpoint: str) -> str:
    """Scheme, host and port of a URL: what can be shown, since a token may stand elsewhere."""
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "an invalid URL"
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port is not None else "")


def is_encrypted(endpoint: str) -> bool:
    """Whether nobody between here and the endpoint can read along: TLS, or the machine itself."""
    try:
        parts = urlsplit(endpoint)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https" or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            raise OutboxUnusable(f"{path} is not a regular file")
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)) as db:
            db.execute("BEGIN")
            yield db
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, OutboxUnusable):
            raise
        raise OutboxUnusable(f"{path} cannot be read: {error}") from None
