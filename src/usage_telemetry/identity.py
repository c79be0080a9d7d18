"""The anonymous user id: a random UUID4 in a file of the user's, one per tool.

One per tool, so that the makers of two tools cannot find out that they share a user.
"""

from __future__ import annotations

import logging
import os
import uuid
from pathlib import Path

from opentelemetry.exporter.jitsu.lock import exclusive
from opentelemetry.exporter.jitsu.private_files import (
    make_private_folder,
    read_private,
    write_private,
)

from usage_telemetry.folders import tool_folder

logger = logging.getLogger("usage_telemetry")

FILE_NAME = "user_id"
MAX_BYTES = 64
LOCK_WAIT_S = 2.0
"""How long to wait for other processes that start at the same moment; each holds it for 1 ms."""


def user_id_path(config: Path, tool: str) -> Path:
    """Where the id of a tool's user is kept."""
    return tool_folder(config, tool) / FILE_NAME


def read_user_id(path: Path) -> str | None:
    """The id in the file; None: no file, not readable, or not a UUID4."""
    try:
        text = read_private(path, MAX_BYTES).decode("ascii").strip()
        found = uuid.UUID(text)
    except (OSError, ValueError):
        return None
    return str(found) if found.version == 4 else None


def user_id(path: Path) -> str:
    """The id in the file, made if need be; processes that start at once agree on one.

    Where nothing can be written (a read-only home), the id is for this process alone.
    """
    found = read_user_id(path)
    if found is not None:
        return found
    fresh = str(uuid.UUID(bytes=os.urandom(16), version=4))
    try:
        make_private_folder(path.parent)
        with exclusive(path.with_suffix(".lock"), wait_s=LOCK_WAIT_S):
            found = read_user_id(path)  # whoever held the lock before has made one
            if found is None:
                write_private(path, f"{fresh}\n".encode())
            return found or fresh
    except OSError as error:
        logger.debug("user id for this process alone: %s", error)
    return fresh
