"""What lies on disk for a tool, read without changing it."""

from __future__ import annotations

from opentelemetry.exporter.jitsu.inspection import OutboxState, left_beside, outbox_state
from opentelemetry.exporter.jitsu.outbox import OutboxUnusable

from usage_telemetry.cli.session import ToolFolders
from usage_telemetry.waiting import in_spools


def outbox_of(tool: ToolFolders) -> tuple[OutboxState, str]:
    """The state of a tool's outbox, and why it cannot be read (empty: it can)."""
    try:
        return outbox_state(tool.outbox), ""
    except OutboxUnusable as error:
        return OutboxState(), str(error)


def waiting(tool: ToolFolders) -> tuple[int, int]:
    """How many events wait in the outbox, and in the spools."""
    return outbox_of(tool)[0].waiting, spooled(tool)


def spooled(tool: ToolFolders) -> int:
    """How many events ended processes left in files, for the next one to take in."""
    return in_spools(tool.state) + left_beside(tool.outbox)
