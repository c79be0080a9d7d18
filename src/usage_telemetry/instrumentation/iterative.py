"""Instrumentor for any tool that uses the library iterative-telemetry: its events are recorded as
spans and sent in batches, instead of by a subprocess each."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

from usage_telemetry.catalog import (
    CUSTOM,
    MAX_COUNT,
    MAX_NAMES,
    Action,
    Catalog,
    UndeclaredError,
    Value,
)
from usage_telemetry.instrumentation.iterative_door import HostEvent, leave_door, stand_at_door
from usage_telemetry.settings import Settings
from usage_telemetry.telemetry import Telemetry

_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


class AsSent(Catalog):
    """Stands in for the catalog that a tool on iterative-telemetry does not have.

    The tool chose what it sends; its shape is bounded all the same: numbers, flags and words,
    alone or in lists. Any other text becomes ``custom``, anything else is dropped.
    """

    def __init__(self) -> None:
        super().__init__([])

    def __getitem__(self, name: str) -> Action:
        if not _WORD.fullmatch(name):
            raise UndeclaredError(f"no action {name!r:.100}")
        return _ActionAsSent(name)


class _ActionAsSent(Action):
    def __init__(self, name: str) -> None:
        self.name = name
        self.description = "As the tool declares it."
        self.extras = {}

    def validate(self, key: str, value: object) -> Value:
        if not _WORD.fullmatch(key):
            raise UndeclaredError(f"{self.name} has no extra {key!r:.100}")
        if type(value) is bool or (type(value) is int and 0 <= value <= MAX_COUNT):
            return value
        if type(value) is str:
            return _word(value)
        if isinstance(value, (list, tuple)):
            return tuple(_word(item) for item in value[:MAX_NAMES])
        raise TypeError(f"{self.name}: {key}: a {type(value).__name__} is not recorded")


def _word(value: object) -> str:
    return value if type(value) is str and _WORD.fullmatch(value) else CUSTOM


class IterativeTelemetryInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Entry point `iterative_telemetry`; `instrument()` and `uninstrument()` undo each other."""

    def __init__(self) -> None:
        super().__init__()
        if not hasattr(self, "_telemetries"):  # BaseInstrumentor makes one instance for all
            self._telemetries: dict[tuple[str, str], Telemetry] = {}

    def instrumentation_dependencies(self) -> Collection[str]:
        """What has to be installed."""
        return ["iterative-telemetry >= 0.0.5"]

    def _instrument(self, **_: Any) -> None:
        stand_at_door(self._record, for_any_tool=True)

    def _uninstrument(self, **_: Any) -> None:
        leave_door(self._record)

    def _record(self, sender: Any, event: HostEvent) -> bool:
        if not is_enabled(sender):
            return True
        now_ns = time.time_ns()
        self._telemetry(sender).submit(
            event.action,
            event.extras,
            start_ns=now_ns,
            end_ns=now_ns,
            error=event.error,
            interface=event.interface,
        )
        return True

    def _telemetry(self, sender: Any) -> Telemetry:
        key = (str(sender.tool_name), str(sender.tool_version))
        if key not in self._telemetries:
            self._telemetries[key] = Telemetry(
                tool=key[0],
                version=key[1],
                interface="unknown",
                catalog=AsSent(),
                endpoint=sender.url,
                token=sender.token,
            )
        return self._telemetries[key]


def is_enabled(sender: Any) -> bool:
    """What the tool itself says about sending, without the files that iterative-telemetry makes."""
    if Settings.from_environment().iterative_opted_out:
        return False
    return bool(sender.enabled() if callable(sender.enabled) else sender.enabled)
