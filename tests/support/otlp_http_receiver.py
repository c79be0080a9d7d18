"""A real OTLP/HTTP receiver on loopback."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from otlp_messages import decode
from otlp_receiver import HOST, Fault, OtlpReceiver, ReceivedRequest

TRACES_PATH = "/v1/traces"
PROTOBUF = "application/x-protobuf"


class OtlpHttpReceiver(OtlpReceiver):
    """OTLP/HTTP with protobuf bodies: `POST /v1/traces`, plain, gzip or deflate."""

    protocol = "http/protobuf"

    @property
    def traces_endpoint(self) -> str:
        return self.endpoint + TRACES_PATH

    def _start(self, port: int) -> int:
        self._server = _HttpServer((HOST, port), self)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls.server_certificate_file, self.tls.server_key_file)
            if self.require_client_certificate:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(self.tls.ca_file)
            # The handshake belongs to the connection's own thread, not to the one that accepts.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="otlp-http-receiver",
            daemon=True,
        ).start()
        return self._server.server_port

    def _stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.cut_connections()

    def _endless_answer(self) -> Iterable[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
        yield b"Content-Length: 1000000\r\n\r\n"
        while True:
            yield b"\x00"

    def _answer(self, path: str, headers: Mapping[str, str], body: bytes) -> _HttpAnswer:
        self._count_attempt()
        if self.fault is Fault.UNAVAILABLE:
            return _HttpAnswer(503)
        if path != TRACES_PATH:
            return _HttpAnswer(404)
        if headers.get("content-type") != PROTOBUF:
            return _HttpAnswer(415)
        encoding = headers.get("content-encoding", "identity")
        if encoding not in _DECODERS:
            return _HttpAnswer(415)
        message = ExportTraceServiceRequest.FromString(_DECODERS[encoding](body))
        self._collect(
            ReceivedRequest(
                headers=dict(headers), path=path, spans=decode(message), wire_bytes=len(body)
            )
        )
        if self.fault is Fault.STALL:
            self._closing.wait()
        return _HttpAnswer(200, ExportTraceServiceResponse().SerializeToString())


_DECODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,  # RFC 9110 8.4.1.2: the zlib format
}


@dataclass(frozen=True)
class _HttpAnswer:
    status: int
    body: bytes = field(default=b"")


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], receiver: OtlpHttpReceiver) -> None:
        super().__init__(address, _HttpHandler)
        self.receiver = receiver
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        """Kept-alive connections would go on being served after `server_close()`."""
        for connection in [*self._open]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away or fails the TLS handshake is what some tests are about."""


class _HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive, as collectors do
    server: _HttpServer

    def do_POST(self) -> None:  # the name is http.server's
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {key.lower(): value for key, value in self.headers.items()}
        answer = self.server.receiver._answer(self.path, headers, body)
        with suppress(OSError):  # the client has given up
            self.send_response(answer.status)
            self.send_header("Content-Type", PROTOBUF)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on stderr."""
