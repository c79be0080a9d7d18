"""A requests session whose timeout is one of wall-clock time."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class BoundedSession(requests.Session):
    """Ends an exchange `timeout` seconds after it began, whatever the server does.

    requests' own timeout is per read: a server that drips bytes would hold the exporter for ever.
    Besides, the certificate that ``OTEL_EXPORTER_OTLP_CERTIFICATE`` names wins over
    REQUESTS_CA_BUNDLE, and no Authorization is taken from the user's ~/.netrc.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self.auth = _no_netrc
        adapter = _Adapter(self)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """One exchange, as in requests; `timeout` in seconds of wall-clock time."""
        timeout_s = kwargs.get("timeout")
        if timeout_s is None:
            return super().request(*args, **kwargs)
        timer = threading.Timer(timeout_s, self._cut)
        timer.daemon = True
        timer.start()
        try:
            return super().request(*args, **kwargs)
        finally:
            timer.cancel()

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> Any:
        """As in requests, but for the certificate."""
        if verify is None and isinstance(self.verify, str):
            verify = self.verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def track(self, opened: socket.socket) -> None:
        """Have this socket cut when the time is over."""
        with self._lock:
            self._sockets = {known for known in self._sockets if known.fileno() >= 0} | {opened}

    def _cut(self) -> None:
        with self._lock:
            sockets = list(self._sockets)
        for opened in sockets:
            with suppress(OSError):  # SSLSocket.shutdown would drop the TLS state under its reader
                socket.socket.shutdown(opened, socket.SHUT_RDWR)


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Adapter(HTTPAdapter):
    def __init__(self, session: BoundedSession) -> None:
        self._track = session.track
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        track = self._track

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                track(self.sock)

        class Secure(HTTPSConnection):
            # ssl takes the socket over and detaches it: a duplicate can still be cut during the
            # handshake. It is closed after it, for it would keep a closed connection open.
            _handshake: socket.socket | None = None

            def _new_conn(self) -> socket.socket:
                raw = super()._new_conn()
                self._handshake = raw.dup()
                track(self._handshake)
                return raw

            def connect(self) -> None:
                try:
                    super().connect()
                finally:
                    if self._handshake is not None:
                        self._handshake.close()
                track(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
