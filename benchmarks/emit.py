"""A process that records events at a steady pace, delivers them and ends; others measure it."""

from __future__ import annotations

import sys
import time

from benchmarks.senders import SENDERS

CHUNK = 500
"""Below the queue of every library."""
PAUSE_S = 0.1
"""5,000 events a second at most: enough time for every library to empty its queue, so that none
drops events; sleeping costs nothing."""


def emit(name: str, url: str, events: int, pause_s: float = PAUSE_S) -> None:
    sender = SENDERS[name](url)
    for chunk in range(0, events, CHUNK):
        for _ in range(min(CHUNK, events - chunk)):
            sender.record()
        time.sleep(pause_s)
    sender.flush()


if __name__ == "__main__":
    emit(sys.argv[1], sys.argv[2], int(sys.argv[3]))
