"""The thread that delivers an outbox to one destination: when to try, what to do with answers."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.exporter.jitsu.batch import Batch, events_in, halves
from opentelemetry.exporter.jitsu.client import Answer, JitsuClient, Outcome
from opentelemetry.exporter.jitsu.lock import LockBusy
from opentelemetry.exporter.jitsu.outbox import (
    Delivery,
    Destination,
    Outbox,
    OutboxUnusable,
    Rest,
)

logger = logging.getLogger("usage_telemetry.exporter.jitsu")

MAX_REQUEST_EVENTS = 512
MAX_REQUEST_BYTES = 512 * 1024
"""Half of the 1 MB at which common proxies refuse a request; the servers themselves take more."""

BACKOFF_BASE_S = 1.0
BACKOFF_CAP_S = 600.0
"""An endpoint that is back gets its events ten minutes later at the most."""
REST_S = 24 * 3600.0
"""A wrong token or path is mended by a new release of the tool, not within the hour."""
LOCK_POLL_S = 1.0
"""How soon to look again while another process delivers this outbox: it takes ours along."""
FLUSH_POLL_S = 0.05
"""The same while somebody waits for a flush."""
DISK_RETRY_S = 2.0
DISK_RETRY_CAP_S = 600.0
"""An outbox that cannot be read just now (locked, no permission) is looked at again."""
STUCK_S = 0.5
"""A request that has taken so long will not be answered within the moment that an exit may cost."""
ERROR_PAUSE_S = 60.0
"""After something that nobody thought of."""
REFUSALS_IN_A_ROW = 8
"""So many single events refused and none ever accepted: the destination refuses us, not the
events. (Jitsu 2 answers 400 to an unknown token.)"""
REFUSALS_IN_A_ROW_OF_A_FRIEND = 64
"""The same for a destination that has accepted events of this process."""


class Pause(NamedTuple):
    """Until when nothing is tried; while it is `firm`, new events only gather."""

    seconds: float
    firm: bool = True


_HELD = Answer(Outcome.RETRY, "held")


class Sender:
    """Delivers what waits in `outbox` for `destination`, on a daemon thread started by need.

    Args:
        outbox: Where events wait.
        destination: Where they go.
        timeout_s: Wall-clock limit of one request, seconds.
        allowed: Asked before each request; False: nothing is sent (somebody opted out).
        count: Books numbers under names for the owner's statistics.
    """

    def __init__(
        self,
        outbox: Outbox,
        destination: Destination,
        timeout_s: float,
        allowed: Callable[[], bool],
        count: Callable[[str, int], None],
    ) -> None:
        self._outbox = outbox
        self._destination = destination
        self._allowed = allowed
        self._count = count
        # Of our own and from the system's entropy: the host's `random` is left alone.
        self._random = random.SystemRandom()
        self._access = (destination.endpoint, destination.token, timeout_s)
        self._client = JitsuClient(*self._access)
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        # Rounds of delivery: asked for, finished, and up to which one back-off does not count.
        self._asked = 0
        self._finished = 0
        self._urgent = 0
        # What the thread does while it waits, and whether it shall end if it does.
        self._idle = False
        self._pausing = False
        self._sending = False  # from the start of a request until its answer is booked
        self._sending_since = 0.0
        self._booking = False
        self._holding = False
        self._end_if_idle = False
        self._resume = False
        self._stopping = False
        # What the last round met.
        self._lock_was_busy = False
        self._settled = 0  # requests whose events' fate is settled
        self._disk_failures = 0
        self._arrays_refused = False
        self._accepted = False
        self._refusals = 0

    # -- called by the exporter ---------------------------------------------------------------

    def wake(self) -> None:
        """Something is in the outbox; returns at once."""
        with self._condition:
            self._holding = False
            self._asked += 1
            self._ensure_thread()
            self._condition.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Deliver now, whatever back-off says; wait for it at most `timeout_s`.

        Returns:
            True if nothing waits for this destination any more.
        """
        deadline = time.monotonic() + timeout_s
        settled = self._settled
        while self._finish_round(deadline):
            if not self._disk_failures and self._outbox.waiting(self._destination) == 0:
                return True
            if self._lock_was_busy:
                # Another process delivers ours along with its own: see whether it gets done.
                if time.monotonic() + FLUSH_POLL_S > deadline:
                    return False
                time.sleep(FLUSH_POLL_S)
            elif self._settled == settled:
                return False
            settled = self._settled  # what another process put in meanwhile is left
        return False

    def _finish_round(self, deadline: float) -> bool:
        """Have the thread go one round, whatever back-off says; false: it did not get done."""
        with self._condition:
            self._holding = False
            self._asked += 1
            mine = self._urgent = self._asked
            if not self._ensure_thread():
                return False
            self._condition.notify_all()
            return self._condition.wait_for(
                lambda: self._finished >= mine, max(0.0, deadline - time.monotonic())
            )

    def settle(self, timeout_s: float) -> None:
        """Give what is on its way `timeout_s` to arrive."""
        with self._condition:
            if self._sending and time.monotonic() - self._sending_since < STUCK_S:
                self._condition.wait_for(lambda: not self._sending, timeout_s)

    def hold(self) -> None:
        """Start no further request, until there is something new.

        For the end of a process: one that begins then would be left without its answer, and what
        it carries would be sent again.
        """
        self._holding = True

    def is_booking(self) -> bool:
        """Whether an accepted batch is just being written down: a bad moment to die."""
        return self._booking

    def stop(self) -> None:
        """Send nothing more; a request under way is left to itself."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    # -- forks ----------------------------------------------------------------------------------

    def end_if_idle(self, timeout_s: float) -> None:
        """Before a fork: end the thread if it only waits."""
        with self._condition:
            thread = self._thread
            if thread is None or not self._idle:
                return
            self._end_if_idle = True
            self._condition.notify_all()
        thread.join(timeout_s)
        self._end_if_idle = False

    def resume(self) -> None:
        """After the fork, in the parent: go on waiting for the end of a pause."""
        with self._condition:
            if self._resume:
                self._resume = False
                self._asked += 1
                self._ensure_thread()

    # -- the thread ---------------------------------------------------------------------------

    def _ensure_thread(self) -> bool:
        if self._stopping:
            return False
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="usage-telemetry-sender", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError as error:  # the program is ending, or no thread can be had
                logger.debug("no sender thread: %s", error)
                self._thread = None
                return False
        return True

    def _run(self) -> None:
        pause: Pause | None = None
        # A client for each thread: one that ends closes its own, and never its successor's.
        client = self._client = JitsuClient(*self._access)
        try:
            while self._wait_for_work(pause):
                pause = self._round()
        except BaseException as error:  # a traceback of ours is nothing for the host's stderr
            logger.debug("sender: %s", type(error).__name__)
            with self._condition:
                self._thread = None
        finally:
            client.close()

    def _round(self) -> Pause | None:
        with self._condition:
            this_round, urgent = self._asked, self._urgent > self._finished
        # The host's instrumentation of HTTP clients skips our requests.
        suppressing = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            pause = self._deliver_all(urgent)
        except Exception as error:  # a thread that dies would strand what is recorded
            logger.debug("sender: %s: %s", type(error).__name__, error)
            pause = Pause(ERROR_PAUSE_S)
        finally:
            detach(suppressing)
        with self._condition:
            self._finished = this_round
            self._condition.notify_all()
        return pause

    def _wait_for_work(self, pause: Pause | None) -> bool:
        """Sleep until there is something to do; False: the thread shall end."""

        def is_time() -> bool:
            new = self._urgent if pause is not None and pause.firm else self._asked
            return self._stopping or self._end_if_idle or new > self._finished

        with self._condition:
            self._idle = True
            self._pausing = pause is not None
            self._condition.notify_all()
            woken = self._condition.wait_for(is_time, None if pause is None else pause.seconds)
            self._idle = self._pausing = False
            if self._stopping or (self._end_if_idle and woken):
                self._resume = pause is not None and not self._stopping
                # From here on, under the lock, whoever needs a thread starts another.
                self._thread = None
                return False
            return True

    def _deliver_all(self, urgent: bool) -> Pause | None:
        """Send batch after batch; returns how to pause, None if nothing is left."""
        self._outbox.adopt()
        while not self._stopping and not self._holding:
            if not self._allowed():
                return None
            pause, more = None, False
            if not self._outbox.spill(time.time()):
                with self._outbox.delivering_from_memory(self._destination) as delivery:
                    pause, more = self._deliver_batch(delivery, urgent)
            if pause is None and not more:
                pause, more = self._deliver_from_disk(urgent)
            if pause is not None or not more:
                return pause
        return None

    def _deliver_from_disk(self, urgent: bool) -> tuple[Pause | None, bool]:
        self._lock_was_busy = False
        try:
            with self._outbox.delivering_from_disk(self._destination) as delivery:
                pause, more = self._deliver_batch(delivery, urgent)
        except LockBusy:
            self._lock_was_busy = True
            waiting = self._outbox.waiting(self._destination)
            return (Pause(LOCK_POLL_S) if waiting else None), False
        except FileNotFoundError:
            return None, False
        except OSError as error:  # the outbox cannot be read just now; events may be in memory
            logger.debug("outbox: %s", error)
            self._disk_failures += 1
            pause_s = min(DISK_RETRY_CAP_S, DISK_RETRY_S * 2 ** min(self._disk_failures - 1, 20))
            return Pause(pause_s, firm=False), False
        self._disk_failures = 0
        return pause, more

    def _deliver_batch(self, delivery: Delivery, urgent: bool) -> tuple[Pause | None, bool]:
        now = time.time()
        most = 1 if self._arrays_refused else MAX_REQUEST_EVENTS
        rest, batches, more = delivery.take(most, MAX_REQUEST_BYTES, now)
        if rest.until > now and not (urgent and not rest.binding):
            return Pause(min(rest.until - now, REST_S)), False
        if not batches:
            return None, False
        answer = self._send(delivery, batches)
        self._client.finish()
        if answer is None:
            self._settled += 1
            return None, more
        if answer is _HELD:
            return None, False
        return Pause(self._postpone(delivery, rest, answer)), False

    def _send(self, delivery: Delivery, batches: Sequence[Batch]) -> Answer | None:
        """Send batches in one request, in parts where the endpoint refuses it whole.

        Returns:
            None if the fate of every event is settled, else the answer that says when to retry.
        """
        with self._condition:
            if self._holding or self._stopping:
                return _HELD
            self._sending = True
            self._sending_since = time.monotonic()
        try:
            answer = self._client.post([batch.body for batch in batches])
            return self._settle(delivery, batches, answer)
        finally:
            with self._condition:
                self._sending = self._booking = False
                self._condition.notify_all()

    def _settle(
        self, delivery: Delivery, batches: Sequence[Batch], answer: Answer
    ) -> Answer | None:
        self._booking = answer.outcome is Outcome.SENT
        self._count("requests", 1)
        now = time.time()
        if answer.outcome is Outcome.SENT:
            self._refusals = 0
            self._accepted = True
            delivery.settle(batches, {}, now)
            self._count("sent", events_in(batches))
            return None
        if answer.outcome is Outcome.SPLIT:
            return self._split(delivery, batches, answer)
        if answer.outcome is Outcome.GIVE_UP:
            self._give_up(delivery, batches, answer.reason)
            return None
        return answer

    def _split(self, delivery: Delivery, batches: Sequence[Batch], answer: Answer) -> Answer | None:
        number = events_in(batches)
        if number == 1:
            self._refusals += 1
            if self._refusals >= (
                REFUSALS_IN_A_ROW_OF_A_FRIEND if self._accepted else REFUSALS_IN_A_ROW
            ):
                return Answer(Outcome.REST, answer.reason)
            self._give_up(delivery, batches, answer.reason)
            return None
        refusals = self._refusals
        parts = halves(batches)
        while parts:
            part = parts.pop(0)
            if self._arrays_refused and events_in(part) > 1:
                parts = halves(part) + parts
                continue
            unsettled = self._send(delivery, part)
            if unsettled is not None:
                return unsettled
        if number == 2 and refusals == self._refusals == 0:
            # Refused together, accepted one by one: this server does not know arrays.
            self._arrays_refused = True
        return None

    def _give_up(self, delivery: Delivery, batches: Sequence[Batch], reason: str) -> None:
        delivery.settle([], {reason: batches}, time.time())
        number = events_in(batches)
        self._count(f"given_up:{reason}", number)
        logger.debug("given up %d event(s): %s", number, reason)

    def _postpone(self, delivery: Delivery, rest: Rest, answer: Answer) -> float:
        """Book how long the destination is left alone, and return it in seconds."""
        now = time.time()
        failures = rest.failures + 1
        binding = answer.retry_after_s is not None
        pause_s = self._random.uniform(
            0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(failures - 1, 20))
        )
        if answer.outcome is Outcome.REST:
            binding, pause_s = True, REST_S
        elif answer.retry_after_s is not None:  # at least; "0" must not become a storm
            pause_s = max(pause_s, answer.retry_after_s)
        try:
            delivery.postpone(Rest(failures, now + pause_s, binding, answer.reason), now)
        except OutboxUnusable as error:
            logger.debug("outbox: %s", error)
        self._count("retried", 1)
        logger.debug("%s: next attempt in %.1f s", answer.reason, pause_s)
        return pause_s
