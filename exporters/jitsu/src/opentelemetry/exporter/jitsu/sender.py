"""The thread that delivers an outbox to one destination: when to try, what to do with answers."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, set_value
from opentelemetry.exporter.jitsu.client import Answer, JitsuClient, Outcome
from opentelemetry.exporter.jitsu.lock import LockBusy
from opentelemetry.exporter.jitsu.outbox import (
    Delivery,
    Destination,
    Outbox,
    OutboxUnusable,
    Rest,
    Waiting,
)
from opentelemetry.exporter.jitsu.quiet import silencer

logger = logging.getLogger("usage_telemetry.exporter.jitsu")

MAX_BATCH_EVENTS = 512
MAX_BATCH_BYTES = 512 * 1024
"""Half of the 1 MB at which common proxies refuse a request; the servers themselves take more."""

BACKOFF_BASE_S = 1.0
BACKOFF_CAP_S = 600.0
"""An endpoint that is back gets its events ten minutes later at the most."""
REST_S = 24 * 3600.0
"""A wrong token or path is mended by a new release of the tool, not within the hour."""
LOCK_POLL_S = 1.0
"""How soon to look again while another process delivers this outbox: it takes ours along."""
REFUSALS_IN_A_ROW = 8
"""So many single events refused and none accepted: the destination refuses us, not the events.
(Jitsu 2 answers 400 to an unknown token.)"""


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
        self._client = JitsuClient(destination.endpoint, destination.token, timeout_s)
        # Of our own and from the system's entropy: the host's `random` is left alone.
        self._random = random.SystemRandom()
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        # Rounds of delivery: asked for, finished, and up to which one back-off does not count.
        self._asked = 0
        self._finished = 0
        self._urgent = 0
        self._pausing = False
        self._stopping = False
        self._arrays_refused = False
        self._refusals = 0

    # -- called by the exporter ---------------------------------------------------------------

    def wake(self) -> None:
        """Something is in the outbox; returns at once."""
        with self._condition:
            self._asked += 1
            self._ensure_thread()
            self._condition.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Deliver now, whatever back-off says; wait for it at most `timeout_s`.

        Returns:
            True if nothing waits for this destination any more.
        """
        with self._condition:
            self._asked += 1
            mine = self._urgent = self._asked
            if not self._ensure_thread():
                return False
            self._condition.notify_all()
            if not self._condition.wait_for(lambda: self._finished >= mine, timeout_s):
                return False
        return self._outbox.waiting(self._destination) == 0

    def settle(self, timeout_s: float) -> None:
        """Give what is on its way `timeout_s` to arrive."""
        with self._condition:
            if self._thread is not None:
                self._condition.wait_for(
                    lambda: self._pausing or self._finished >= self._asked, timeout_s
                )

    def stop(self) -> None:
        """Send nothing more; a request under way is left to itself."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def _ensure_thread(self) -> bool:
        if self._stopping:
            return False
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="usage-telemetry-sender", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the interpreter is ending, or no thread can be had
                logger.debug("no sender thread: %s", error)
                return False
            self._thread = thread
        return True

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        # The host's instrumentation of HTTP clients skips our requests.
        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        pause_s: float | None = None
        try:
            while self._wait_for_work(pause_s):
                with self._condition:
                    this_round, urgent = self._asked, self._urgent > self._finished
                try:
                    pause_s = self._deliver_all(urgent)
                except Exception as error:  # a thread that dies would strand what is recorded
                    logger.debug("sender: %s: %s", type(error).__name__, error)
                    pause_s = BACKOFF_CAP_S
                with self._condition:
                    self._finished = this_round
                    self._condition.notify_all()
        finally:
            self._client.close()
            silencer.release_this_thread()

    def _wait_for_work(self, pause_s: float | None) -> bool:
        """Sleep until there is something to do; False: the exporter is leaving.

        Args:
            pause_s: Seconds of back-off, during which new events only gather; None: no back-off.
        """
        with self._condition:
            if pause_s is None:
                self._condition.wait_for(lambda: self._stopping or self._asked > self._finished)
            else:
                self._pausing = True
                self._condition.notify_all()
                self._condition.wait_for(
                    lambda: self._stopping or self._urgent > self._finished, pause_s
                )
                self._pausing = False
            return not self._stopping

    def _deliver_all(self, urgent: bool) -> float | None:
        """Send batch after batch; returns the seconds to pause, None if nothing is left."""
        while not self._stopping:
            if not self._allowed():
                return None
            try:
                self._outbox.spill(time.time())
                with self._outbox.delivering(self._destination) as delivery:
                    pause_s, more = self._deliver_batch(delivery, urgent)
            except LockBusy:
                return LOCK_POLL_S if self._outbox.waiting(self._destination) else None
            except OSError as error:  # the outbox cannot be read just now
                logger.debug("outbox: %s", error)
                return BACKOFF_CAP_S
            if pause_s is not None or not more:
                return pause_s
        return None

    def _deliver_batch(self, delivery: Delivery, urgent: bool) -> tuple[float | None, bool]:
        now = time.time()
        rest = delivery.rest(now)
        if rest.until > now and not (urgent and not rest.binding):
            return min(rest.until - now, REST_S), False
        batch = delivery.take(1 if self._arrays_refused else MAX_BATCH_EVENTS, MAX_BATCH_BYTES)
        if not batch:
            return None, False
        answer = self._send(delivery, batch)
        if answer is None:
            return None, True
        return self._postpone(delivery, rest, answer), False

    def _send(self, delivery: Delivery, batch: Sequence[Waiting]) -> Answer | None:
        """Send a batch, in parts where the endpoint refuses it whole.

        Returns:
            None if the fate of every event is settled, else the answer that says when to retry.
        """
        answer = self._client.post([event.body for event in batch])
        self._count("requests", 1)
        now = time.time()
        if answer.outcome is Outcome.SENT:
            self._refusals = 0
            delivery.settle(batch, {}, now)
            self._count("sent", len(batch))
            return None
        if answer.outcome is Outcome.SPLIT:
            return self._split(delivery, batch, answer)
        if answer.outcome is Outcome.GIVE_UP:
            self._give_up(delivery, batch, answer.reason)
            return None
        return answer

    def _split(self, delivery: Delivery, batch: Sequence[Waiting], answer: Answer) -> Answer | None:
        if len(batch) == 1:
            self._refusals += 1
            if self._refusals >= REFUSALS_IN_A_ROW:
                return Answer(Outcome.REST, answer.reason)
            self._give_up(delivery, batch, answer.reason)
            return None
        refusals = self._refusals
        middle = len(batch) // 2
        for part in (batch[:middle], batch[middle:]):
            unsettled = self._send(delivery, part)
            if unsettled is not None:
                return unsettled
        if len(batch) == 2 and refusals == self._refusals == 0:
            # Refused together, accepted one by one: this server does not know arrays.
            self._arrays_refused = True
        return None

    def _give_up(self, delivery: Delivery, batch: Sequence[Waiting], reason: str) -> None:
        delivery.settle([], {reason: list(batch)}, time.time())
        self._count(f"given_up:{reason}", len(batch))
        logger.debug("given up %d event(s): %s", len(batch), reason)

    def _postpone(self, delivery: Delivery, rest: Rest, answer: Answer) -> float:
        """Book how long the destination is left alone, and return it in seconds."""
        now = time.time()
        failures = rest.failures + 1
        binding = True
        if answer.outcome is Outcome.REST:
            pause_s = REST_S
        elif answer.retry_after_s is not None:
            pause_s = answer.retry_after_s
        else:
            binding = False
            pause_s = self._random.uniform(
                0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(failures - 1, 20))
            )
        try:
            delivery.postpone(Rest(failures, now + pause_s, binding, answer.reason), now)
        except OutboxUnusable as error:
            logger.debug("outbox: %s", error)
        self._count("retried", 1)
        logger.debug("%s: next attempt in %.1f s", answer.reason, pause_s)
        return pause_s
