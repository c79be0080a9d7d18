"""OpenTelemetry's own OTLP exporters, made so that a host neither sees nor waits for them."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.jitsu import forks
from opentelemetry.exporter.jitsu.quiet import silencer
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from usage_telemetry.otlp_settings import GRPC, OtlpSettings, silent_grpc_core

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

MAX_TRIES = 3
"""An export that forks cut off is begun again; after so many forks it waits in the spool."""


def make_otlp(settings: OtlpSettings) -> SpanExporter:
    """The OTLP exporter for the protocol that the settings name.

    Raises:
        ImportError: The extra ``otlp`` is not installed.
    """
    if settings.protocol == GRPC:
        return ForkSafeExporter(_grpc(settings))
    return _http(settings)


def import_otlp(settings: OtlpSettings) -> None:
    """Import what `make_otlp` needs, and make nothing.

    Raises:
        ImportError: The extra ``otlp`` is not installed.
    """
    if settings.protocol == GRPC:
        _grpc(settings)
    else:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: F401


def _grpc(settings: OtlpSettings) -> Callable[[], SpanExporter]:
    with silent_grpc_core():
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    compression = grpc.Compression.Gzip if settings.compression == "gzip" else None
    return lambda: _make(
        OTLPSpanExporter,
        endpoint=settings.endpoint,
        timeout=settings.timeout_s,
        compression=compression or grpc.Compression.NoCompression,
    )


def _http(settings: OtlpSettings) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    from usage_telemetry.otlp_session import BoundedSession

    return _make(
        OTLPSpanExporter,
        endpoint=settings.endpoint,
        timeout=settings.timeout_s,
        compression=Compression(settings.compression),
        session=BoundedSession(),
    )


def _make(exporter: Callable[..., SpanExporter], **arguments: Any) -> SpanExporter:
    """Make it without a word in the host's log, nor metrics in its MeterProvider."""
    # What was imported meanwhile has brought loggers, and a constructor may complain of a header.
    silencer.silence_this_thread(("opentelemetry",))
    if "meter_provider" in inspect.signature(exporter).parameters:
        arguments["meter_provider"] = NoOpMeterProvider()
    return exporter(**arguments)


class ForkSafeExporter(SpanExporter, forks.BeginsAnew):
    """Has no gRPC call under way, and no channel open, while the process forks.

    With a call under way gRPC writes a line to stderr at every fork, and now and then the child
    dies of a signal. So a fork cuts the call off, and the parent begins it again.

    Args:
        make: Makes the exporter that does the work.
    """

    def __init__(self, make: Callable[[], SpanExporter]) -> None:
        self._make = make
        self._exporter: SpanExporter | None
        self.begin_anew()
        self._exporter = make()  # a setting of no use shows here and now
        forks.register(self)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export; again where a fork came in between."""
        result = SpanExportResult.FAILURE
        for _ in range(MAX_TRIES):
            self._no_fork.wait(forks.FORK_WAIT_S)
            forks_before = self._forks
            self._idle.clear()
            try:
                if self._no_fork.is_set():
                    if self._exporter is None:
                        self._exporter = self._make()
                    result = self._exporter.export(spans)
            finally:
                self._idle.set()
            if result is SpanExportResult.SUCCESS or self._forks == forks_before:
                break
        return result

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept back here."""
        return True

    def shutdown(self) -> None:
        """Close the channel; a call under way ends."""
        exporter, self._exporter = self._exporter, None
        if exporter is not None:
            exporter.shutdown()

    # No locks below: any thread may fork, at any point.

    def end_idle_threads(self, timeout_s: float) -> None:
        """Before a fork: cut off the call that is under way."""
        deadline = time.monotonic() + timeout_s
        self._no_fork.clear()
        self._forks += 1
        self.shutdown()
        while not self._idle.wait(0.002) and time.monotonic() < deadline:
            self.shutdown()  # it was just being made

    def resume(self) -> None:
        """After a fork, in the parent."""
        self._no_fork.set()

    def begin_anew(self) -> None:
        """In the child: the parent's channel is the parent's."""
        self._exporter = None
        self._forks = 0
        self._idle = threading.Event()
        self._idle.set()
        self._no_fork = threading.Event()
        self._no_fork.set()
