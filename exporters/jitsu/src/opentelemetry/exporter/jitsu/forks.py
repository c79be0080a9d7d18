"""What a fork must not tear apart, and what a forked child has to begin anew."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

FORK_WAIT_S = 1.0
"""How long a fork may wait for a section to end: a transaction takes milliseconds, the one import
of the SDK or of httpx in the life of a process 0.1 s."""


class BeginsAnew(Protocol):
    """An object whose threads, locks and connections stay with the parent."""

    def begin_anew(self) -> None:
        """Called in a forked child before anything else of ours runs there."""


_owners: weakref.WeakSet[BeginsAnew] = weakref.WeakSet()
_condition = threading.Condition()
_sections = 0
_forking = False


def register(owner: BeginsAnew) -> None:
    """Have `owner.begin_anew()` called in every forked child."""
    _owners.add(owner)


@contextmanager
def whole() -> Iterator[None]:
    """A section that a fork waits for.

    In a child forked amid a transaction, SQLite's own locks would stay locked for ever; forked
    amid an import, the module's lock would, and the host's own import of it would hang.
    """
    global _sections
    with _condition:
        _condition.wait_for(lambda: not _forking, FORK_WAIT_S)
        _sections += 1
    try:
        yield
    finally:
        with _condition:
            _sections -= 1
            _condition.notify_all()


def _before() -> None:
    global _forking
    with _condition:
        _forking = True
        _condition.wait_for(lambda: _sections == 0, FORK_WAIT_S)


def _after_in_parent() -> None:
    global _forking
    with _condition:
        _forking = False
        _condition.notify_all()


def _after_in_child() -> None:
    global _condition, _sections, _forking
    _condition = threading.Condition()
    _sections = 0
    _forking = False
    for owner in list(_owners):
        owner.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
