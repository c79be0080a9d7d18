"""One POST of many events, and what its answer means: sent, retry, split, give up, rest."""

from __future__ import annotations

import enum
import logging
import socket
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from urllib.request import getproxies

from opentelemetry.exporter.jitsu import __version__, forks
from opentelemetry.exporter.jitsu.quiet import silencer
from opentelemetry.exporter.jitsu.watchdog import Watchdog

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger("usage_telemetry.exporter.jitsu")

USER_AGENT = f"opentelemetry-exporter-jitsu/{__version__}"
"""Constant for all users of a version: Jitsu 2 keeps request headers beside the event."""

MAX_RETRY_AFTER_S = 3600.0
"""A server may ask for an hour of silence; a longer wish is a mistake more often than not."""

MAX_REDIRECTS = 3

BODY_TIMEOUT_S = 1.0
"""The servers' answers have some 20 bytes, which come with the headers."""
MAX_BODY_BYTES = 16 * 1024


class Outcome(enum.Enum):
    """What to do with the events of one request."""

    SENT = "sent"
    RETRY = "retry"
    SPLIT = "split"
    GIVE_UP = "give up"
    REST = "rest"


@dataclass(frozen=True)
class Answer:
    """How one request ended.

    Attributes:
        outcome: What to do with the events.
        reason: A short name for counters and the DEBUG log, such as ``status_503``.
        retry_after_s: What the server asked for, seconds, at most an hour.
    """

    outcome: Outcome
    reason: str
    retry_after_s: float | None = None


def classify(status: int, headers: Mapping[str, str], now: float) -> Answer:
    """What an HTTP status means for a batch.

    Args:
        status: HTTP status code.
        headers: Response headers, names in lower case.
        now: Seconds since the epoch, for a ``Retry-After`` that is a date.
    """
    reason = f"status_{status}"
    if 200 <= status < 300:
        return Answer(Outcome.SENT, reason)
    if status in (400, 413):
        return Answer(Outcome.SPLIT, reason)
    if status == 402:  # Jitsu 2 throttles events picked at random; a repeat changes nothing
        return Answer(Outcome.GIVE_UP, reason)
    if status in (408, 425, 429) or status >= 500:
        return Answer(Outcome.RETRY, reason, parse_retry_after(headers.get("retry-after"), now))
    if status == 407:  # the proxy's word, not the destination's
        return Answer(Outcome.RETRY, reason)
    if 400 <= status < 500:  # 401, 403, 404 and their kin: the destination is wrong, not the event
        return Answer(Outcome.REST, reason)
    return Answer(Outcome.RETRY, reason)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait from a ``Retry-After`` header (RFC 9110, 10.2.3: seconds or a date)."""
    if value is None:
        return None
    try:
        seconds = float(value) if value.strip().isdigit() else _seconds_until(value, now)
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _seconds_until(http_date: str, now: float) -> float:
    moment = parsedate_to_datetime(http_date)
    if moment.tzinfo is None:  # how the parser tells "-0000": UTC, of an unknown zone
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp() - now


def request_url(endpoint: str) -> str:
    """The endpoint with ``ip_policy=strict``, and without a token somebody left in its query.

    Under this policy the server masks the sender's address before it stores it.
    """
    parts = urlsplit(endpoint)
    query = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name not in ("ip_policy", "token", "cookie_policy")
    ]
    query.append(("ip_policy", "strict"))
    return urlunsplit(parts._replace(query=urlencode(query), fragment=""))


def encode_batch(bodies: Sequence[bytes]) -> bytes:
    """A JSON array of events; a lone event is an object, which every server version takes.

    Args:
        bodies: Events as JSON, a line each.
    """
    lines = b"\n".join(bodies)
    return b"[" + lines.replace(b"\n", b",") + b"]" if b"\n" in lines else lines


class JitsuClient:
    """One kept-alive connection to one endpoint, for one thread.

    Args:
        endpoint: URL of the server-to-server endpoint, http or https.
        token: Write key for the header ``X-Auth-Token``.
        timeout_s: Wall-clock limit of a whole request, seconds.
    """

    def __init__(self, endpoint: str, token: str, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._token = token
        self._timeout_s = timeout_s
        self._http: httpx.Client | None = None
        self._unread: httpx.Response | None = None
        self._socket: socket.socket | None = None
        self._watchdog = Watchdog(self._shut_socket)

    def post(self, bodies: Sequence[bytes]) -> Answer:
        """Send events in one request and say what to do with them; never raises, never prints.

        Args:
            bodies: Events as JSON, a line each.

        Returns as soon as the status is known; call `finish` when the answer has been booked.
        """
        self.finish()
        try:
            with silencer.silent(), self._watchdog.limit(self._timeout_s):
                return self._send(self._open(), encode_batch(bodies))
        except Exception as error:  # every failure to deliver means: try again later
            passed = self._watchdog.passed
            self.close()
            reason = "timeout" if passed else type(error).__name__
            logger.debug("delivery failed: %s", reason)
            return Answer(Outcome.RETRY, reason)

    def finish(self) -> None:
        """Read what is left of the last answer, so that the connection can serve the next batch.

        Nobody looks at it: a body that is long, slow or broken costs the connection, not the
        events that the status has accepted.
        """
        response, self._unread = self._unread, None
        if response is None:
            return
        try:
            with silencer.silent(), self._watchdog.limit(BODY_TIMEOUT_S):
                _read_to_the_end(response)
        except Exception as error:
            logger.debug("answer's body: %s", type(error).__name__)
            self.close()

    def close(self) -> None:
        """Drop the connection; the next `post` opens a new one."""
        http, self._http = self._http, None
        self._unread = None
        self._shut_socket()
        self._watchdog.close()
        if http is not None:
            try:
                with silencer.silent():
                    http.close()
            except Exception as error:
                logger.debug("close: %s", type(error).__name__)

    def _send(self, http: httpx.Client, content: bytes) -> Answer:
        request = http.build_request(
            "POST",
            request_url(self._endpoint),
            content=content,
            headers={"Content-Type": "application/json", "X-Auth-Token": self._token},
            extensions={"trace": self._note_socket},
        )
        for _ in range(MAX_REDIRECTS + 1):
            # An auth that adds nothing: no user and password from a URL or a ~/.netrc, which
            # Jitsu 2 would take for its own.
            response = http.send(request, auth=_no_auth, follow_redirects=False, stream=True)
            target = response.next_request
            if target is None or not _is_same_server(request, target):
                self._unread = response
                return classify(response.status_code, response.headers, time.time())
            _read_to_the_end(response)
            request = target
        return Answer(Outcome.RETRY, "redirects")

    def _open(self) -> httpx.Client:
        if self._http is None:
            # The section holds what httpx would import with its first request as well.
            with forks.whole():
                import encodings.idna  # noqa: F401 - the resolver's codec
                import http.cookiejar

                _import_httpx()
                import httpcore  # noqa: F401 - httpx loads it late; its loggers must exist now
                import httpx

                silencer.watch(("httpx", "httpcore"))
                self._http = httpx.Client(
                    headers=_CONSTANT_HEADERS,
                    timeout=self._timeout_s,
                    limits=httpx.Limits(max_connections=1, keepalive_expiry=60.0),
                    verify=_tls_context(self._endpoint),
                )
                # A cookie would mark this user's requests.
                no_cookies = http.cookiejar.DefaultCookiePolicy(allowed_domains=())
                self._http.cookies.jar.set_policy(no_cookies)
        return self._http

    def _note_socket(self, event: str, info: dict[str, Any]) -> None:
        """httpcore's trace hook: remember the socket, so that the deadline can shut it."""
        if event.endswith(".connect_tcp.complete"):
            sock = info["return_value"].get_extra_info("socket")
            self._shut_socket()
            self._socket = sock.dup() if sock is not None else None

    def _shut_socket(self) -> None:
        """Wake whoever waits on the connection, whatever it waits for."""
        sock, self._socket = self._socket, None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                logger.debug("connection was closed already: %s", type(error).__name__)
            sock.close()


_CONSTANT_HEADERS = {
    "User-Agent": USER_AGENT,
    "Accept": "*/*",
    # httpx would list what compression libraries the host has installed.
    "Accept-Encoding": "identity",
}


def _import_httpx() -> None:
    """Import httpx without its command line.

    Where click, rich and pygments are installed, httpx imports all three for a program of the
    name `httpx`: 6 MB, and as many milliseconds again as the rest of it.
    """
    if "httpx" in sys.modules or "httpx._main" in sys.modules:
        return
    sys.modules["httpx._main"] = None  # type: ignore[assignment]  # how Python says: not there
    try:
        import httpx  # noqa: F401
    finally:
        sys.modules.pop("httpx._main", None)


def _read_to_the_end(response: httpx.Response) -> None:
    """Read a body that nobody needs; past `MAX_BODY_BYTES` the connection is given up instead."""
    size = 0
    try:
        for chunk in response.iter_raw():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                break
    finally:
        response.close()


def _no_auth(request: httpx.Request) -> httpx.Request:
    return request


def _is_same_server(request: httpx.Request, target: httpx.Request) -> bool:
    """A redirect that keeps the method and stays on the server that may know the token."""
    same = request.url.copy_with(path="/", query=None) == target.url.copy_with(path="/", query=None)
    return same and target.method == "POST"


def _tls_context(endpoint: str) -> ssl.SSLContext | bool:
    """Loading the certificate store costs 20 ms, which plain http need not pay."""
    plain = endpoint.lower().startswith("http:") and not any(
        proxy.lower().startswith("https:") for proxy in getproxies().values()
    )
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True
