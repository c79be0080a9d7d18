"""One process at a time: an operating-system lock on a file that ends with the process."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _acquire(fd: int) -> None:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _acquire(fd: int) -> None:
        # lockf, not flock: a record lock belongs to the process and is not inherited by a
        # forked child, so that it ends with the process that took it.
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


# Record locks do not exclude two threads of one process, hence this second, inner lock: which
# thread holds what. It also keeps a second descriptor from being closed, which would end the first
# one's lock.
_held: dict[str, int] = {}
_guard = threading.Lock()


class LockBusy(OSError):
    """Somebody else, a process or another thread, holds the lock."""


@contextmanager
def exclusive(path: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock on `path`; the file is created owner-only and stays.

    Args:
        path: The file to lock.
        wait_s: How long to wait for another holder, seconds.

    Raises:
        LockBusy: It is held by another process, or elsewhere in this one.
        OSError: The file cannot be created, or the file system knows no locks.
    """
    deadline = time.monotonic() + wait_s
    name = _name(path)
    fd = _lock(name)
    while fd is None:
        if time.monotonic() >= deadline:
            raise LockBusy(f"{path} is locked")
        time.sleep(0.005)
        fd = _lock(name)
    try:
        yield
    finally:
        os.close(fd)  # the lock goes with it
        _forget(name)


def held_here(path: Path) -> bool:
    """Whether the calling thread holds the lock on `path`."""
    with _guard:
        return _held.get(_name(path)) == threading.get_ident()


def _name(path: Path) -> str:
    """One name for one file, whatever links its folder is reached by."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _lock(name: str) -> int | None:
    """The locked file's descriptor; None: somebody else holds the lock."""
    with _guard:
        if name in _held:
            return None
        _held[name] = threading.get_ident()
    fd = -1
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        _acquire(fd)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        _forget(name)
        if fd >= 0 and isinstance(error, (BlockingIOError, PermissionError)):
            return None
        raise
    return fd


def _forget(name: str) -> None:
    with _guard:
        _held.pop(name, None)


def _forget_all() -> None:
    """In a forked child: what the parent holds is not held here."""
    global _guard
    _guard = threading.Lock()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
