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
    discard_spools(tool_state)


def discard_spools(tool_state: Path) -> None:
    """Remove what ended processes left for the next one."""
    for folder in (tool_state / "spool").glob("*"):
        spool.discard(folder)


def empty_outbox(tool_state: Path) -> None:
    """Throw away what waits, and keep the log of what was sent earlier.

    What cannot be emptied is removed as a whole, as `discard_waiting` does.
    """
    import sqlite3
    from contextlib import closing

    from opentelemetry.exporter.jitsu.private_files import make_private_file

    path = tool_state / OUTBOX
    if path.exists():
        try:
            make_private_file(path)
            with closing(sqlite3.connect(path, timeout=2.0)) as db, db:
                db.execute("PRAGMA secure_delete = ON")  # not left in the file's free pages
                db.execute("DELETE FROM batch WHERE waiting")
        except (OSError, sqlite3.Error):
            discard_waiting(tool_state)
    discard_spools(tool_state)


def in_spools(tool_state: Path) -> int:
    """How many records ended processes left for the next one."""
    return sum(spool.waiting(folder) for folder in (tool_state / "spool").glob("*"))
