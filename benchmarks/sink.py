"""The endpoint of every measurement: a process on 127.0.0.1 that counts the events it is sent.

It speaks whatever the senders speak: Jitsu, OTLP over HTTP, posthog and segment batches.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

POLL_S = 0.02


class Sink:
    """A sink in a process of its own, whose CPU is nobody's cost; a context manager."""

    def __enter__(self) -> Sink:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sink"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()


def count(url: str) -> int:
    """How many events have arrived at the sink at `url`."""
    with urllib.request.urlopen(f"{url}/count", timeout=10) as answer:
        return int(answer.read())


def wait_for(url: str, events: int, timeout_s: float) -> int:
    """Wait until so many events have arrived in all; how many have."""
    deadline = time.monotonic() + timeout_s
    while (arrived := count(url)) < events and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return arrived


def events_in(content_type: str, body: bytes) -> int:
    """How many events a request carries."""
    if content_type == "application/x-protobuf":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        request = ExportTraceServiceRequest.FromString(body)
        scopes = (scope for one in request.resource_spans for scope in one.scope_spans)
        return sum(len(scope.spans) for scope in scopes)
    content: Any = json.loads(body)
    if isinstance(content, dict):
        content = content.get("batch", [content])
    return len(content)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    arrived = 0
    lock = threading.Lock()

    def do_GET(self) -> None:
        self._answer(str(_Handler.arrived).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        number = events_in(self.headers.get("content-type", ""), body)
        with self.lock:
            _Handler.arrived += number
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response_only(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
