"""A process that says how much memory it takes while it records events."""

from __future__ import annotations

import os
import sys
import time

from benchmarks.emit import CHUNK, PAUSE_S
from benchmarks.senders import SENDERS

SETTLE_S = 3.0
"""For what starts off the calling thread, and for the delivery of the first event."""


def resident_mb() -> float:
    """Resident size of this process, MB of 10^6 bytes (Linux: /proc; else psutil's figure)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        import psutil

        return float(psutil.Process().memory_info().rss) / 1e6


def watch(name: str, url: str, events: int) -> None:
    """Record events and print the resident size at each stage."""
    bare = resident_mb()
    sender = SENDERS[name](url)
    made = resident_mb()
    sender.record()
    time.sleep(SETTLE_S)
    idle = resident_mb()
    for chunk in range(0, events, CHUNK):
        for _ in range(min(CHUNK, events - chunk)):
            sender.record()
        time.sleep(PAUSE_S)
    time.sleep(1.0)
    after = resident_mb()
    stages = f'"made": {made - bare}, "idle": {idle - bare}, "after": {after - bare}'
    print(f"{{{stages}}}", flush=True)
    os._exit(0)  # with an endpoint that is down, some would retry for minutes


if __name__ == "__main__":
    watch(sys.argv[1], sys.argv[2], int(sys.argv[3]))
