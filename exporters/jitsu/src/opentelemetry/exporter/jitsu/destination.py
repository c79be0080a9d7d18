"""Where events go, and how long a destination is left alone."""

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


class Rest(NamedTuple):
    """Until when a destination is left alone (seconds since the epoch), after how many failures
    in a row, and whether that binds a flush too (the server asked for it)."""

    failures: int = 0
    until: float = 0.0
    binding: bool = False
    reason: str = ""
