"""What was recorded in a process that ended before it could reach an exporter, for the next one."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from opentelemetry.exporter.jitsu.lock import LockBusy, exclusive
from opentelemetry.exporter.jitsu.private_files import read_private, write_private

from usage_telemetry.record import Ids, Record, from_json, to_json

logger = logging.getLogger("usage_telemetry")

MAX_FILE_BYTES = 16 * 1024 * 1024
"""More than a full queue; a larger file was not written by us."""
MAX_FILES = 100
"""A folder with more is one that nobody empties: the oldest go."""
MAX_AGE_S = 7 * 24 * 3600
"""As in the outbox: older news only misleads."""


def write(folder: Path, resource: Mapping[str, str], records: Iterable[tuple[Record, Ids]]) -> None:
    """Keep records, with the resource that they were recorded under, in one new file.

    Raises:
        OSError: It cannot be written.
    """
    lines = [json.dumps(dict(resource)), *(to_json(record, ids) for record, ids in records)]
    name = f"{time.time_ns():020d}-{os.urandom(4).hex()}.jsonl"
    write_private(folder / name, "\n".join(lines).encode())


def replay(folder: Path) -> Iterator[tuple[dict[str, str], list[tuple[Record, Ids]]]]:
    """What ended processes left behind, file by file; a file goes once its records are taken.

    One process at a time replays; the others leave it to that one. The file is removed when the
    caller asks for the next: if the process dies before, it is replayed again with the same ids.
    """
    try:
        with exclusive(folder / "lock"):
            for path in _files(folder):
                content = _read(path)
                if content is not None:
                    yield content
                path.unlink()
    except (FileNotFoundError, LockBusy):
        return
    except OSError as error:
        logger.debug("spool: %s", error)


def waiting(folder: Path) -> int:
    """How many records lie in the spool."""
    return sum(len(content[1]) for path in _files(folder) if (content := _read(path)))


def discard(folder: Path) -> None:
    """Remove all that lies in the spool."""
    for path in _files(folder):
        with suppress(OSError):
            path.unlink()


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def _read(path: Path) -> tuple[dict[str, str], list[tuple[Record, Ids]]] | None:
    try:
        if time.time() - path.stat().st_mtime > MAX_AGE_S:
            return None
        header, *lines = read_private(path, MAX_FILE_BYTES).decode().split("\n")
        resource = json.loads(header)
        return resource, [from_json(line) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        logger.debug("spool: %s is unreadable: %s", path.name, error)
        return None
