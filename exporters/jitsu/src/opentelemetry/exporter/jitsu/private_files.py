"""Files and folders for their owner alone; symbolic links in their place are refused."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


def make_private_folder(path: Path) -> None:
    """Create `path` for its owner alone; an existing folder of the owner's is closed to others.

    Raises:
        OSError: It cannot be created, is a symbolic link, or belongs to somebody else.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(f"{path} is not a folder")
    _check_owner(path, status)
    if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
        path.chmod(0o700)


def make_private_file(path: Path) -> None:
    """See to it that `path` is a regular file of the owner's; a new one is empty.

    Raises:
        OSError: It cannot be created, or something else (a symbolic link, a folder, another
            user's file) stands in its place.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        make_private_folder(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | _NOFOLLOW, 0o600))
        status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is not a regular file")
    _check_owner(path, status)


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, in the place of what was there (a link is replaced).

    Raises:
        OSError: It cannot be written.
    """
    make_private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise


def read_private(path: Path, max_bytes: int) -> bytes:
    """The first `max_bytes` of a regular file.

    Raises:
        OSError: There is none, it is a symbolic link, or it cannot be read.
    """
    # Non-blocking, so that a named pipe in its place cannot hold us.
    with open(os.open(path, os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is not a regular file")
        return file.read(max_bytes)


def _check_owner(path: Path, status: os.stat_result) -> None:
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        raise OSError(f"{path} belongs to somebody else")
