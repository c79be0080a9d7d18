"""Instrumentor for Evidently's monitoring UI, for `opentelemetry-instrument` and for programs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

from usage_telemetry.instrumentation import evidently_ui


class EvidentlyInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Entry point `evidently`; `instrument()` and `uninstrument()` undo each other.

    Importing evidently, before or after, is left to the host: nothing of it is imported here, and
    nothing is recorded before its monitoring UI starts.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """What has to be installed."""
        return ["evidently >= 0.4.0"]

    def _instrument(self, **kwargs: Any) -> None:
        """Args: host_interface: keep the interface that Evidently itself gives (`service`)."""
        evidently_ui.install(host_interface=bool(kwargs.get("host_interface", False)))

    def _uninstrument(self, **_: Any) -> None:
        evidently_ui.remove()
