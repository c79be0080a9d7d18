"""From the caller's thread to an exporter: a bounded queue, a worker thread, a bounded exit."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.exporter.jitsu import forks
from opentelemetry.exporter.jitsu.quiet import silencer

from usage_telemetry import spool
from usage_telemetry.record import Ids, Record, new_ids

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from usage_telemetry.spans import Spans

logger = logging.getLogger("usage_telemetry")

MAX_QUEUE = 8192
"""Records of some 0.5 KB each: 4 MB, and many times what arises while one batch is written."""
MAX_BATCH = 512
FLUSH_INTERVAL_S = 0.25
"""A killed process loses what was recorded since: well below the second that is promised."""
EXIT_WAIT_S = 0.2
"""What leaving may cost; what has not reached an exporter by then goes to the spool."""


class Pipeline:
    """Hands records to one exporter, on a daemon thread that is started with the first record.

    Args:
        make_exporter: Called on the thread, once.
        make_resource: Returns the attributes of the resource; called on the thread, once.
        spool_folder: Where an ending process leaves what it could not hand over.
        allowed: Asked before each batch; False: everything queued is thrown away.
    """

    def __init__(
        self,
        make_exporter: Callable[[], SpanExporter],
        make_resource: Callable[[], Mapping[str, str]],
        spool_folder: Callable[[], Path],
        allowed: Callable[[], bool],
    ) -> None:
        self._make_exporter = make_exporter
        self._make_resource = make_resource
        self._spool_folder = spool_folder
        self._allowed = allowed
        self._stopped = False
        self.begin_anew()
        forks.register(self)

    def begin_anew(self) -> None:
        """At the beginning, and in a forked child: nothing queued, no thread, no exporter."""
        self._condition = threading.Condition()
        self._queue: deque[Record] = deque()
        self._in_flight: list[tuple[Record, Ids]] = []
        self._thread: threading.Thread | None = None
        self._awake = False
        self._hurry = False
        self._abandoned = False
        self._ended = False
        self._exporter: SpanExporter | None = None
        self._resource: Mapping[str, str] | None = None
        self._dropped: Counter[str] = Counter()
        self._leaves_at_exit = False

    # -- the caller's thread -------------------------------------------------------------------

    def submit(self, record: Record) -> None:
        """Queue a record; no I/O, and no lock unless the worker sleeps."""
        if self._stopped:
            self._dropped["after_shutdown"] += 1
            return
        if len(self._queue) >= MAX_QUEUE:
            self._dropped["queue_full"] += 1
            return
        self._queue.append(record)
        if not self._awake:
            self._wake()

    def flush(self, timeout_s: float) -> bool:
        """Hand over what is queued and deliver it, waiting at most `timeout_s`.

        Returns:
            True if everything has been delivered.
        """
        deadline = time.monotonic() + timeout_s
        if not self._hand_over(deadline):
            return False
        if self._exporter is None:
            return True
        remaining_s = max(0.0, deadline - time.monotonic())
        return self._exporter.force_flush(int(remaining_s * 1000))

    def settle(self, timeout_s: float = EXIT_WAIT_S) -> None:
        """Bring what is queued to safety within `timeout_s`, and go on working.

        For servers that end by a signal right after their shutdown, without running `atexit`.
        """
        deadline = time.monotonic() + timeout_s
        if not self._hand_over(deadline):
            with self._condition:
                records = [(record, new_ids()) for record in self._drain(MAX_QUEUE)]
            self._leave_behind(records)
        settle = getattr(self._exporter, "settle", None)
        if settle is not None:
            settle(max(0.0, deadline - time.monotonic()))

    def shutdown(self, timeout_s: float = EXIT_WAIT_S) -> None:
        """Stop within `timeout_s`; what no exporter has taken by then goes to the spool."""
        deadline = time.monotonic() + timeout_s
        with self._condition:
            if self._stopped:
                return
            self._stopped = True
        self._hand_over(deadline)
        with self._condition:
            # From here on the worker takes no further batch: what it has not taken is ours.
            self._abandoned = True
            records = [
                *self._in_flight,
                *((record, new_ids()) for record in self._drain(MAX_QUEUE)),
            ]
            self._condition.notify_all()
            if not records and self._thread is not None:
                # The worker shuts the exporter down; ours keeps to the limit, others may not.
                self._condition.wait_for(lambda: self._ended, deadline - time.monotonic())
        self._leave_behind(records)

    def stats(self) -> dict[str, int]:
        """Counters of this pipeline and of its exporter."""
        exporter_stats: dict[str, int] = getattr(self._exporter, "stats", dict)()
        dropped = {f"dropped:{reason}": number for reason, number in self._dropped.items()}
        return {**exporter_stats, **dropped}

    def _wake(self) -> None:
        with self._condition:
            self._awake = True
            if self._thread is None:
                self._start_thread()
            self._condition.notify_all()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, name="usage-telemetry", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread to be had, or the interpreter is ending
            logger.debug("no worker thread: %s", error)
        else:
            self._thread = thread
        self._leave_at_exit()

    def _leave_at_exit(self) -> None:
        if self._leaves_at_exit:
            return
        self._leaves_at_exit = True
        atexit.register(self.shutdown)
        # A child of multiprocessing ends without atexit, but runs these.
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            from multiprocessing.util import Finalize

            Finalize(self, self.shutdown, exitpriority=0)

    def _hand_over(self, deadline: float) -> bool:
        """Wait until the exporter has taken all that is queued."""
        with self._condition:
            if not self._queue and not self._in_flight:
                return True
            if self._thread is None:
                return False
            self._hurry = self._awake = True
            self._condition.notify_all()
            return self._condition.wait_for(
                lambda: not self._queue and not self._in_flight, deadline - time.monotonic()
            )

    def _leave_behind(self, records: Sequence[tuple[Record, Ids]]) -> None:
        try:
            if records and self._allowed():
                spool.write(self._spool_folder(), self._resource or self._make_resource(), records)
        except Exception as error:  # a full disk, a read-only home: nothing is left to try
            logger.debug("lost %d record(s) at exit: %s", len(records), error)

    def _drain(self, most: int) -> list[Record]:
        records: list[Record] = []
        while len(records) < most:
            try:
                records.append(self._queue.popleft())
            except IndexError:
                break
        return records

    # -- the worker thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            exporter, spans = self._prepare()
        except Exception as error:  # an exporter that cannot be made: the host goes on without
            logger.debug("telemetry is off: %s", error)
            self._stopped = True
            self._queue.clear()
            return
        while not self._abandoned:
            try:
                self._export_queue(exporter, spans)
            except Exception as error:  # the thread must outlive whatever an exporter does
                logger.debug("export: %s: %s", type(error).__name__, error)
            self._sleep()
        exporter.shutdown()
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def _prepare(self) -> tuple[SpanExporter, Spans]:
        # The small things first: an exit during the imports needs them for the spool.
        self._resource = resource = self._make_resource()
        spool_folder = self._spool_folder()
        with forks.whole():
            from usage_telemetry.spans import Spans

            self._exporter = exporter = self._make_exporter()
        silencer.silence_this_thread(_FOREIGN_LOGGERS)
        for old_resource, records in spool.replay(spool_folder):
            if self._allowed():
                exporter.export(Spans(old_resource).make(records))
        return exporter, Spans(resource)

    def _export_queue(self, exporter: SpanExporter, spans: Spans) -> None:
        while batch := self._take_batch():
            if self._allowed():
                result = exporter.export(spans.make(batch))
                if result.name != "SUCCESS":
                    self._dropped["export_failed"] += len(batch)
            self._in_flight = []

    def _take_batch(self) -> list[tuple[Record, Ids]]:
        with self._condition:
            if not self._abandoned:
                self._in_flight = [(record, new_ids()) for record in self._drain(MAX_BATCH)]
            return self._in_flight if not self._abandoned else []

    def _sleep(self) -> None:
        with self._condition:
            self._in_flight = []
            self._condition.notify_all()
            self._hurry = False
            self._awake = False
            self._condition.wait_for(lambda: self._awake or self._queue or self._abandoned)
            self._awake = True
            # Let a batch gather, unless somebody waits for it.
            self._condition.wait_for(lambda: self._hurry or self._abandoned, FLUSH_INTERVAL_S)


_FOREIGN_LOGGERS = ("opentelemetry", "urllib3", "requests", "grpc", "httpx", "httpcore")
