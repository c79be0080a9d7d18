"""Any tool that uses the library iterative-telemetry: its events are recorded as spans and sent in
batches, instead of by a subprocess each."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from usage_telemetry.catalog import (
    CUSTOM,
    MAX_COUNT,
    MAX_NAMES,
    Action,
    Catalog,
    UndeclaredError,
    Value,
)
from usage_telemetry.instrumentation.iterative_door import Payload, leave_door, stand_at_door
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


_telemetries: dict[tuple[str, str], Telemetry] = {}


def install() -> None:
    """Record the events of every tool that nobody else takes care of."""
    stand_at_door(_record, for_any_tool=True)


def remove() -> None:
    """Undo `install`."""
    leave_door(_record)


def _record(sender: Any, payload: Payload) -> bool:
    telemetry = _telemetry_of(sender)
    if is_enabled(sender):
        now_ns = time.time_ns()
        telemetry.submit(
            str(payload.get("action")),
            payload.get("extra") or {},
            start_ns=now_ns,
            end_ns=now_ns,
            error=payload.get("error"),
            interface=str(payload.get("interface")),
        )
    return True


def _telemetry_of(sender: Any) -> Telemetry:
    key = (str(sender.tool_name), str(sender.tool_version))
    if key not in _telemetries:
        _telemetries[key] = Telemetry(
            tool=key[0],
            version=key[1],
            interface="unknown",
            catalog=AsSent(),
            endpoint=sender.url,
            token=sender.token,
            enabled=not opted_out_by_id(),
        )
    return _telemetries[key]


def is_enabled(sender: Any) -> bool:
    """What the tool itself says about sending, and the variable of iterative-telemetry."""
    if Settings.from_environment().iterative_opted_out:
        return False
    return bool(sender.enabled() if callable(sender.enabled) else sender.enabled)


def opted_out_by_id() -> bool:
    """A user of iterative-telemetry can opt out by writing `do-not-track` in place of the id.

    The library makes that file if there is none; this only reads it.
    """
    import json  # only where a tool on the library runs

    # The library's own way to the folder.
    from appdirs import user_config_dir  # type: ignore[import-untyped]

    path = Path(user_config_dir(os.path.join("iterative", "telemetry"), False))
    try:
        user_id = json.loads(path.read_text(encoding="utf-8"))["user_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return str(user_id).lower() == "do-not-track"
