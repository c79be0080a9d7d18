"""JitsuSpanExporter: an OpenTelemetry SpanExporter over event, outbox and sender."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.exporter.jitsu import forks
from opentelemetry.exporter.jitsu.configuration import Configuration, default_state_dir
from opentelemetry.exporter.jitsu.event import (
    EventRefused,
    encode,
    encode_resource,
    span_fields,
)
from opentelemetry.exporter.jitsu.outbox import Destination, Event, Outbox
from opentelemetry.exporter.jitsu.sender import Sender
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

logger = logging.getLogger("usage_telemetry.exporter.jitsu")

SHUTDOWN_WAIT_S = 0.1
"""What leaving may cost; whatever has not arrived by then waits in the outbox."""


class JitsuSpanExporter(SpanExporter, forks.BeginsAnew):
    """Turns spans that carry a usage action into documented events and delivers them to Jitsu.

    `export` puts the events into an outbox on disk and returns; a thread of the exporter's own
    delivers them, retries, and leaves what it could not deliver to the next process. It never
    raises, never prints, and holds nobody's exit. Spans without ``usage.action`` are ignored.
    With ``DO_NOT_TRACK`` present, or with no endpoint or token known, it does nothing at all.

    Args:
        endpoint: URL of the server-to-server endpoint, such as
            ``https://host/api/v1/s2s/event``; default: ``OTEL_EXPORTER_JITSU_ENDPOINT``.
        token: Write key; default: ``OTEL_EXPORTER_JITSU_TOKEN``.
        timeout_s: Wall-clock limit of one request, seconds; default:
            ``OTEL_EXPORTER_JITSU_TIMEOUT``, else 10.
        state_dir: Folder for outboxes, one below it per tool; default: ``USAGE_TELEMETRY_HOME``,
            else the user's state folder.
        no_ip: Send ``source_ip: null``, so that not even the masked address is stored;
            ``OTEL_EXPORTER_JITSU_NO_IP=on`` does the same.
        utc_time: Add ``utc_time`` to events (see `event_from_span`).
        allowed: Asked before anything is stored or sent; False: it is not.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float | None = None,
        state_dir: Path | None = None,
        no_ip: bool = False,
        utc_time: bool = False,
        allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        try:
            configuration = Configuration.from_environment()
        except ValueError as error:  # a host's log is not the place to complain aloud
            logger.debug("exporter off: %s", error)
            configuration = Configuration(opted_out=True)
        endpoint = endpoint or configuration.endpoint
        token = token or configuration.token
        self._destination = Destination(endpoint, token) if endpoint and token else None
        if configuration.opted_out:
            self._destination = None
        self._timeout_s = timeout_s or configuration.timeout_s
        self._state_dir = state_dir or configuration.state_dir
        self._no_ip = no_ip or configuration.no_ip
        self._utc_time = utc_time
        self._allowed = allowed
        self._lock = threading.Lock()
        self._outboxes: dict[str, tuple[Outbox, Sender]] = {}
        self._counts: Counter[str] = Counter()
        self._stopped = False
        self._holding = False
        forks.register(self)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Put the events of `spans` into the outbox; no network here, and no exception out."""
        if self._stopped:
            return SpanExportResult.FAILURE
        try:
            self._export(spans)
        except Exception as error:  # whatever it is, it is not the host's concern
            logger.debug("export: %s: %s", type(error).__name__, error)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver now, waiting at most `timeout_millis`; True if nothing waits any more."""
        deadline = time.monotonic() + timeout_millis / 1000
        with self._lock:
            senders = [sender for _, sender in self._outboxes.values()]
        delivered = [sender.flush(max(0.0, deadline - time.monotonic())) for sender in senders]
        return all(delivered)

    def settle(self, timeout_s: float = SHUTDOWN_WAIT_S) -> None:
        """Give what is on its way `timeout_s` to arrive, and see what has not to disk."""
        deadline = time.monotonic() + timeout_s
        self.hold()
        with self._lock:
            pairs = list(self._outboxes.values())
        for outbox, _ in pairs:
            if outbox.in_memory():  # the disk comes first, it may take its time
                outbox.leave(time.time())
        for _, sender in pairs:
            sender.settle(max(0.0, deadline - time.monotonic()))

    def hold(self, holding: bool = True) -> None:
        """While `holding`, only keep what comes, and start no further request.

        For the end of a process: a request that begins then would be left without its answer.
        """
        self._holding = holding
        for _, sender in list(self._outboxes.values()):
            if holding:
                sender.hold()
            else:
                sender.wake()

    def is_booking(self) -> bool:
        """Whether an accepted batch is just being written down: a bad moment to die."""
        return any(sender.is_booking() for _, sender in list(self._outboxes.values()))

    def shutdown(self, timeout_s: float = SHUTDOWN_WAIT_S) -> None:
        """Stop; what has not arrived after `timeout_s` stays in the outbox for the next process."""
        self._stopped = True
        try:
            self.settle(timeout_s)
        except Exception as error:
            logger.debug("shutdown: %s: %s", type(error).__name__, error)
        with self._lock:
            for _, sender in self._outboxes.values():
                sender.stop()

    def stats(self) -> dict[str, int]:
        """Counters of this exporter since it was made: queued, sent, requests, retried, and
        ``given_up:<reason>``."""
        with self._lock:
            return dict(self._counts)

    def add_counts(self, counts: dict[str, int]) -> None:
        """Keep counters of the owner's beside the outbox, where they outlive the process."""
        for outbox, _ in list(self._outboxes.values()):
            outbox.add_counts(counts)

    def _export(self, spans: Sequence[ReadableSpan]) -> None:
        if self._destination is None or not self._allowed():
            return
        by_tool: dict[str, list[Event]] = {}
        refused: Counter[str] = Counter()
        resource: Resource | None = None
        for span in spans:
            try:
                fields = span_fields(span, no_ip=self._no_ip, utc_time=self._utc_time)
                if fields is None:
                    continue
                if span.resource is not resource:  # the same for all spans of a provider
                    further = encode_resource(span.resource.attributes)
                    resource = span.resource
                    events = by_tool.setdefault(str(resource.attributes.get("service.name")), [])
                body = encode(fields, further)
            except EventRefused as error:
                refused[error.reason] += 1
                logger.debug("given up %s: %s", span.name, error)
            except Exception as error:  # a time beyond the year 9999: one span, not its batch
                refused["not_an_event"] += 1
                logger.debug("given up %s: %s", span.name, type(error).__name__)
            else:
                events.append(Event(fields["eventn_ctx_event_id"], fields["_timestamp"], body))
        for tool, events in by_tool.items():
            if not events:
                continue
            outbox, sender = self._outbox(tool, self._destination)
            evicted = outbox.append(self._destination, events, time.time())
            self._count("queued", len(events))
            if evicted:
                self._count("given_up:over_cap", evicted)
            if not self._holding:
                sender.wake()
        for reason, number in refused.items():
            self._count(f"given_up:{reason}", number)

    def _outbox(self, tool: str, destination: Destination) -> tuple[Outbox, Sender]:
        with self._lock:
            if tool not in self._outboxes:
                root = self._state_dir or default_state_dir()
                outbox = Outbox(root / folder_name(tool) / "outbox.db")
                sender = Sender(outbox, destination, self._timeout_s, self._allowed, self._count)
                self._outboxes[tool] = (outbox, sender)
            return self._outboxes[tool]

    def _count(self, name: str, number: int) -> None:
        with self._lock:
            self._counts[name] += number

    # -- forks ----------------------------------------------------------------------------------

    def begin_anew(self) -> None:
        """In a forked child: the parent's threads and connections are the parent's."""
        self._lock = threading.Lock()
        self._outboxes = {}
        self._counts = Counter()

    def end_idle_threads(self, timeout_s: float) -> None:
        """Before a fork, see `forks.BeginsAnew`."""
        for _, sender in list(self._outboxes.values()):
            sender.end_if_idle(timeout_s)

    def resume(self) -> None:
        """After a fork, in the parent."""
        for _, sender in list(self._outboxes.values()):
            sender.resume()


def folder_name(tool: str) -> str:
    """A tool's name as the name of a folder: letters, digits, dot, dash and underscore."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", tool).lstrip(".")[:100] or "unnamed"
