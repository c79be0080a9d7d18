"""`log`: what was sent from this machine."""

from __future__ import annotations

import json
import time
from typing import Any

import click
from opentelemetry.exporter.jitsu.inspection import SentEvent, sent_events
from opentelemetry.exporter.jitsu.outbox import OutboxUnusable

from usage_telemetry.cli.output import moment, on_terminal, printable
from usage_telemetry.cli.session import (
    Session,
    ToolFolders,
    json_option,
    pass_session,
    tool_option,
)

POLL_S = 0.5
"""How soon `--follow` shows what was sent: a glance at a small file, twice a second."""


@click.command(
    epilog="Examples: usage-telemetry log; usage-telemetry log --follow; "
    "usage-telemetry log --json | jq .event. Exit code: 0, also where nothing was sent."
)
@tool_option
@json_option
@click.option("--follow", "-f", is_flag=True, help="Go on showing what is sent, until Ctrl-C.")
@pass_session
def log(session: Session, tool: str | None, as_json: bool, follow: bool) -> None:
    """What was sent from here: time, tool, action, destination, event. Kept for 30 days.

    With --json one line of JSON each, the whole event in it. Reads only.
    """
    seen: set[str] = set()
    since: dict[str, float] = {}
    try:
        while True:
            for name, sent in _news(session.tools(tool), since):
                if sent.id not in seen:
                    seen.add(sent.id)
                    _show(name, sent, as_json)
            if not follow:
                break
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        return
    if not seen and not as_json:
        click.echo("Nothing was sent from here in the last 30 days.", err=True)


def _news(tools: list[ToolFolders], since: dict[str, float]) -> list[tuple[str, SentEvent]]:
    """What was sent since the last look (and once more what came at the very same moment)."""
    found: list[tuple[str, SentEvent]] = []
    for tool in tools:
        try:
            events = sent_events(tool.outbox, since.get(tool.name, 0.0))
        except OutboxUnusable as error:
            if tool.name not in since:
                click.echo(f"{tool.name}: {error}", err=True)
            since.setdefault(tool.name, 0.0)
            continue
        found += [(tool.name, event) for event in events]
        since[tool.name] = max([since.get(tool.name, 0.0), *(event.sent_at for event in events)])
    return sorted(found, key=lambda pair: pair[1].sent_at)


def _show(tool: str, sent: SentEvent, as_json: bool) -> None:
    if as_json:
        entry: dict[str, Any] = {
            "sent_at": moment(sent.sent_at),
            "tool": tool,
            "action": sent.event.get("action"),
            "destination": sent.address,
            "event": sent.event,
        }
        click.echo(json.dumps(entry))
        return
    action = str(sent.event.get("action"))
    line = f"{moment(sent.sent_at)}  {tool}  {action:<24}  {sent.address}"
    event = json.dumps(sent.event, ensure_ascii=False)
    if on_terminal():
        click.secho(printable(line), bold=True)
        click.echo(f"    {printable(event)}")
    else:
        click.echo(printable(f"{line}  {event}"))
