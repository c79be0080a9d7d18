"""Which exporter, by name: ours, OpenTelemetry's, or any that is installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usage_telemetry.otlp_settings import OTLP_NAMES
from usage_telemetry.settings import EXPORTER, Settings

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from opentelemetry.sdk.trace.export import SpanExporter

ENTRY_POINT_GROUP = "opentelemetry_traces_exporter"
"""Where OpenTelemetry's own auto-configuration looks for exporters."""

BUILT_IN = ("jitsu", "debug", "none")
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
    try:
        if name in settings.otlp:
            from usage_telemetry.otlp import make_otlp

            return make_otlp(settings.otlp[name])
        exporter: SpanExporter = _entry_point(name).load()()
    except ExporterError:
        raise
    except ImportError as error:
        raise ExporterError(_advice(name, error)) from error
    except Exception as error:
        raise ExporterError(f"{EXPORTER}: the exporter {name!r} cannot be made: {error}") from error
    return exporter


def check(settings: Settings) -> None:
    """Look whether every exporter that is asked for can be had; none is made.

    Raises:
        ExporterError: Says which one cannot, which are installed, and the pip command.
    """
    for name in settings.exporters:
        if name in BUILT_IN:
            continue
        try:
            if name in settings.otlp:
                from usage_telemetry.otlp import import_otlp

                import_otlp(settings.otlp[name])
            else:
                _entry_point(name).load()
        except ExporterError:
            raise
        except Exception as error:  # whatever a third party does when it is imported
            raise ExporterError(_advice(name, error)) from error


def installed_names() -> list[str]:
    """All names that `USAGE_TELEMETRY_EXPORTER` may hold on this machine."""
    from importlib.metadata import entry_points

    found = entry_points(group=ENTRY_POINT_GROUP)
    return sorted({"jitsu", "none", *(entry_point.name for entry_point in found)})


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


def _entry_point(name: str) -> EntryPoint:
    from importlib.metadata import entry_points  # costly, and of no use to the default exporter

    for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        return entry_point
    raise ExporterError(_advice(name))


def _advice(name: str, error: Exception | None = None) -> str:
    if error is None:
        text = f"{EXPORTER}: no exporter {name!r} is installed"
    else:
        text = f"{EXPORTER}: the exporter {name!r} cannot be imported ({error})"
    command = OTLP_INSTALL if name in OTLP_NAMES else _INSTALL.get(name)
    how = (
        f"To install it: {command}"
        if command
        else f"Install the package that offers it as an entry point in {ENTRY_POINT_GROUP}"
    )
    return f"{text}; there is: {', '.join(installed_names())}. {how}"


_INSTALL = {
    "zipkin_json": "pip install opentelemetry-exporter-zipkin-json",
    "zipkin_proto": "pip install opentelemetry-exporter-zipkin-proto-http",
}
"""Exporters of the OpenTelemetry project that are packages of their own."""
