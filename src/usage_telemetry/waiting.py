"""What waits on this machine for delivery, for all exporters of a tool; and throwing it away."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from usage_telemetry import spool

OUTBOX = "outbox.db"


def discard_waiting(tool_state: Path) -> None:
    """Remove what waits below one tool's state folder: the outbox and the spools.

    Args:
        tool_state: The tool's folder; it need not exist.
    """
    for name in (OUTBOX, f"{OUTBOX}-journal"):
        with suppress(OSError):
            (tool_state / name).unlink()
    for folder in (tool_state / "spool").glob("*"):
        spool.discard(folder)
