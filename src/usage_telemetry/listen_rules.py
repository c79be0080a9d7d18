"""What Jitsu classic makes of a request body: pure functions, no I/O.

Read in the sources of Jitsu classic v1.44.8: server/events/parser.go (body and limits),
server/enrichment/context_enrichment_step.go (stored fields), server/handlers/event.go (masking).
A development endpoint should find mistakes, so some things are stricter here: each event of an
array is held to the size limit by itself, data after the JSON value is malformed, and nesting and
the number of events are bounded.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import math
import re
import uuid
from datetime import datetime, timezone
from typing import Any

__all__ = ["MAX_DEPTH", "MAX_EVENTS", "MAX_EVENT_BYTES", "Event", "masked", "parse_body", "stored"]

Event = dict[str, Any]

MAX_EVENT_BYTES = 51_200  # classic's limit for one event; an array may have this times its length
MAX_EVENTS = 10_000  # in one array; each becomes a stored event in memory
MAX_DEPTH = 100  # levels of nesting; whoever shows or writes an event may recurse through it
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_body(body: bytes) -> list[Event]:
    """The events of a request body, all of them or none.

    Invalid UTF-8 and lone surrogates become U+FFFD, as in classic's JSON decoder; an empty array
    is no event and no error. The content type is not looked at, nor is any compression undone.

    Args:
        body: the request's body as it came, bytes.

    Raises:
        ValueError: the body is empty, malformed, too deep or too large; the message says which.
    """
    if not body:
        raise ValueError("empty JSON body")
    if body[:1] not in (b"{", b"["):
        raise ValueError(f"malformed JSON body begins with: {body[:1]!r}")
    if body[:1] == b"{" and len(body) > MAX_EVENT_BYTES:
        raise ValueError(f"Event size {len(body)} exceeds limit: {MAX_EVENT_BYTES}")
    text = body.decode("utf-8", "replace")
    try:
        parsed = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    events = parsed if isinstance(parsed, list) else [parsed]
    if len(events) > MAX_EVENTS:
        raise ValueError(f"{len(events)} events exceed the limit of {MAX_EVENTS} in one array")
    if events and len(body) > MAX_EVENT_BYTES * len(events):
        raise ValueError(f"Size of one of events exceeds limit: {MAX_EVENT_BYTES}")
    return [_checked(event) for event in events]


def masked(address: str) -> str:
    """What `ip_policy=strict` leaves of an address: IPv4 ends in .1, as classic does it.

    IPv6 keeps its first 48 bits, the usual prefix of a site, and ends in ::1: classic's own rule
    makes nonsense of IPv6. An IPv4 address mapped into IPv6 is treated as the IPv4 address.
    """
    with contextlib.suppress(ValueError):
        ip = ipaddress.ip_address(address)
        if isinstance(ip, ipaddress.IPv6Address):
            if ip.ipv4_mapped is None:
                return str(ipaddress.IPv6Address((int(ip) >> 80 << 80) | 1))
            address = str(ip.ipv4_mapped)
    return ".".join([*address.split(".")[:-1], "1"])


def stored(event: Event, *, api_key: str, source_ip: str, now: datetime) -> Event:
    """What the server stores of a client's event: what was sent, and what the server adds.

    Args:
        event: the event as the client sent it; it is not changed.
        api_key: the request's token; it wins over an `api_key` that was sent.
        source_ip: stored unless the client sent a `source_ip`, null included.
        now: an aware datetime, for an event without `_timestamp`.
    """
    moment = now.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    defaults = {"source_ip": source_ip, "src": "api", "_timestamp": moment}
    event_id = event.get("eventn_ctx_event_id")
    if event_id is None or event_id == "":
        event_id = str(uuid.uuid4())
    elif not isinstance(event_id, str):
        event_id = json.dumps(event_id)
    return {**defaults, **event, "eventn_ctx_event_id": event_id, "api_key": api_key}


def _checked(event: object) -> Event:
    if not isinstance(event, dict):
        raise ValueError(f"an event is a JSON object, not {type(event).__name__}")
    if _too_deep(event):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    compact = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    if len(compact.encode("utf-8", "surrogatepass")) > MAX_EVENT_BYTES:
        raise ValueError(f"Size of one of events exceeds limit: {MAX_EVENT_BYTES}")
    if _LONE_SURROGATE.search(compact):
        return dict(json.loads(_LONE_SURROGATE.sub("\ufffd", compact)))
    return event


def _too_deep(value: object, levels: int = MAX_DEPTH) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_too_deep(item, levels - 1) for item in inner)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number out of range: {text[:40]}")
    return value
