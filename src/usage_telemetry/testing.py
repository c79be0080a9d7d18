"""For a tool's own tests: what it recorded, as spans and as the events they become.

A pytest plugin as well (fixture `usage_events`). Every pytest run on a machine with this package
imports this module, so that the SDK is imported when the first action is captured, not here.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, overload

from usage_telemetry import telemetry as _telemetry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from usage_telemetry.record import Record
    from usage_telemetry.spans import Spans
    from usage_telemetry.telemetry import Telemetry

__all__ = ["USER_ID", "Captured", "UsageEvents", "capture"]

Event = dict[str, Any]

USER_ID = "00000000-0000-4000-8000-000000000000"
"""The user id of every captured event: no test makes or reads one on the developer's machine."""


class UsageEvents(Sequence[Event]):
    """Events in the order of recording, as plain dicts; grows while the test goes on."""

    def __init__(self, captured: Captured) -> None:
        self._captured = captured

    @property
    def actions(self) -> list[str]:
        """The names of the actions, in order."""
        return [event["action"] for event in self._captured.events]

    def of(self, action: str) -> list[Event]:
        """The events of one action."""
        return [event for event in self._captured.events if event["action"] == action]

    def assert_one(self, action: str, /, *, error: str | None = None, **extras: object) -> Event:
        """There is exactly one event of that action, with this error and exactly these extras.

        Returns:
            The event, for whatever else is to be asserted.

        Raises:
            AssertionError: Says what was recorded instead.
        """
        __tracebackhide__ = True
        found = self.of(action)
        if len(found) != 1:
            raise AssertionError(
                f"expected one event {action!r}, found {len(found)}; recorded: {self._told()}"
            )
        expected = {key: list(v) if isinstance(v, tuple) else v for key, v in extras.items()}
        if found[0]["extra"] != expected:
            raise AssertionError(
                f"{action!r} was recorded with extras {found[0]['extra']}, expected {expected}"
            )
        if found[0]["error"] != error:
            raise AssertionError(
                f"{action!r} was recorded with error {found[0]['error']!r}, expected {error!r}"
            )
        return found[0]

    def assert_none(self, action: str | None = None) -> None:
        """Nothing was recorded, or nothing of that action.

        Raises:
            AssertionError: Says what was recorded.
        """
        __tracebackhide__ = True
        if self._captured.events if action is None else self.of(action):
            raise AssertionError(f"expected no event {action or ''}; recorded: {self._told()}")

    def clear(self) -> None:
        """Forget what was captured so far."""
        self._captured.clear()

    def _told(self) -> str:
        return ", ".join(self.actions) or "nothing"

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...
    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        return self._captured.events[index]

    def __iter__(self) -> Iterator[Event]:
        return iter(self._captured.events)

    def __len__(self) -> int:
        return len(self._captured.events)

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, UsageEvents) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._captured.events)


class Captured:
    """What was recorded while a `capture` was open; safe to fill from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exporter: InMemorySpanExporter | None = None
        self._makers: dict[tuple[str, str, str | None], Spans] = {}
        self._events: list[Event] = []

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Finished spans, as an exporter gets them."""
        return self._exporter.get_finished_spans() if self._exporter is not None else ()

    @property
    def events(self) -> list[Event]:
        """The events that would be sent, made by the same code."""
        return list(self._events)

    def clear(self) -> None:
        """Forget what was captured so far."""
        with self._lock:
            self._events.clear()
            if self._exporter is not None:
                self._exporter.clear()

    def take(self, telemetry: Telemetry, record: Record) -> None:
        """Called for each action that passed the catalog."""
        from opentelemetry.exporter.jitsu.event import event_from_span
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        from usage_telemetry.environment import resource_attributes
        from usage_telemetry.record import with_ids
        from usage_telemetry.spans import Spans

        with self._lock:
            self._exporter = self._exporter or InMemorySpanExporter()
            key = (telemetry.tool, telemetry.version, telemetry.group_id)
            if key not in self._makers:
                self._makers[key] = Spans(
                    resource_attributes(
                        tool=telemetry.tool,
                        version=telemetry.version,
                        user_id=USER_ID,
                        group_id=telemetry.group_id,
                    )
                )
            spans = self._makers[key].make(with_ids([record]))
            self._exporter.export(spans)
            self._events += filter(None, map(event_from_span, spans))


@contextmanager
def capture() -> Iterator[Captured]:
    """Capture what any `Telemetry` of this process records, also one made long before.

    Within it nothing leaves the process and no file is made, and what a catalog does not declare
    raises `UndeclaredError` or `TypeError`. It works where DO_NOT_TRACK or a test runner switch
    telemetry off; a tool's own switch still counts.
    """
    captured = Captured()
    with _guard:
        _telemetry._captures = (*_telemetry._captures, captured)
    try:
        yield captured
    finally:
        with _guard:
            _telemetry._captures = tuple(c for c in _telemetry._captures if c is not captured)


_guard = threading.Lock()

if "pytest" in sys.modules:
    import pytest

    @pytest.fixture
    def usage_events() -> Iterator[UsageEvents]:
        """The usage events that this test causes, as plain dicts; undeclared ones raise."""
        with capture() as captured:
            yield UsageEvents(captured)

    def pytest_load_initial_conftests() -> None:
        # pytest sets it from 8.2 on; a Telemetry made while tests are collected looks for it.
        os.environ.setdefault("PYTEST_VERSION", pytest.__version__)
