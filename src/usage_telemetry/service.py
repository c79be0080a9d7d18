"""What happens once per service, however many worker processes serve it."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from contextlib import suppress
from multiprocessing import current_process, parent_process
from pathlib import Path

from opentelemetry.exporter.jitsu.private_files import make_private_folder

logger = logging.getLogger("usage_telemetry")

MAX_AGE_S = 24 * 3600
"""Claims older than this are swept; a worker that is restarted later than that is a new start."""


def claim(folder: Path, what: str) -> bool:
    """Whether this process is the first of its service to ask for `what`.

    The workers of a server (uvicorn --workers, gunicorn --preload) share the key that
    multiprocessing gives a process and its children; the first to create the file wins.

    Args:
        folder: Where claims are kept.
        what: A short name, the same in all workers.
    """
    if is_alone():
        return True
    key = hashlib.sha256(bytes(current_process().authkey) + what.encode()).hexdigest()[:24]
    try:
        make_private_folder(folder)
        _sweep(folder)
        os.close(os.open(folder / key, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    except OSError as error:
        logger.debug("no claim on %s: %s", what, error)
        return is_first_worker()
    return True


def is_alone() -> bool:
    """Nobody forked or spawned this process to serve beside others."""
    return parent_process() is None and os.getpid() == _first_pid


def is_first_worker() -> bool:
    """Without any file: a guess from the name that multiprocessing gives (`SpawnProcess-1`)."""
    return is_alone() or current_process().name.endswith("-1")


_first_pid = os.getpid()


def _sweep(folder: Path) -> None:
    horizon = time.time() - MAX_AGE_S
    for path in folder.iterdir():
        with suppress(OSError):
            if path.stat().st_mtime < horizon:
                path.unlink()
