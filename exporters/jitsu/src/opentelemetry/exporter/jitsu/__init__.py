"""OpenTelemetry span exporter that delivers usage actions to a Jitsu endpoint.

The exporter class is imported on first use: a program that only looks into an outbox
(`opentelemetry.exporter.jitsu.outbox`) imports neither the OpenTelemetry SDK nor httpx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.exporter.jitsu.exporter import JitsuSpanExporter

__all__ = ["JitsuSpanExporter", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "JitsuSpanExporter":
        from opentelemetry.exporter.jitsu.exporter import JitsuSpanExporter

        return JitsuSpanExporter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
