"""From the caller's thread to an exporter: a bounded queue, a worker thread, a bounded exit."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.jitsu import forks
from opentelemetry.exporter.jitsu.quiet import silencer

from usage_telemetry import leaving, spool
from usage_telemetry.leaving import EXIT_WAIT_S
from usage_telemetry.record import Ids, Record, with_ids

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from usage_telemetry.spans import Spans

logger = logging.getLogger("usage_telemetry")

MAX_QUEUE = 8192
"""Records of some 0.5 KB each: 4 MB, and many times what arises while one batch is written."""
MAX_BATCH = 2048
FLUSH_INTERVAL_S = 0.25
"""A killed process loses what was recorded since: well below the second that is promised."""
MAX_WAITED_FOR = 1024
"""More than this is not handed over within the time for an exit, and goes to the spool at once."""
BOOKING_WAIT_S = 0.1
"""An exporter that is writing down what was accepted, a matter of milliseconds, may end that."""
STUCK_S = 0.5
"""An exporter that has had a batch for so long will not end within the time for an exit."""
RETRY_S = 1.0
"""After a failure of the machine (no thread to be had, no file handle) to begin: how soon again."""
MAX_LATE = 100
"""Records that a process may write one by one while it is ending; more would hold it."""


class Pipeline(forks.BeginsAnew):
    """Hands records to one exporter, on a daemon thread that is started with the first record.

    Args:
        make_exporter: Called on the thread, once. If it raises, this pipeline stays off.
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
        leaving.register(self)

    def begin_anew(self) -> None:
        """At the beginning, and in a forked child: nothing queued, no thread, no exporter."""
        self._condition = threading.Condition()
        self._queue: deque[Record] = deque()
        self._in_flight: list[tuple[Record, Ids]] = []
        self._in_flight_since = 0.0
        self._copies: list[Path] = []  # of what is in flight, in the spool
        self._thread: threading.Thread | None = None
        self._next_start = 0.0
        self._awake = False  # the worker will look at the queue without being told
        self._idle = False
        self._end_if_idle = False
        self._hurry = False
        self._settle_by: float | None = None
        self._holding = False
        self._abandoned = False
        self._ended = False
        self._broken = False
        self._late = 0
        self._exporter: SpanExporter | None = None
        self._spans: Spans | None = None
        self._resource: Mapping[str, str] | None = None
        self._dropped: Counter[str] = Counter()

    # -- the caller's thread -------------------------------------------------------------------

    def submit(self, record: Record) -> None:
        """Queue a record; no I/O, and no lock unless the worker sleeps."""
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
        if not self._hand_over(deadline, replayed=True):
            return False
        if self._exporter is None:
            return not self._broken
        self._hold(False)
        try:
            remaining_ms = int(max(0.0, deadline - time.monotonic()) * 1000)
            # An exporter that keeps nothing back inherits a force_flush that returns None.
            return self._exporter.force_flush(remaining_ms) is not False
        except Exception as error:
            logger.debug("flush: %s: %s", type(error).__name__, error)
            return False

    def settle(self, timeout_s: float = EXIT_WAIT_S) -> None:
        """Bring what is queued to safety within `timeout_s`, and go on working.

        For servers that end by a signal right after their shutdown, without running `atexit`.
        """
        deadline = time.monotonic() + timeout_s
        self._settle_by = deadline
        self._hold(True)
        if self._is_worth_waiting() and self._hand_over(deadline):
            with self._condition:
                if self._thread is not None:
                    self._awake = self._hurry = True
                    self._condition.notify_all()
                    self._wait(lambda: self._settle_by is None, deadline)
            return
        self._leave_behind()

    def hurry(self) -> None:
        """Have the worker take what is queued without letting a batch gather."""
        with self._condition:
            self._hurry = True
            self._condition.notify_all()

    def shutdown(self, timeout_s: float = EXIT_WAIT_S) -> None:
        """Stop within `timeout_s`; what no exporter has taken by then goes to the spool."""
        deadline = time.monotonic() + timeout_s
        with self._condition:
            if self._stopped:
                return
            self._stopped = True
        self._hold(True)
        handed_over = self._is_worth_waiting() and self._hand_over(deadline)
        with self._condition:
            # From here on the worker takes no further batch, and `submit` comes to `_wake`.
            self._abandoned = True
            self._awake = False
            self._condition.notify_all()
            if handed_over and self._thread is not None:
                # The worker shuts the exporter down; ours keeps to the limit, others may not.
                self._wait(lambda: self._ended, deadline)
        self._leave_behind()
        self._let_it_book()
        if self._thread is None:
            # It ended before a fork, and no other can be started any more.
            self._settle_exporter(self._exporter, deadline)
        leaving.forget(self)

    def stats(self) -> dict[str, int]:
        """Counters of this pipeline and of its exporter."""
        exporter_stats: dict[str, int] = getattr(self._exporter, "stats", dict)()
        dropped = {f"dropped:{reason}": number for reason, number in dict(self._dropped).items()}
        return {**exporter_stats, **dropped}

    def _wake(self) -> None:
        with self._condition:
            if self._abandoned or (leaving.begun and not self._stopped):
                self._refuse()
            elif self._thread is None:
                self._start_thread()
            else:
                self._awake = True
                self._condition.notify_all()

    def _refuse(self) -> None:
        """A record after the end: kept if the process is ending, else the caller's mistake."""
        if leaving.begun and not self._broken and self._late < MAX_LATE:
            self._late += 1
            self._leave_behind()
        else:
            self._dropped["no_exporter" if self._broken else "after_shutdown"] += len(self._queue)
            self._queue.clear()

    def _start_thread(self) -> None:
        if time.monotonic() < self._next_start:
            return
        leaving.watch()
        thread = threading.Thread(target=self._run, name="usage-telemetry", daemon=True)
        self._thread = thread
        self._awake = True
        try:
            thread.start()
        except RuntimeError as error:  # no thread to be had, or the interpreter is ending
            logger.debug("no worker thread: %s", error)
            self._thread = None
            self._awake = False
            self._next_start = time.monotonic() + RETRY_S

    def _hand_over(self, deadline: float, *, replayed: bool = False) -> bool:
        """Wait until the exporter has taken all that is queued.

        Args:
            deadline: How long to wait at most, on the monotonic clock.
            replayed: Wait also for what ended processes left to be taken over.
        """
        with self._condition:
            if self._thread is None and (self._queue or self._exporter) and not self._abandoned:
                self._start_thread()
            if self._thread is None:
                return not self._queue
            self._hurry = self._awake = True
            self._idle = False
            self._condition.notify_all()
            return self._wait(
                lambda: (
                    self._broken
                    or (not self._queue and not self._in_flight and (self._idle or not replayed))
                ),
                deadline,
            )

    def _hold(self, holding: bool) -> None:
        """Where an exporter knows to (ours does): have it start no request that none will end."""
        self._holding = holding
        hold: Callable[[bool], None] | None = getattr(self._exporter, "hold", None)
        if hold is not None:
            hold(holding)

    def _let_it_book(self) -> None:
        """What an endpoint has accepted and nobody has written down would be sent again."""
        is_booking: Callable[[], bool] | None = getattr(self._exporter, "is_booking", None)
        deadline = time.monotonic() + BOOKING_WAIT_S
        with suppress(Exception, KeyboardInterrupt):
            while is_booking is not None and is_booking() and time.monotonic() < deadline:
                time.sleep(0.002)

    def _is_worth_waiting(self) -> bool:
        """Whether the worker can hand over in a moment what there is."""
        stuck = self._in_flight and time.monotonic() - self._in_flight_since > STUCK_S
        return not stuck and len(self._queue) <= MAX_WAITED_FOR

    def _wait(self, happened: Callable[[], bool], deadline: float) -> bool:
        try:
            return self._condition.wait_for(happened, max(0.0, deadline - time.monotonic()))
        except KeyboardInterrupt:  # somebody in a hurry to leave
            return happened()

    def _leave_behind(self) -> None:
        """Write to the spool what is queued, and a copy of what is in flight."""
        with self._condition:
            queued = with_ids(self._drain(2 * MAX_QUEUE))
            in_flight = list(self._in_flight) if not self._copies else []
        if not queued and not in_flight:
            return
        try:
            if not self._allowed():
                return
            folder = self._spool_folder()
            resource = self._resource or self._make_resource()
            spool.write(folder, resource, queued)
            copies = spool.write(folder, resource, in_flight)
            with self._condition:
                if self._in_flight[:1] == in_flight[:1]:
                    self._copies = copies
                    copies = []
            _remove(copies)  # the exporter took it in the meantime
        except Exception as error:  # a full disk, a read-only home: nothing is left to try
            logger.debug("lost %d record(s): %s", len(queued) + len(in_flight), error)

    def _drain(self, most: int) -> list[Record]:
        return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    # -- forks ---------------------------------------------------------------------------------

    def end_idle_threads(self, timeout_s: float) -> None:
        """Before a fork, see `forks.BeginsAnew`."""
        with self._condition:
            thread = self._thread
            if thread is None or not self._idle:
                return
            self._end_if_idle = True
            self._condition.notify_all()
        thread.join(timeout_s)
        self._end_if_idle = False

    # -- the worker thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with forks.whole():  # it imports
                _hide_from_instrumentation()
            self._work()
        except BaseException as error:  # a traceback of ours is nothing for the host's stderr
            logger.debug("telemetry is off: %s: %s", type(error).__name__, error)
            self._break()
        finally:
            silencer.release_this_thread()

    def _break(self) -> None:
        with self._condition:
            self._broken = self._abandoned = self._ended = True
            self._awake = False
            self._in_flight = []
            self._dropped["no_exporter"] += len(self._queue)
            self._queue.clear()
            self._condition.notify_all()

    def _work(self) -> None:
        prepared = self._prepare_in_time()
        if prepared is None:
            return
        exporter, spans = prepared
        while True:
            try:
                self._export_queue(exporter, spans)
            except Exception as error:  # the thread must outlive whatever an exporter does
                logger.debug("export: %s: %s", type(error).__name__, error)
            self._settle_as_asked(exporter)
            if not self._sleep():
                break
        if self._abandoned:
            try:
                exporter.shutdown()
            except Exception as error:
                logger.debug("shutdown: %s: %s", type(error).__name__, error)
            with self._condition:
                self._ended = True
                self._condition.notify_all()

    def _prepare_in_time(self) -> tuple[SpanExporter, Spans] | None:
        """Prepare, again and again where the machine has no file handle or memory for it."""
        while True:
            try:
                return self._prepare()
            except (OSError, MemoryError) as error:
                logger.debug("not yet: %s: %s", type(error).__name__, error)
            with self._condition:
                if self._condition.wait_for(lambda: self._abandoned, RETRY_S):
                    self._ended = True
                    self._condition.notify_all()
                    return None

    def _prepare(self) -> tuple[SpanExporter, Spans]:
        """Import what is needed and make the exporter, unless an earlier thread did."""
        with forks.whole():
            # The small things first: an exit during the imports needs them for the spool.
            if self._resource is None:
                self._resource = self._make_resource()
            from usage_telemetry.spans import Spans

            silencer.silence_this_thread(_FOREIGN_LOGGERS)
            if self._exporter is None:
                self._exporter = self._make_exporter()
                self._hold(self._holding)
            silencer.silence_this_thread(_FOREIGN_LOGGERS)  # those that came with the exporter
            if self._spans is None:
                self._spans = Spans(self._resource)
        return self._exporter, self._spans

    def _export_queue(self, exporter: SpanExporter, spans: Spans) -> None:
        while batch := self._take_batch():
            if self._holding and self._settle_by is None and not self._stopped:
                self._hold(False)  # the process went on after all
            exported = False
            try:
                exported = not self._allowed() or _export(exporter, spans, batch)
            finally:
                self._settle_batch(batch, exported)
            if exported:
                self._replay(exporter)

    def _take_batch(self) -> list[tuple[Record, Ids]]:
        with self._condition:
            if self._abandoned:
                return []
            self._in_flight = with_ids(self._drain(MAX_BATCH))
            self._in_flight_since = time.monotonic()
            return self._in_flight

    def _settle_batch(self, batch: Sequence[tuple[Record, Ids]], exported: bool) -> None:
        """Forget a batch that the exporter took; keep the others for a later try."""
        with self._condition:
            copies, self._copies = self._copies, []
            self._in_flight = []
            self._condition.notify_all()
        if exported:
            _remove(copies)
            return
        self._dropped["export_failed"] += len(batch)
        if not copies:
            try:
                spool.write(self._spool_folder(), self._resource or {}, batch)
            except OSError as error:
                logger.debug("lost %d record(s): %s", len(batch), error)

    def _replay(self, exporter: SpanExporter) -> None:
        """Take over what ended processes left, now that the exporter works."""
        from usage_telemetry.spans import Spans

        with closing(spool.replay(self._spool_folder())) as files:
            for resource, records in files:
                if self._abandoned:
                    return
                if self._allowed() and not _export(exporter, Spans(resource), records):
                    with suppress(StopIteration):
                        files.throw(spool.Refused())
                    return

    def _settle_as_asked(self, exporter: SpanExporter) -> None:
        deadline = self._settle_by
        if deadline is None:
            return
        self._settle_exporter(exporter, deadline)
        with self._condition:
            self._settle_by = None
            self._condition.notify_all()

    def _settle_exporter(self, exporter: SpanExporter | None, deadline: float) -> None:
        """Where an exporter can bring what it has to safety, as ours does, have it do so."""
        settle: Callable[[float], Any] | None = getattr(exporter, "settle", None)
        if settle is None:
            return
        try:
            settle(max(0.0, deadline - time.monotonic()))
        except Exception as error:
            logger.debug("settle: %s: %s", type(error).__name__, error)

    def _sleep(self) -> bool:
        """Wait for a batch; False: the thread shall end."""
        with self._condition:
            self._hurry = self._awake = False
            self._idle = True
            self._condition.notify_all()
            self._condition.wait_for(
                lambda: self._awake or self._queue or self._abandoned or self._end_if_idle
            )
            self._idle = False
            if self._abandoned:
                return False
            if self._end_if_idle and not self._queue:
                # From here on, under the lock, whoever needs a thread starts another.
                self._thread = None
                return False
            self._awake = True
            # Let a batch gather, unless somebody waits for it.
            self._condition.wait_for(lambda: self._hurry or self._abandoned, FLUSH_INTERVAL_S)
            return True


def _export(exporter: SpanExporter, spans: Spans, batch: Sequence[tuple[Record, Ids]]) -> bool:
    try:
        return exporter.export(spans.make(batch)).name == "SUCCESS"
    except Exception as error:  # SpanExporter should not raise; some do
        logger.debug("export: %s: %s", type(error).__name__, error)
        return False


def _remove(copies: Sequence[Path]) -> None:
    for path in copies:
        with suppress(OSError):
            path.unlink()


def _hide_from_instrumentation() -> None:
    """A host that traces its HTTP clients or gRPC gets no spans of this thread's requests."""
    from opentelemetry import context

    hidden = context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True)
    context.attach(context.set_value("suppress_instrumentation", True, hidden))


_FOREIGN_LOGGERS = (
    "opentelemetry",
    "urllib3",
    "requests",
    "charset_normalizer",
    "grpc",
    "httpx",
    "httpcore",
)
"""Whatever the exporters in use log through, below these names."""
