"""A Jitsu endpoint on loopback that misbehaves for real: it hangs, drips, resets and refuses.

    with Endpoint(hang_before_headers) as endpoint:
        ...                              # something sends to endpoint.url
        endpoint.behave = healthy        # now it is well again
        assert endpoint.accepted == [...]

It notes each `eventn_ctx_event_id` that it answers with 2xx, as often as it does.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

PATH = "/api/v1/s2s/event"
OK = b'{"status":"ok"}'


@dataclass
class Request:
    """One request as it came over the wire; header names in lower case."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int
    at: float = field(default_factory=time.monotonic)

    def header(self, name: str) -> str | None:
        """The value of the first header of that name."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def is_array(self) -> bool:
        """The body is a JSON array."""
        return self.body.lstrip().startswith(b"[")

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events in the body."""
        found = json.loads(self.body)
        return found if isinstance(found, list) else [found]

    @property
    def ids(self) -> list[str]:
        """The ids of the events in the body."""
        return [str(event["eventn_ctx_event_id"]) for event in self.events]


class Connection:
    """One connection, as a behaviour sees it."""

    def __init__(self, endpoint: Endpoint, sock: socket.socket, number: int) -> None:
        self.endpoint = endpoint
        self.socket = sock
        self.number = number
        self._buffer = b""

    def read_request(self) -> Request | None:
        """The next request; None: the client has closed the connection."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._receive():
                return None
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = [
            (name.strip().lower(), value.strip())
            for name, _, value in (line.partition(":") for line in lines)
        ]
        request = Request(method, target, headers, b"", self.number)
        length = int(request.header("content-length") or 0)
        while len(self._buffer) < length:
            if not self._receive():
                return None
        request.body, self._buffer = self._buffer[:length], self._buffer[length:]
        self.endpoint.requests.append(request)
        return request

    def answer(
        self,
        request: Request,
        status: int = 200,
        body: bytes = OK,
        headers: tuple[str, ...] = (),
        *,
        length: int | None = None,
    ) -> None:
        """Send an answer; the ids are noted if it says 2xx.

        Args:
            request: What is answered.
            status: HTTP status.
            body: What of the body is sent.
            headers: Additional header lines.
            length: The announced length, if it is another than that of `body`.
        """
        if 200 <= status < 300:  # before it is sent: the client may be faster than this thread
            self.endpoint.accepted.extend(self.endpoint.ids_of(request))
        lines = [
            f"HTTP/1.1 {status} Whatever",
            "Content-Type: application/json",
            f"Content-Length: {len(body) if length is None else length}",
            *headers,
        ]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def drip(self, data: bytes, interval_s: float) -> None:
        """Send byte after byte."""
        for index in range(len(data)):
            if self.endpoint.closing.wait(interval_s):
                return
            self.socket.sendall(data[index : index + 1])

    def hang(self) -> None:
        """Do nothing until the endpoint is closed or changed."""
        behave = self.endpoint.behave
        while self.endpoint.behave is behave and not self.endpoint.closing.wait(0.02):
            continue

    def reset(self) -> None:
        """End the connection by RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _receive(self) -> bool:
        data = self.socket.recv(65536)
        self._buffer += data
        return bool(data)


Behaviour = Callable[[Connection], None]


class Endpoint:
    """A server on a free port of 127.0.0.1, on threads of its own.

    Args:
        behave: What is done with each connection; may be replaced at any time.
        port: A given port, such as that of an endpoint that was refused before.
        tls: For https.
        ids_of: How to read the ids of a request that holds no Jitsu events.
    """

    def __init__(
        self,
        behave: Behaviour | None = None,
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        ids_of: Callable[[Request], list[str]] | None = None,
    ) -> None:
        self._behave: Behaviour = behave or healthy
        self.ids_of = ids_of or globals()["ids_of"]
        self.requests: list[Request] = []
        self.accepted: list[str] = []
        self.connections = 0
        self.closing = threading.Event()
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._thread: threading.Thread | None = None
        self._listen()

    @property
    def behave(self) -> Behaviour:
        """What is done with each connection; what hangs in the former way is let go."""
        return self._behave

    @behave.setter
    def behave(self, behave: Behaviour) -> None:
        self._behave = behave
        self._listen()

    def _listen(self) -> None:
        if self._thread is None and self._behave is not refuses_connections:
            self._listener.listen(512)
            self._thread = threading.Thread(target=self._accept, daemon=True)
            self._thread.start()

    @property
    def url(self) -> str:
        """What a client is configured with."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}{PATH}"

    @property
    def twice(self) -> list[str]:
        """Ids that were answered with 2xx more than once."""
        return [one for one, number in Counter(self.accepted).items() if number > 1]

    def wait_for(self, count: int, timeout_s: float = 10.0) -> bool:
        """Wait until `count` different events were accepted."""
        return self.wait_until(lambda: len(set(self.accepted)) >= count, timeout_s)

    def wait_until(self, happened: Callable[[], bool], timeout_s: float = 10.0) -> bool:
        """Wait until something has happened."""
        deadline = time.monotonic() + timeout_s
        while not happened():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def close(self) -> None:
        """Stop listening and drop all connections."""
        self.closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with suppress(OSError):
                sock.close()
        if self._thread is not None:
            self._thread.join(5)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            self._open.add(sock)
            self.behave(Connection(self, sock, number))
        except (OSError, ValueError):  # the client went away, or we did
            pass
        finally:
            self._open.discard(sock)
            with suppress(OSError):
                sock.close()


def ids_of(request: Request) -> list[str]:
    """The ids of the Jitsu events in a request."""
    return request.ids


# -- what an endpoint may do -----------------------------------------------------------------------


def each(react: Callable[[Connection, Request], None]) -> Behaviour:
    """A behaviour that reads request after request, as long as it stays the endpoint's."""

    def behave(connection: Connection) -> None:
        while (request := connection.read_request()) is not None:
            if connection.endpoint.behave is not behave:  # changed meanwhile, on the same socket
                connection.reset()
                return
            react(connection, request)

    return behave


@each
def healthy(connection: Connection, request: Request) -> None:
    """Accepts everything."""
    connection.answer(request)


def refuses_connections(connection: Connection) -> None:
    """The port is taken, and nobody listens, until the endpoint behaves in another way."""
    connection.reset()


@each
def hang_before_headers(connection: Connection, request: Request) -> None:
    """Reads, and never answers."""
    connection.hang()


@each
def hang_in_body(connection: Connection, request: Request) -> None:
    """Accepts, and never ends its answer."""
    connection.answer(request, body=OK[:5], length=len(OK))
    connection.hang()


def never_reads(connection: Connection) -> None:
    """Accepts the connection and nothing else; the kernel's buffers fill up."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    connection.hang()


def drip_headers(interval_s: float = 1.0) -> Behaviour:
    """Answers with a byte a second, from the first one on."""

    @each
    def behave(connection: Connection, request: Request) -> None:
        connection.drip(b"HTTP/1.1 503 Slow\r\nContent-Length: 0\r\n\r\n", interval_s)

    return behave


def drip_body(interval_s: float = 1.0) -> Behaviour:
    """Accepts at once, with a body of a byte a second."""

    @each
    def behave(connection: Connection, request: Request) -> None:
        connection.answer(request, body=b"", length=600)
        connection.drip(b"x" * 600, interval_s)

    return behave


def reset_mid_request(connection: Connection) -> None:
    """Resets when the first bytes of a request have come."""
    connection.socket.recv(64)
    connection.reset()


@each
def reset_before_answer(connection: Connection, request: Request) -> None:
    """Takes the events and resets: the answer is lost."""
    connection.reset()


@each
def reset_mid_answer(connection: Connection, request: Request) -> None:
    """Accepts, and resets within its answer's body."""
    connection.answer(request, body=OK[:5], length=len(OK))
    connection.reset()


def status(code: int, *headers: str, body: bytes = b"no") -> Behaviour:
    """Answers with one status."""

    @each
    def behave(connection: Connection, request: Request) -> None:
        connection.answer(request, code, body, headers)

    return behave


def first(count: int, then: int, *headers: str) -> Behaviour:
    """Answers `count` requests with the status `then`, and accepts from there on."""
    seen = [0]

    @each
    def behave(connection: Connection, request: Request) -> None:
        seen[0] += 1
        if seen[0] <= count:
            connection.answer(request, then, b"not now", headers)
        else:
            connection.answer(request)

    return behave


def refuse_if(is_bad: Callable[[Request], bool], code: int = 400) -> Behaviour:
    """Refuses a request as a whole, and stores nothing of it."""

    @each
    def behave(connection: Connection, request: Request) -> None:
        if is_bad(request):
            connection.answer(request, code, b'{"error":"bad"}')
        else:
            connection.answer(request)

    return behave


def has_action(name: str) -> Callable[[Request], bool]:
    """Whether one of the events is of an action."""
    return lambda request: any(event["action"] == name for event in request.events)


refuses_arrays = refuse_if(lambda request: request.is_array)


def larger_than(max_bytes: int) -> Behaviour:
    """413 for a body over `max_bytes`."""
    return refuse_if(lambda request: len(request.body) > max_bytes, 413)


def redirect(location: str, code: int = 307) -> Behaviour:
    """Points elsewhere."""
    return status(code, f"Location: {location}")


@each
def chunked(connection: Connection, request: Request) -> None:
    """Accepts, with an answer of no announced length, as proxies send it."""
    connection.endpoint.accepted.extend(request.ids)
    connection.socket.sendall(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n" + OK + b"\r\n0\r\n\r\n"
    )
