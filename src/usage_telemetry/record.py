"""An action that happened, between the caller's thread and the span it becomes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from usage_telemetry.catalog import Value


class Ids(NamedTuple):
    """The identity of a span, kept from the moment it is first known to any exporter."""

    trace_id: int
    span_id: int


class Record(NamedTuple):
    """One action that happened; times are nanoseconds since the epoch."""

    action: str
    interface: str
    extras: Mapping[str, Value]
    error: str | None
    start_ns: int
    end_ns: int


def with_ids(records: Sequence[Record]) -> list[tuple[Record, Ids]]:
    """Give new ids to records.

    From the system's entropy: the host's `random` state is neither used nor moved.
    """
    entropy = os.urandom(24 * len(records))
    return [
        (
            record,
            Ids(
                int.from_bytes(entropy[start : start + 16], "big"),
                int.from_bytes(entropy[start + 16 : start + 24], "big"),
            ),
        )
        for start, record in zip(range(0, len(entropy), 24), records, strict=True)
    ]


def to_json(record: Record, ids: Ids) -> str:
    """One line of JSON, for the spool."""
    import json  # by few processes, and those are about to end

    return json.dumps([*record, *ids])


def from_json(line: str) -> tuple[Record, Ids]:
    """The reverse of `to_json`.

    Raises:
        ValueError: The line was not written by `to_json`.
    """
    import json

    fields = json.loads(line)
    if not isinstance(fields, list) or len(fields) != len(Record._fields) + len(Ids._fields):
        raise ValueError("not a record")
    action, interface, extras, error, start_ns, end_ns, trace_id, span_id = fields
    if not (isinstance(action, str) and isinstance(interface, str) and isinstance(extras, dict)):
        raise ValueError("not a record")
    return (
        Record(action, interface, _tuples(extras), error, int(start_ns), int(end_ns)),
        Ids(int(trace_id), int(span_id)),
    )


def _tuples(extras: dict[str, Any]) -> dict[str, Value]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in extras.items()}
