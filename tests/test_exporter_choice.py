"""USAGE_TELEMETRY_EXPORTER: one word chooses any exporter that is installed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hosts import TOOL, run_python

from usage_telemetry.listen import JitsuEndpoint

SEND = TOOL + 'telemetry.record("startup")\ntelemetry.flush(20.0)\n'
STATUS = "from usage_telemetry.cli import main; main(['status'])"
WITHOUT_GRPC = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            raise ModuleNotFoundError("No module named 'grpc'", name="grpc")
sys.meta_path.insert(0, Missing())
"""


@contextmanager
def zipkin() -> Iterator[tuple[str, list[Any]]]:
    """A Zipkin collector's POST /api/v2/spans on loopback: its URL, and the spans it got."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name is http.server's
            spans.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/v2/spans", spans
    finally:
        server.shutdown()
        server.server_close()


def test_an_exporter_of_a_third_party_is_chosen_by_its_entry_point(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    with zipkin() as (url, spans):
        settings = {
            "USAGE_TELEMETRY_EXPORTER": "zipkin_json",
            "OTEL_EXPORTER_ZIPKIN_ENDPOINT": url,
        }
        host = run_python(SEND, {**environment, **settings})

    assert (host.stdout, host.stderr) == ("", "")
    [span] = spans
    assert span["name"] == "startup"
    assert span["localEndpoint"] == {"serviceName": "tool"}
    assert span["tags"]["usage.action"] == "startup"
    assert endpoint.received == 0


def test_console_prints_spans_where_the_user_asked_for_them(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    host = run_python(SEND, {**environment, "USAGE_TELEMETRY_EXPORTER": "console"})

    assert host.stderr == ""
    span = json.loads(host.stdout)
    assert span["name"] == "startup"
    assert span["resource"]["attributes"]["service.name"] == "tool"
    assert endpoint.received == 0


def test_none_makes_no_thread_and_no_file(
    environment: dict[str, str], endpoint: JitsuEndpoint, home: Path
) -> None:
    script = SEND + "import sys, threading; print(threading.active_count(), [*sys.modules])"

    host = run_python(script, {**environment, "USAGE_TELEMETRY_EXPORTER": "none"})

    assert host.stderr == ""
    assert host.stdout.startswith("1 ")
    assert "opentelemetry.sdk" not in host.stdout
    assert not list(home.rglob("*"))
    assert endpoint.received == 0


def test_an_unknown_name_is_told_by_the_command_line_and_silent_in_a_host(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    settings = {**environment, "USAGE_TELEMETRY_EXPORTER": "jaeger"}

    status = run_python(STATUS, settings)
    host = run_python(SEND + "print('goes on')", settings)

    assert status.returncode == 2
    message = " ".join(status.stderr.split())
    assert "USAGE_TELEMETRY_EXPORTER: no exporter 'jaeger' is installed" in message
    for name in ("console", "jitsu", "none", "otlp", "zipkin_json"):
        assert name in message
    assert "opentelemetry_traces_exporter" in message
    assert (host.stdout, host.stderr, host.returncode) == ("goes on\n", "", 0)
    assert endpoint.received == 0


def test_a_missing_extra_is_told_with_the_pip_command(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    settings = {**environment, "USAGE_TELEMETRY_EXPORTER": "jitsu,otlp"}

    status = run_python(WITHOUT_GRPC + STATUS, settings)
    host = run_python(WITHOUT_GRPC + SEND + "print('goes on')", settings)

    assert status.returncode == 2
    assert "pip install 'usage-telemetry[otlp]'" in " ".join(status.stderr.split())
    assert (host.stdout, host.stderr, host.returncode) == ("goes on\n", "", 0)
    assert [event["action"] for event in endpoint.wait_for_events(1)] == ["startup"]


@pytest.mark.parametrize("value", ["none,jitsu", ","])
def test_a_list_that_makes_no_sense_keeps_telemetry_off(
    value: str, environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    settings = {**environment, "USAGE_TELEMETRY_EXPORTER": value}

    status = run_python(STATUS, settings)
    host = run_python(SEND, settings)

    assert (status.returncode, host.returncode, host.stderr) == (2, 0, "")
    assert "USAGE_TELEMETRY_EXPORTER" in status.stderr
    assert endpoint.received == 0


def test_run_says_what_is_missing_and_starts_the_program_all_the_same(
    environment: dict[str, str], home: Path
) -> None:
    run = "from usage_telemetry.cli import main; main(['run', '--', 'python', '-c', 'print(1)'])"

    done = run_python(run, {**environment, "USAGE_TELEMETRY_EXPORTER": "jaeger"})

    assert (done.stdout, done.returncode) == ("1\n", 0)
    assert "no exporter 'jaeger' is installed" in done.stderr
