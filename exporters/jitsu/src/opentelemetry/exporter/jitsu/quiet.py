"""Keeps the log lines of one thread of ours out of the host's log, and only those."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class ThreadSilencer(logging.Filter):
    """A filter for foreign loggers that drops what the given threads log.

    httpx logs the full URL of every request at INFO, httpcore each step at DEBUG; a host that
    logs at these levels must not see requests that are not its own, and must go on seeing its
    own requests through the same loggers.
    """

    def __init__(self) -> None:
        super().__init__()
        self._threads: set[int] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        # Not record.thread, which a host can switch off (logging.logThreads).
        return threading.get_ident() not in self._threads

    def silence_this_thread(self, prefixes: Iterable[str]) -> None:
        """Drop what this thread logs through loggers below `prefixes`.

        Call it after the libraries were imported: their loggers exist from then on.
        """
        self._threads.add(threading.get_ident())
        self.watch(prefixes)

    def watch(self, prefixes: Iterable[str]) -> None:
        """Filter the loggers that exist below `prefixes`."""
        roots = tuple(prefixes)
        for name in [*roots, *logging.root.manager.loggerDict]:
            if name in roots or name.startswith(tuple(f"{root}." for root in roots)):
                logger = logging.getLogger(name)
                if self not in logger.filters:
                    # Ahead of filters that remember records, such as the SDK's against repetition:
                    # the host's own record would pass for a repetition of ours.
                    logger.filters.insert(0, self)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """A section in which this thread is not heard; see `silence_this_thread`."""
        me = threading.get_ident()
        was_silent = me in self._threads
        self._threads.add(me)
        try:
            yield
        finally:
            if not was_silent:
                self._threads.discard(me)

    def release_this_thread(self) -> None:
        """Let this thread be heard again; thread ids are reused after a thread has ended."""
        self._threads.discard(threading.get_ident())


silencer = ThreadSilencer()
