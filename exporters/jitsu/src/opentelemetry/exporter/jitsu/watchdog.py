"""A limit in wall-clock time for something that blocks: one thread that ends the wait."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger("usage_telemetry.exporter.jitsu")


class Watchdog:
    """Calls `on_timeout` when a section takes longer than it may.

    httpx's own timeouts count anew for every byte that drips in. The thread is started with the
    first section and kept: from Python 3.12 on none can be started while a program ends, and the
    last requests of a program need their limit as well.

    Args:
        on_timeout: Ends what the section waits for; called on the watchdog's thread.
    """

    def __init__(self, on_timeout: Callable[[], None]) -> None:
        self.passed = False
        self._on_timeout = on_timeout
        self._condition = threading.Condition()
        self._deadline: float | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def limit(self, timeout_s: float) -> Iterator[None]:
        """Limit the section to `timeout_s`; `passed` tells afterwards whether it was too long."""
        with self._condition:
            self.passed = False
            self._deadline = time.monotonic() + timeout_s
            self._ensure_thread()
            self._condition.notify_all()
        try:
            yield
        finally:
            with self._condition:
                self._deadline = None

    def close(self) -> None:
        """End the thread; a later section starts another."""
        with self._condition:
            thread, self._thread = self._thread, None
            self._closed = True
            self._condition.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(0.1)

    def _ensure_thread(self) -> None:
        if self._thread is not None:
            return
        self._closed = False
        thread = threading.Thread(target=self._run, name="usage-telemetry-deadline", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the program is ending, and nobody will wait for us
            logger.debug("no deadline: %s", error)
        else:
            self._thread = thread

    def _run(self) -> None:
        me = threading.current_thread()
        while True:
            with self._condition:
                if self._closed or self._thread not in (me, None):
                    return
                if self._deadline is None:
                    self._condition.wait()
                    continue
                remaining_s = self._deadline - time.monotonic()
                if remaining_s > 0:
                    self._condition.wait(remaining_s)
                    continue
                self._deadline = None
                self.passed = True
            try:
                self._on_timeout()
            except Exception as error:
                logger.debug("deadline: %s", type(error).__name__)
