"""What waits for delivery, where it goes, and how long a destination is left alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import NamedTuple


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
