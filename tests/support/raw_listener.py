"""A TCP port that misbehaves below any protocol: it refuses, hangs or drips."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

HOST = "127.0.0.1"


class RawListener:
    """A TCP port below any protocol; with `serve=None` it is reserved and refuses connections."""

    def __init__(self, port: int, serve: Callable[[socket.socket], None] | None) -> None:
        self.connections = 0
        self._serve = serve
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._closed = False
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((HOST, port))
        self.port: int = self._listener.getsockname()[1]
        if serve is not None:
            self._listener.listen(16)
            threading.Thread(target=self._accept, name="raw-listener", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self.connections += 1
                self._open.append(connection)
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        assert self._serve is not None
        with suppress(OSError):  # the client went away
            self._serve(connection)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connections = [*self._open]
        with suppress(OSError):  # a thread in accept() is not woken by close() alone
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
