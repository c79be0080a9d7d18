"""What was recorded in a process that ended before it could reach an exporter, for the next one."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

from opentelemetry.exporter.jitsu.lock import LockBusy, exclusive
from opentelemetry.exporter.jitsu.private_files import read_private, write_private

from usage_telemetry.record import Ids, Record, from_json, to_json

logger = logging.getLogger("usage_telemetry")

MAX_FILE_RECORDS = 1000
"""Records in one file: some 300 KB, and 10 MB if each were as large as an event may be."""
MAX_FILE_BYTES = 16 * 1024 * 1024
"""A larger file was not written by us."""
MAX_FILES = 2000
"""A folder with more is one that nobody empties: the oldest go. Most hold one short run's few
records, as of a command that is done before the SDK is imported."""
MAX_AGE_S = 7 * 24 * 3600
"""As in the outbox: older news only misleads."""
MAX_TRIES = 3
"""How often an exporter may refuse a file before it is given up."""

Left = tuple[dict[str, str], list[tuple[Record, Ids]]]
"""The resource and the records of one file."""


class Refused(Exception):
    """An exporter did not take the records of a file."""


def write(
    folder: Path, resource: Mapping[str, str], records: Iterable[tuple[Record, Ids]]
) -> list[Path]:
    """Keep records, with the resource that they were recorded under; returns the files.

    Raises:
        OSError: They cannot be written.
    """
    remaining = iter(records)
    written: list[Path] = []
    while part := list(islice(remaining, MAX_FILE_RECORDS)):
        lines = [json.dumps(dict(resource)), *(to_json(record, ids) for record, ids in part)]
        path = folder / f"{time.time_ns():020d}-{os.urandom(4).hex()}.jsonl"
        write_private(path, "\n".join(lines).encode())
        written.append(path)
    _make_room(folder)
    return written


def replay(folder: Path) -> Generator[Left, None, None]:
    """What ended processes left behind, file by file; a file goes once its records are taken.

    One process at a time replays; the others leave it to that one. The file is removed when the
    caller asks for the next: if the process dies before, it is replayed again with the same ids.
    A caller who stops asking leaves it there as well. One who throws `Refused` ends the replay,
    and the file has another try, of which there are three.
    """
    try:
        if not _files(folder):
            return
        with exclusive(folder / "lock"):
            _sweep_drafts(folder)
            for path in _files(folder):
                content = _read(path)
                if content is not None:
                    try:
                        yield content
                    except Refused:
                        _note_try(path)
                        return
                path.unlink(missing_ok=True)
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
    """The files in the order in which they were written."""
    try:
        names = os.listdir(folder)
    except OSError:  # most often there is no such folder
        return []
    return [folder / name for name in sorted(names) if _NAME.fullmatch(name)]


_NAME = re.compile(r"(\d{20}-[0-9a-f]{8})(?:-(\d))?\.jsonl")
"""When it was written, nanoseconds; something random; how often an exporter refused it."""


def _note_try(path: Path) -> None:
    match = _NAME.fullmatch(path.name)
    tries = int(match[2] or 0) + 1 if match else MAX_TRIES
    with suppress(OSError):
        if match is None or tries >= MAX_TRIES:
            logger.debug("spool: given up %s after %d tries", path.name, tries)
            path.unlink()
        else:
            path.rename(path.with_name(f"{match[1]}-{tries}.jsonl"))


def _make_room(folder: Path) -> None:
    files = _files(folder)
    for path in files[: max(0, len(files) - MAX_FILES)]:
        with suppress(OSError):
            path.unlink()


def _sweep_drafts(folder: Path) -> None:
    """Halves of files whose writers were killed."""
    horizon = time.time() - 3600
    for path in folder.glob(".*.jsonl.*"):
        with suppress(OSError):
            if path.stat().st_mtime < horizon:
                path.unlink()


def _read(path: Path) -> Left | None:
    try:
        if time.time() - path.stat().st_mtime > MAX_AGE_S:
            return None
        header, *lines = read_private(path, MAX_FILE_BYTES).decode().split("\n")
        resource = json.loads(header)
        if not isinstance(resource, dict):
            raise ValueError("no resource")
    except Exception as error:  # whatever stands in it
        logger.debug("spool: %s is unreadable: %s", path.name, error)
        return None
    records = []
    for line in lines:
        try:
            records.append(from_json(line))
        except Exception as error:
            logger.debug("spool: a line of %s is unreadable: %s", path.name, error)
    return resource, records
