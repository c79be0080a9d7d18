"""Catalog -> the "what is collected" page in Markdown, and the JSON Schema of every event.

Pure functions: the same catalog makes the same text, byte by byte, on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from usage_telemetry import attributes
from usage_telemetry.catalog import MAX_NAMES, Action, Catalog, Choice, Count, Extra, Flag, Names
from usage_telemetry.record import Ids, Record

EXAMPLE_VERSION = "1.2.3"
EXAMPLE_USER_ID = "3f2b8c1e-5a74-4d09-9c16-7be0a1d2f384"
EXAMPLE_TIME_NS = 1_750_000_000_123_456_000

_EXAMPLE_ENVIRONMENT = {
    attributes.OS_TYPE: "linux",
    attributes.OS_VERSION: "22.04",
    attributes.RUNTIME_NAME: "cpython",
    attributes.RUNTIME_VERSION: "3.11.7",
}

ENVIRONMENT = (
    ("_timestamp", "When the action began: UTC, to the microsecond."),
    ("action", "One of those above."),
    ("extra", "What is told besides, as above; `{}` where that is nothing."),
    ("user_id", "A random number made on this machine, once for each tool. Derived from nothing."),
    ("group_id", "Empty, unless the tool was told which group its users belong to."),
    ("interface", "The part of the tool that was used."),
    ("os_name", "`linux`, `mac` or `windows`."),
    ("os_version", "Its release, such as `22.04`."),
    ("python_version", "Major, minor and patch number of Python."),
    ("tool_name", "The tool."),
    ("tool_version", "Its release."),
    ("error", "Empty, or the class name of the exception that the action ended with; no message."),
    ("eventn_ctx_event_id", "A random number for this one event, so that repeats can be dropped."),
    ("src", "Always `api`."),
)

WHO_DECIDES = (
    ("Environment variable `DO_NOT_TRACK`", "off if present, with any value, the empty one too"),
    ("Environment variable `OTEL_SDK_DISABLED`", "off if `true`"),
    ("A setting with a value that cannot be used", "off"),
    ("Environment variable `USAGE_TELEMETRY`", "`off`, or `on` to ask for it on purpose"),
    ("A continuous-integration service", "off"),
    ("A test runner", "off"),
    ("`usage-telemetry off`", "off until `usage-telemetry on`; kept in a file of yours"),
    ("The tool's own switch", "off, if it has one and it says so"),
    ("None of these", "on"),
)


# -- the page ------------------------------------------------------------------------------------


def what_is_collected(catalog: Catalog, *, tool: str, interface: str = "service_backend") -> str:
    """The page, in Markdown.

    Args:
        catalog: What the tool may record.
        tool: Its name.
        interface: Which part of it records.
    """
    parts = [
        f"# What {tool} reports about its use",
        "<!-- Written by `usage-telemetry catalog` from the catalog of the tool. -->",
        _INTRODUCTION.format(tool=tool),
        "## Actions",
        _summary(catalog),
        "## Sent with every action",
        _table(("Field", "What it is"), [(_code(name), text) for name, text in ENVIRONMENT]),
        _NOTHING_ELSE,
        "## What a server can still see",
        _SERVER,
        "## Where it goes",
        _DESTINATION.format(tool=tool),
        "## How to opt out",
        _OPT_OUT,
        _table(
            ("Asked in this order", "What it says"),
            [(f"{place}. {who}", verdict) for place, (who, verdict) in enumerate(WHO_DECIDES, 1)],
        ),
        _AFTER_OPTING_OUT.format(tool=tool),
        "## Each action in full",
        *(_action(action, tool, interface) for action in catalog),
    ]
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """\
{tool} can report which of its features are used. This page lists all of it. It is made from the
list that the program itself enforces: an action or a value that is not listed here is dropped
before it leaves the program. Free text cannot be recorded at all."""

_NOTHING_ELSE = """\
Nothing else is sent: no data, no names of files, projects or columns, no code, no address, no host
or user name, no path, no command line."""

_SERVER = """\
The `user_id` is a pseudonym. It tells nothing about you, but all events that carry it come from one
user of one tool on one machine. `usage-telemetry reset-id` makes a new one, unrelated to the old.

An event holds no address. The connection that carries it has one, as every connection has: the
server, and whoever runs the network, can see it. Each request therefore asks (`ip_policy=strict`)
that the server mask the address before it stores it: what is kept as `source_ip` is the address
with its last part taken away. With the environment variable `OTEL_EXPORTER_JITSU_NO_IP=on` the
event says `source_ip: null`, and not even the masked address is stored with it."""

_DESTINATION = """\
To the endpoint that {tool} names, a server that runs Jitsu, an open-source event collector; or to
another that `OTEL_EXPORTER_JITSU_ENDPOINT` or `USAGE_TELEMETRY_EXPORTER` names. Events that cannot
be delivered wait in a file on this machine, for seven days at the most.

- `usage-telemetry status` shows the host, what waits, and where the files are.
- `usage-telemetry preview` shows the exact bytes of each event, and sends nothing.
- `usage-telemetry log` shows what was sent from this machine in the last 30 days.
- `usage-telemetry purge` deletes everything kept on this machine, the `user_id` too."""

_OPT_OUT = """\
Set `DO_NOT_TRACK` to any value, for this tool and every other that honours it:

```
export DO_NOT_TRACK=1
```

or, once and for all tools that use usage-telemetry: `usage-telemetry off`.

Who decides, in full: the first in this list that says something. Nothing below can switch on what
something above switched off."""

_AFTER_OPTING_OUT = """\
Opting out takes effect at once, and sends nothing itself. Events that still wait from earlier runs
are deleted, never sent. A service of {tool} says which it is when it starts: `Anonymous usage
reporting is enabled. To disable it, set env variable DO_NOT_TRACK to any value`, or `Anonymous
usage reporting is disabled`."""


def _summary(catalog: Catalog) -> str:
    rows = [
        (_code(action.name), action.description, ", ".join(map(_code, action.extras)) or "nothing")
        for action in catalog
    ]
    return _table(("Action", "When it is recorded", "Told besides"), rows)


def _action(action: Action, tool: str, interface: str) -> str:
    parts = [f"### `{action.name}`", action.description]
    if action.extras:
        rows = [
            (_code(key), type_in_words(extra), extra.description)
            for key, extra in action.extras.items()
        ]
        parts.append(_table(("Told besides", "Type", "What it is"), rows))
    event = example_event(
        action,
        tool=tool,
        version=EXAMPLE_VERSION,
        interface=interface,
        user_id=EXAMPLE_USER_ID,
        time_ns=EXAMPLE_TIME_NS,
        environment=_EXAMPLE_ENVIRONMENT,
    )
    parts.append(f"```json\n{json.dumps(event, indent=2, sort_keys=True)}\n```")
    return "\n\n".join(parts)


def type_in_words(extra: Extra) -> str:
    """What values an extra can have, for people."""
    if isinstance(extra, Count):
        return "a whole number, 0 or more"
    if isinstance(extra, Flag):
        return "yes or no"
    if isinstance(extra, Choice):
        return "one of " + ", ".join(_code(value) for value in extra.values)
    if isinstance(extra, Names):
        return (
            f"at most {MAX_NAMES} names out of a list fixed by the tool; any other becomes `custom`"
        )
    return "as in the JSON Schema"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`"


# -- one event -----------------------------------------------------------------------------------


def example_event(
    action: Action,
    *,
    tool: str,
    version: str,
    interface: str,
    user_id: str,
    time_ns: int,
    group_id: str | None = None,
    no_ip: bool = False,
    environment: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The event of one action with example extras, made by way of a span as every event is.

    Args:
        action: A declared action.
        tool, version, interface, user_id, group_id: As in `Telemetry`.
        time_ns: When it happened, nanoseconds since the epoch.
        no_ip: With ``source_ip: null``.
        environment: Attributes of the resource in place of this machine's; then the event's id is
            an example as well.
    """
    from opentelemetry.exporter.jitsu.event import event_from_span

    from usage_telemetry.environment import resource_attributes
    from usage_telemetry.record import with_ids
    from usage_telemetry.spans import Spans

    resource = resource_attributes(tool=tool, version=version, user_id=user_id, group_id=group_id)
    extras = {key: extra.example() for key, extra in action.extras.items()}
    record = Record(action.name, interface, extras, None, time_ns, time_ns)
    records = with_ids([record])
    if environment is not None:
        records = [(record, Ids(int.from_bytes(action.name.encode(), "big") % 2**128, 1))]
    (span,) = Spans({**resource, **(environment or {})}).make(records)
    event = event_from_span(span, no_ip=no_ip)
    assert event is not None
    return event


# -- JSON Schema ---------------------------------------------------------------------------------


def event_schema(catalog: Catalog, *, tool: str | None = None) -> dict[str, Any]:
    """JSON Schema (2020-12) that every event of the tool is valid against, and nothing more.

    Args:
        catalog: What the tool may record.
        tool: Its name; None: any.
    """
    fields = _common_fields(tool)
    optional = ("source_ip", "utc_time")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Usage event of {tool}" if tool else "Usage event",
        "type": "object",
        "properties": fields,
        "required": [name for name in fields if name not in optional],
        "additionalProperties": False,
        "oneOf": [_action_schema(action) for action in catalog],
    }


def _action_schema(action: Action) -> dict[str, Any]:
    return {
        "description": action.description,
        "properties": {
            "action": {"const": action.name},
            "extra": {
                "type": "object",
                "properties": {
                    key: {"description": extra.description, **extra.json_schema()}
                    for key, extra in action.extras.items()
                },
                "additionalProperties": False,
            },
        },
    }


def _common_fields(tool: str | None) -> dict[str, Any]:
    uuid4 = "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
    moment = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$"
    number = {"type": "integer", "minimum": 0}
    return {
        "_timestamp": {"type": "string", "pattern": moment},
        "action": {"type": "string"},
        "error": {"type": ["string", "null"], "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,99}$"},
        "eventn_ctx_event_id": {"type": "string", "pattern": uuid4},
        "extra": {"type": "object"},
        "group_id": {"type": ["string", "null"]},
        "interface": {"type": "string"},
        "os_name": {"type": "string"},
        "os_version": {"type": "string"},
        "python_version": {
            "type": "object",
            "properties": {"major": number, "minor": number, "patch": number},
            "required": ["major", "minor", "patch"],
            "additionalProperties": False,
        },
        "src": {"const": "api"},
        "tool_name": {"const": tool} if tool else {"type": "string"},
        "tool_version": {"type": "string"},
        "user_id": {"type": "string", "pattern": uuid4},
        "source_ip": {
            "description": "Only with OTEL_EXPORTER_JITSU_NO_IP=on.",
            "type": "null",
        },
        "utc_time": {
            "description": "Only where the exporter was made with utc_time=True.",
            "type": "string",
            "pattern": moment,
        },
    }
