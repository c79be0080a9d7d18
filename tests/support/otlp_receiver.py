"""What OTLP receivers on loopback have in common: what they collect, and how they misbehave.

A receiver can also misbehave the ways a collector does (see :class:`Fault`), for tests of exits
and retries.
"""

from __future__ import annotations

import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from types import TracebackType

from otlp_messages import ReceivedSpan
from raw_listener import RawListener
from tls_files import Tls
from typing_extensions import Self

HOST = "127.0.0.1"
DRIP_INTERVAL_S = 0.2  # under any read timeout in use, so that only a wall-clock deadline ends it


class Fault(Enum):
    """How a receiver misbehaves; what a client sees is the same for both protocols."""

    REFUSE = "refuse"  # nobody listens: connections are refused, and the port stays reserved
    HANG = "hang"  # the connection is accepted, nothing is ever read or written
    STALL = "stall"  # the request is read and collected, and never answered
    DRIP = "drip"  # an answer is begun and goes on for ever, byte by byte
    UNAVAILABLE = "503"  # HTTP status 503, gRPC status UNAVAILABLE


@dataclass(frozen=True)
class ReceivedRequest:
    """One call or POST that carried spans."""

    headers: dict[str, str]  # header or metadata names in lower case
    path: str
    spans: list[ReceivedSpan]
    wire_bytes: int | None  # the body as it came, still compressed; None over gRPC


class OtlpReceiver(ABC):
    """A receiver that listens from construction until `close()`, or the end of a `with` block.

    Args:
        fault: how to misbehave; None answers every request with success.
        tls: serve TLS with these files; None is plain text.
        require_client_certificate: only with `tls`: refuse clients whose certificate the authority
            in `tls` has not signed.
        port: 0 takes a free one; a number lets a receiver come back where another one was.
    """

    protocol: str  # the value of OTEL_EXPORTER_OTLP_PROTOCOL that chooses this receiver

    def __init__(
        self,
        *,
        fault: Fault | None = None,
        tls: Tls | None = None,
        require_client_certificate: bool = False,
        port: int = 0,
    ) -> None:
        self.fault = fault
        self.tls = tls
        self.require_client_certificate = require_client_certificate
        self._arrived = threading.Condition()
        self._requests: list[ReceivedRequest] = []
        self._attempts = 0
        self._closing = threading.Event()
        self._raw: RawListener | None = None
        if fault is Fault.REFUSE:
            self._raw = RawListener(port, serve=None)
        elif fault is Fault.HANG:
            self._raw = RawListener(port, serve=self._hang)
        elif fault is Fault.DRIP:
            self._raw = RawListener(port, serve=self._drip)
        self.port = self._raw.port if self._raw else self._start(port)

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT: scheme, address and port."""
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"

    @property
    def traces_endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: over HTTP, this one has the path as well."""
        return self.endpoint

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The requests so far, oldest first."""
        with self._arrived:
            return list(self._requests)

    @property
    def spans(self) -> list[ReceivedSpan]:
        """The spans of all requests so far."""
        return [span for request in self.requests for span in request.spans]

    @property
    def headers(self) -> list[dict[str, str]]:
        """The headers (metadata over gRPC) of each request so far, names in lower case."""
        return [request.headers for request in self.requests]

    @property
    def attempts(self) -> int:
        """How often a client tried, the unanswered and the 503 included; a refused port sees none.

        Calls or POSTs; connections where the fault is HANG or DRIP.
        """
        with self._arrived:
            return self._raw.connections if self._raw else self._attempts

    def wait_for(self, count: int, timeout: float = 5.0) -> list[ReceivedSpan]:
        """Wait until `count` spans have arrived and return them all.

        Raises:
            AssertionError: fewer arrived within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._arrived:
            while (seen := sum(len(request.spans) for request in self._requests)) < count:
                if not self._arrived.wait(deadline - time.monotonic()):
                    names = [span.name for request in self._requests for span in request.spans]
                    raise AssertionError(f"{seen} of {count} spans came in {timeout} s: {names}")
        return self.spans

    def clear(self) -> None:
        """Forget what has arrived."""
        with self._arrived:
            self._requests.clear()

    def close(self) -> None:
        """Stop listening, cut open connections; what was collected stays readable."""
        if not self._closing.is_set():
            self._closing.set()
            if self._raw:
                self._raw.close()
            else:
                self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _count_attempt(self) -> None:
        with self._arrived:
            self._attempts += 1

    def _collect(self, request: ReceivedRequest) -> None:
        with self._arrived:
            self._requests.append(request)
            self._arrived.notify_all()

    def _hang(self, connection: socket.socket) -> None:
        self._closing.wait()

    def _drip(self, connection: socket.socket) -> None:
        for chunk in self._endless_answer():
            connection.sendall(chunk)
            if self._closing.wait(DRIP_INTERVAL_S):
                return

    @abstractmethod
    def _start(self, port: int) -> int:
        """Listen on `port` (0: any) and return the port."""

    @abstractmethod
    def _stop(self) -> None: ...

    @abstractmethod
    def _endless_answer(self) -> Iterable[bytes]:
        """The bytes of an answer that never ends."""
