"""Which exporter, by name: ours, OpenTelemetry's, or any that is installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from usage_telemetry.settings import EXPORTER, Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

ENTRY_POINT_GROUP = "opentelemetry_traces_exporter"
"""Where OpenTelemetry's own auto-configuration looks for exporters."""

OTLP_INSTALL = "pip install 'usage-telemetry[otlp]'"


class ExporterError(Exception):
    """An exporter cannot be had; the message says which names can, and what to install."""


@dataclass(frozen=True)
class Target:
    """What a tool passes and the environment may override.

    Attributes:
        endpoint: The tool's Jitsu endpoint; None: it has none.
        token: The write key for it.
        allowed: Asked before anything is stored or sent.
    """

    endpoint: str | None
    token: str | None
    allowed: Callable[[], bool]


def build(name: str, settings: Settings, target: Target) -> SpanExporter:
    """The exporter of that name.

    Raises:
        ExporterError: The name is unknown, or what it needs is not installed.
    """
    if name == "jitsu":
        return _jitsu(settings, target)
    if name == "debug":
        from usage_telemetry.debug import DebugExporter

        return DebugExporter()
    if name == "otlp":
        name = f"otlp_proto_{_otlp_protocol()}"
    for entry_point in _installed():
        if entry_point.name == name:
            return _load(entry_point)
    raise ExporterError(_advice(name))


def installed_names() -> list[str]:
    """All names that `USAGE_TELEMETRY_EXPORTER` may hold on this machine."""
    return sorted({"jitsu", "none", *(entry_point.name for entry_point in _installed())})


def _jitsu(settings: Settings, target: Target) -> SpanExporter:
    from opentelemetry.exporter.jitsu import JitsuSpanExporter

    from usage_telemetry.folders import state_dir

    return JitsuSpanExporter(
        settings.jitsu_endpoint or target.endpoint,
        settings.jitsu_token or target.token,
        timeout_s=settings.jitsu_timeout_s,
        state_dir=state_dir(settings),
        allowed=target.allowed,
    )


def _otlp_protocol() -> str:
    return "http"


def _installed() -> list[EntryPoint]:
    return list(entry_points(group=ENTRY_POINT_GROUP))


def _load(entry_point: EntryPoint) -> SpanExporter:
    try:
        exporter: SpanExporter = entry_point.load()()
    except Exception as error:
        raise ExporterError(
            f"{EXPORTER}: the exporter {entry_point.name!r} cannot be made: {error}"
        ) from error
    return exporter


def _advice(name: str) -> str:
    text = (
        f"{EXPORTER}: no exporter {name!r} is installed; there is: {', '.join(installed_names())}"
    )
    return f"{text}. To install it: {OTLP_INSTALL}" if name.startswith("otlp") else text
