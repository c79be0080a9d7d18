"""HTTP on loopback for a local Jitsu endpoint: who may ask, how much, for how long, what answer.

Answers are those of Jitsu classic v1.44.8 for `POST /api/v1/s2s/event` (server/handlers/event.go,
server/middleware/token_auth.go); a method other than POST is a 405. Requests made for another host
(DNS rebinding) or by a foreign web page are refused; size and time are bounded; nothing is printed.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import os
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs

from usage_telemetry.listen_rules import Event, masked, parse_body, stored

__all__ = ["MAX_BODY_BYTES", "PATH", "LoopbackServer", "loopback_address"]

PATH = "/api/v1/s2s/event"
MAX_BODY_BYTES = 32 * 2**20  # read into memory at most; some 650 events of the largest size
MAX_DISCARD_BYTES = 256 * 2**10  # an unwanted body up to here is read, to keep the connection
LINGER_S = 1.0  # how long a refused client may go on sending, so that it can read the answer


class LoopbackServer(ThreadingHTTPServer):
    """Serves `PATH` on a loopback address, one daemon thread for each connection.

    Args:
        host: `localhost` or a loopback address.
        port: 0 lets the system choose.
        token: the only token that is accepted; None accepts any that is not empty.
        timeout_s: for one whole request, and for a connection's silence between two.
        store: takes each accepted event; may raise, then the answer is 500.
        refused: told the status of each refused request.

    Raises:
        ValueError: `host` is not loopback.
        OSError: the port cannot be had.
    """

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = os.name == "posix"  # elsewhere it would let two servers share a port

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str | None,
        timeout_s: float,
        store: Callable[[Event], None],
        refused: Callable[[int], None],
    ) -> None:
        self.host = loopback_address(host)
        if ":" in self.host:
            self.address_family = socket.AF_INET6
        self.token, self.timeout_s = token, timeout_s
        self.store, self.refused = store, refused
        self.closing = False
        self.failure: BaseException | None = None
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__((self.host, port), _Handler)

    def server_bind(self) -> None:
        """Binds without the look-up of this machine's name that HTTPServer makes."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps the first error for the owner; prints nothing. A lost connection is no error."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.failure = self.failure or error

    def close(self) -> None:
        """Stops listening, lets requests under way finish for a moment, ends all connections."""
        self.closing = True
        self.shutdown()
        self.server_close()
        with self._changed:
            for how, wait_s in ((socket.SHUT_RD, 2 * LINGER_S), (socket.SHUT_RDWR, LINGER_S)):
                for connection in self._open:
                    with contextlib.suppress(OSError):
                        connection.shutdown(how)
                self._changed.wait_for(lambda: not self._open, wait_s)


def loopback_address(host: str) -> str:
    """The address to bind.

    Raises:
        ValueError: `host` is not loopback.
    """
    address = "127.0.0.1" if host.lower() == "localhost" else host
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(address).is_loopback:
            return address
    raise ValueError(f"host {host!r} is not loopback: use 127.0.0.1, ::1 or localhost")


class _Refused(Exception):
    """The request gets `status`, and nothing of it is stored."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _DeadlineReader(io.RawIOBase):
    """Bytes of a socket until `deadline` (time.monotonic()), however slowly they drip."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    server: LoopbackServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # buffered: an answer leaves in one piece
    disable_nagle_algorithm = True
    _unread: int | None = None  # bytes of the body still to come; None: nobody knows

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._reader = _DeadlineReader(self.connection)
        self.rfile = io.BufferedReader(self._reader)

    def version_string(self) -> str:
        return "usage-telemetry-listen"

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the endpoint's owner shows what it wants to show."""

    def handle_one_request(self) -> None:
        self.close_connection = True  # stays so if nothing comes, or the client is gone
        self._unread = None
        with contextlib.suppress(OSError):
            self._wait_at_most(self.server.timeout_s)
            if cast(io.BufferedReader, self.rfile).peek(1) and not self.server.closing:
                self._wait_at_most(self.server.timeout_s)
                super().handle_one_request()

    def handle_expect_100(self) -> bool:
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server itself refuses; a version it does not know is a bad request too."""
        self._refuse(_Refused(code if code < 500 else 400, message or "bad request"))

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # http.server asks for do_GET, do_POST, do_WHATEVER
            return self._answer_request
        raise AttributeError(name)

    def _answer_request(self) -> None:
        query = parse_qs(self.path.partition("?")[2])
        try:
            length, token = self._check_head(query)
            events = self._read_events(length)
        except _Refused as refused:
            return self._refuse(refused)
        # As classic reads it: the first address of X-Forwarded-For, else the connection's.
        forwarded = self.headers.get("X-Forwarded-For", "").split(",")[0].strip()
        address = forwarded or str(self.client_address[0])
        if "strict" in query.get("ip_policy", ()):
            address = masked(address)
        now = datetime.now(timezone.utc)
        try:
            for event in events:
                self.server.store(stored(event, api_key=token, source_ip=address, now=now))
        except Exception as error:
            self.server.failure = self.server.failure or error
            return self._refuse(_Refused(500, f"could not be stored: {type(error).__name__}"))
        self._send(200, {"status": "ok"})

    def _check_head(self, query: dict[str, list[str]]) -> tuple[int, str]:
        """The body's length in bytes and the token, if the request's head is in order."""
        lengths = set(self.headers.get_all("Content-Length", []))
        chunked = "Transfer-Encoding" in self.headers
        readable = all(re.fullmatch("[0-9]{1,18}", length) for length in lengths)
        if not chunked and readable and len(lengths) < 2:
            self._unread = int(max(lengths, default="0"))
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not self._is_local(hosts[0]):
            raise _Refused(403, "only requests for this machine are answered: unknown Host")
        origin = self.headers.get("Origin")
        if origin is not None and not self._is_local(origin.partition("://")[2]):
            raise _Refused(403, "only pages of this machine are answered: unknown Origin")
        if self.path.partition("?")[0] != PATH:
            raise _Refused(404, f"there is nothing here but {PATH}")
        if self.command != "POST":
            raise _Refused(405, "only POST is understood here")
        # Classic looks into the query first, and repeats an unknown token in its answer.
        token = query.get("token", [""])[0] or self.headers.get("X-Auth-Token", "")
        if not token or token != (self.server.token or token):
            raise _Refused(401, f"The token is not found: {token}")
        if chunked or not lengths:
            raise _Refused(411, "send a Content-Length; chunked bodies are not read here")
        if self._unread is None:
            raise _Refused(400, "Content-Length is not one number")
        if self._unread > MAX_BODY_BYTES:
            raise _Refused(413, f"a body of {self._unread} bytes is over {MAX_BODY_BYTES}")
        return self._unread, token

    def _is_local(self, host: str) -> bool:
        name = re.sub(":[0-9]{1,5}$", "", host.strip().lower())
        return name in {"localhost", "127.0.0.1", "[::1]", self.server.host}

    def _read_events(self, length: int) -> list[Event]:
        self._unread = None
        try:
            body = self.rfile.read(length)
        except TimeoutError:
            raise _Refused(408, "the body did not arrive in time") from None
        if len(body) < length:
            raise _Refused(400, "the body is shorter than its Content-Length")
        self._unread = 0
        try:
            return parse_body(body)
        except ValueError as error:
            raise _Refused(400, f"Error parsing events body: {error}") from None

    def _refuse(self, refused: _Refused) -> None:
        self.server.refused(refused.status)
        discard = self._unread is not None and self._unread <= MAX_DISCARD_BYTES
        self._send(refused.status, {"message": str(refused), "error": ""}, close=not discard)
        if discard:
            self.rfile.read(self._unread)
            return
        # Closing with unread bytes would reset the connection, and the answer with it.
        self._wait_at_most(LINGER_S)
        self.connection.shutdown(socket.SHUT_WR)
        while self.rfile.read1(2**16):
            pass

    def _send(self, status: int, answer: dict[str, str], *, close: bool = False) -> None:
        content = json.dumps(answer, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        if status == 405:
            self.send_header("Allow", "POST")
        if close:
            self.send_header("Connection", "close")  # http.server then closes it
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def _wait_at_most(self, seconds: float) -> None:
        self._reader.deadline = time.monotonic() + seconds
