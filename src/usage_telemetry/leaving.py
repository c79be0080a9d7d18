"""The end of the process: every pipeline brings its records to safety, all within one limit."""

from __future__ import annotations

import atexit
import os
import sys
import time
from typing import Protocol

EXIT_WAIT_S = 0.1
"""What leaving may wait, for all pipelines together: a third of the 0.3 s that are promised,
because the interpreter takes time to end what it has imported. What has not reached an exporter by
then goes to the spool."""


class Leaver(Protocol):
    """Something that has to be ended before the process is."""

    def hurry(self) -> None:
        """Begin to finish what is queued; returns at once."""

    def shutdown(self, timeout_s: float) -> None:
        """Stop within `timeout_s`."""


begun = False
"""The process is ending: what is recorded from here on goes straight to the spool."""

_leavers: dict[int, Leaver] = {}
_registered_in = 0


def watch() -> None:
    """Have `leave` called at the end of this process; calling it again changes nothing.

    Called as early as the tool makes its telemetry: functions that are registered with atexit
    later run earlier, and may still record.
    """
    global _registered_in
    if _registered_in == 0:
        atexit.register(leave)  # a forked child inherits it
    if _registered_in != os.getpid():
        _registered_in = os.getpid()
        # A child of multiprocessing ends without atexit, but runs these.
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            from multiprocessing.util import Finalize

            Finalize(None, leave, exitpriority=0)


def register(leaver: Leaver) -> None:
    """Have `leaver` stopped at the end of the process."""
    _leavers[id(leaver)] = leaver


def forget(leaver: Leaver) -> None:
    """It was stopped earlier."""
    _leavers.pop(id(leaver), None)


def leave() -> None:
    """Stop everything that was registered, within `EXIT_WAIT_S`."""
    global begun
    begun = True
    deadline = time.monotonic() + EXIT_WAIT_S
    leavers = list(_leavers.values())
    for leaver in leavers:
        leaver.hurry()
    for leaver in leavers:
        leaver.shutdown(max(0.0, deadline - time.monotonic()))


def _begin_anew() -> None:
    """In a forked child of a process that was ending."""
    global begun
    begun = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
