"""Span -> documented Jitsu event, as pure functions without I/O.

The event is the one that Evidently documents as its telemetry ("Event log examples"); the
fields `api_key` and `source_ip` are the server's to set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

ACTION = "usage.action"
INTERFACE = "usage.interface"
EXTRA_PREFIX = "usage.extra."
GROUP_ID = "usage.group.id"
ERROR_TYPE = "error.type"
USER_ID = "enduser.pseudo.id"

MAX_EVENT_BYTES = 8 * 1024
"""A fraction of what the servers accept (51,200 bytes an event in Jitsu classic, 1,000,000 in
Jitsu 2), so that a refusal for size stays the exception."""

_EPOCH = datetime(1970, 1, 1)  # UTC, without saying so: isoformat() would append "+00:00"
_OS_NAMES = {"darwin": "mac"}  # OpenTelemetry's os.type -> the documented os_name
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


class EventRefused(ValueError):
    """An event that must not be sent; `reason` is the counter it is booked under."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def event_from_span(
    span: ReadableSpan, *, no_ip: bool = False, utc_time: bool = False
) -> dict[str, Any] | None:
    """The documented event of one span, or None for a span that carries no usage action.

    Args:
        span: A finished span; its attributes and resource are read, nothing else.
        no_ip: Send ``source_ip: null``, so that not even the masked address is stored.
        utc_time: Repeat the time as ``utc_time``, the one time that Jitsu 2 keeps for an event
            that waited offline. Not in the documented event.
    """
    fields = span_fields(span, no_ip=no_ip, utc_time=utc_time)
    return None if fields is None else {**fields, **resource_fields(span.resource.attributes)}


def span_fields(
    span: ReadableSpan, *, no_ip: bool = False, utc_time: bool = False
) -> dict[str, Any] | None:
    """What an event says about the action itself; see `event_from_span`."""
    # A dict of our own: each look into the SDK's mapping costs as much as this one copy.
    given = span.attributes
    attributes: dict[str, Any] = (
        given.copy() if isinstance(given, MappingProxyType) else dict(given or {})
    )
    action = attributes.get(ACTION)
    if not isinstance(action, str):
        return None
    timestamp = timestamp_from_ns(span.start_time or 0)
    fields: dict[str, Any] = {
        "_timestamp": timestamp,
        "action": action,
        "error": attributes.get(ERROR_TYPE),
        "eventn_ctx_event_id": event_id(span),
        "extra": {
            key[len(EXTRA_PREFIX) :]: list(value) if isinstance(value, tuple) else value
            for key, value in attributes.items()
            if key.startswith(EXTRA_PREFIX)
        },
        "interface": attributes.get(INTERFACE),
        "src": "api",
    }
    if no_ip:
        fields["source_ip"] = None
    if utc_time:
        fields["utc_time"] = timestamp
    return fields


def resource_fields(resource: Mapping[str, Any]) -> dict[str, Any]:
    """What an event says about tool, user and environment."""
    return {
        "group_id": resource.get(GROUP_ID),
        **environment_fields(resource),
        "tool_name": resource.get("service.name"),
        "tool_version": resource.get("service.version"),
        "user_id": resource.get(USER_ID),
    }


def environment_fields(resource: Mapping[str, Any]) -> dict[str, Any]:
    """`os_name`, `os_version` and `python_version` from OpenTelemetry's resource attributes."""
    os_type = resource.get("os.type")
    version = _VERSION.match(str(resource.get("process.runtime.version", "")))
    major, minor, patch = version.groups(default="0") if version else ("0", "0", "0")
    return {
        "os_name": _OS_NAMES.get(str(os_type), os_type),
        "os_version": resource.get("os.version"),
        "python_version": {"major": int(major), "minor": int(minor), "patch": int(patch)},
    }


def timestamp_from_ns(time_ns: int) -> str:
    """UTC with six digits and Z, exactly as documented: ``2023-07-07T14:08:44.332528Z``."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{_to_the_second(seconds)}.{rest_ns // 1000:06d}Z"


@lru_cache(maxsize=8)
def _to_the_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


def event_id(span: ReadableSpan) -> str:
    """A UUID of version 4 made from the span's ids and start: the same for every retry.

    The start is mixed in because the SDK's own ids come from the `random` module, and programs
    that seed it (as data science does) would all make the same ids.
    """
    context = span.context
    identity = (context.trace_id, context.span_id) if context else (0, 0)
    digits = blake2b(b"%x-%x-%d" % (*identity, span.start_time or 0), digest_size=16).hexdigest()
    # Version 4 and a variant of RFC 9562, 5.4.
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-"
        f"{_VARIANTS[digits[16]]}{digits[17:20]}-{digits[20:]}"
    )


_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


_compact = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False)
"""Made once: `json.dumps` makes an encoder for each call."""


def encode(event: Mapping[str, Any], further: str = "") -> bytes:
    """Compact JSON in UTF-8.

    Args:
        event: An event, or some of its fields.
        further: The others, from `encode_resource`.

    Raises:
        EventRefused: The event is over 8 KiB, or holds what JSON cannot carry (NaN, bytes, half a
            surrogate pair).
    """
    text = _encode(event)
    try:
        # Not ASCII-escaped: a lone surrogate then fails to encode, instead of leaving as "\\ud800".
        body = (f"{text[:-1]},{further}}}" if further else text).encode()
    except UnicodeEncodeError as error:
        raise _not_json(error) from None
    if len(body) > MAX_EVENT_BYTES:
        raise EventRefused(
            "over_8_kib", f"the event has {len(body)} bytes, {MAX_EVENT_BYTES} are allowed"
        )
    return body


def encode_resource(resource: Mapping[str, Any]) -> str:
    """`resource_fields` as `encode` takes them: the same for all spans of a provider.

    Raises:
        EventRefused: They hold what JSON cannot carry.
    """
    return _encode(resource_fields(resource))[1:-1]


def _encode(fields: Mapping[str, Any]) -> str:
    try:
        return _compact.encode(fields)
    except (TypeError, ValueError, RecursionError) as error:
        raise _not_json(error) from None


def _not_json(error: Exception) -> EventRefused:
    return EventRefused("not_json", f"the event cannot be written as JSON: {error}")
