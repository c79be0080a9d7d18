"""What a fork must not tear apart, and what a forked child has to begin anew."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FORK_WAIT_S = 1.0
"""How long a fork may wait for a section to end: a transaction takes milliseconds, the one import
of the SDK or of httpx in the life of a process 0.1 s."""
IDLE_WAIT_S = 0.1
"""How long a fork may wait for threads that have nothing to do and end within microseconds."""


class BeginsAnew:
    """An object whose threads, locks and connections stay with the parent."""

    def begin_anew(self) -> None:
        """Called in a forked child before anything else of ours runs there."""

    def end_idle_threads(self, timeout_s: float) -> None:
        """Called before a fork: end threads that have nothing to do; the next work starts them.

        Python 3.12 and later warn on stderr about a fork in a process with several threads.
        """

    def resume(self) -> None:
        """Called in the parent after the fork: start again what is still needed."""


_owners: weakref.WeakSet[BeginsAnew] = weakref.WeakSet()
_condition = threading.Condition()
_sections = 0
_waiting = 0
_forking = 0
_inside = threading.local()


def register(owner: BeginsAnew) -> None:
    """Have `owner` told of every fork."""
    _owners.add(owner)


@contextmanager
def whole() -> Iterator[None]:
    """A section that a fork waits for.

    In a child forked amid a transaction, SQLite's own locks would stay locked for ever; forked
    amid an import, the module's lock would, and the host's own import of it would hang.
    """
    global _sections, _waiting
    if getattr(_inside, "section", False):  # a section within a section is part of it
        yield
        return
    with _condition:
        _waiting += 1
        try:
            _condition.wait_for(lambda: not _forking, FORK_WAIT_S)
        finally:
            _waiting -= 1
        _sections += 1
    _inside.section = True
    try:
        yield
    finally:
        _inside.section = False
        with _condition:
            _sections -= 1
            _condition.notify_all()


def _before() -> None:
    global _forking
    hooked = _thread_pools_are_hooked()
    deadline = time.monotonic() + IDLE_WAIT_S
    for owner in list(_owners):
        with suppress(Exception):  # it would be printed, and fork all the same
            owner.end_idle_threads(max(0.0, deadline - time.monotonic()))
    with _condition:
        mine = 1 if getattr(_inside, "section", False) else 0
        # Those that wait for an earlier fork to end come first: between forks in quick succession
        # they would never find their moment.
        _condition.wait_for(lambda: _sections <= mine and not _waiting, FORK_WAIT_S)
        _forking += 1
    if not hooked and _thread_pools_are_hooked():
        # The import that we waited for has hooked a lock into forks, too late for this one's
        # beginning; its end will release the lock, and say on stderr if nobody holds it.
        with suppress(AttributeError):
            sys.modules["concurrent.futures.thread"]._global_shutdown_lock.acquire(timeout=0.1)


def _thread_pools_are_hooked() -> bool:
    return hasattr(sys.modules.get("concurrent.futures.thread"), "ThreadPoolExecutor")


def _after_in_parent() -> None:
    global _forking
    with _condition:
        _forking -= 1
        _condition.notify_all()
    for owner in list(_owners):
        with suppress(Exception):
            owner.resume()


def _after_in_child() -> None:
    global _condition, _sections, _waiting, _forking, _inside
    _condition = threading.Condition()
    _sections = 0
    _waiting = 0
    _forking = 0
    _inside = threading.local()
    for owner in list(_owners):
        owner.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
