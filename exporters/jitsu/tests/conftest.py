"""Fixtures for the tests of the exporter: endpoints on loopback, a home of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from misbehaving import Behaviour, Endpoint
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

Start = Callable[..., Endpoint]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the home, the proxies or the opt-out of whoever runs it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USAGE_TELEMETRY_HOME", str(tmp_path / "state"))
    for name in ("DO_NOT_TRACK", "OTEL_EXPORTER_JITSU_ENDPOINT", "OTEL_EXPORTER_JITSU_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return home


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts endpoints that are closed with the test."""
    with ExitStack() as stack:

        def start_one(behave: Behaviour | None = None, **options: object) -> Endpoint:
            return stack.enter_context(Endpoint(behave, **options))  # type: ignore[arg-type]

        yield start_one


@pytest.fixture
def spans() -> Callable[..., list[ReadableSpan]]:
    """Makes finished spans of usage actions."""

    def make(count: int = 1, action: str | None = "act", **attributes: str) -> list[ReadableSpan]:
        memory = InMemorySpanExporter()
        provider = TracerProvider(
            resource=Resource(
                {
                    "service.name": "tool",
                    "service.version": "1.2.3",
                    "os.type": "linux",
                    "os.version": "12",
                    "process.runtime.version": "3.11.7",
                    "enduser.pseudo.id": "0b2f1b8e-6d3e-4d2c-9a53-3a5c9f6f1d11",
                }
            ),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(SimpleSpanProcessor(memory))
        tracer = provider.get_tracer("usage_telemetry")
        found = {"usage.action": action} if action is not None else {}
        for _ in range(count):
            tracer.start_span(str(action), attributes={**found, **attributes}).end()
        return list(memory.get_finished_spans())

    return make
