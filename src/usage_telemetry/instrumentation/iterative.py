"""Instrumentor for the library iterative-telemetry, for `opentelemetry-instrument` and programs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

from usage_telemetry.instrumentation import iterative_tools


class IterativeTelemetryInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Entry point `iterative_telemetry`; `instrument()` and `uninstrument()` undo each other."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """What has to be installed."""
        return ["iterative-telemetry >= 0.0.5"]

    def _instrument(self, **_: Any) -> None:
        iterative_tools.install()

    def _uninstrument(self, **_: Any) -> None:
        iterative_tools.remove()
