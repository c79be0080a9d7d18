"""`flush`: deliver now what waits, to where each event was meant to go."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from usage_telemetry.cli.output import plural, print_json
from usage_telemetry.cli.session import (
    NO,
    Session,
    ToolFolders,
    json_option,
    pass_session,
    tool_option,
)
from usage_telemetry.cli.stored import outbox_of, waiting

POLL_S = 0.2
"""How soon to look again while a running tool delivers the same outbox."""

Progress = Callable[[int], None]


@click.command(
    epilog="Examples: usage-telemetry flush; usage-telemetry flush --timeout 60. "
    "Exit code: 0 nothing waits any more, 1 something does, or telemetry is off."
)
@tool_option
@json_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds to try for.",
)
@pass_session
def flush(session: Session, tool: str | None, as_json: bool, timeout_s: float) -> None:
    """Deliver now what waits on this machine. Sends nothing where telemetry is off."""
    session.require_valid_settings()
    tools = session.tools(tool)
    decision = session.decision()
    results: list[dict[str, Any]] = []
    if not decision.enabled:
        if decision.opted_out_by_user:
            _discard(tools)
        if not as_json:
            click.echo(f"Telemetry is off ({decision.link.name}): nothing is sent.")
    else:
        deadline = time.monotonic() + timeout_s
        for folders in tools:
            results.append(_flush(session, folders, deadline, quiet=as_json))
    left = sum(sum(waiting(folders)) for folders in tools)
    if as_json:
        print_json({"enabled": decision.enabled, "tools": results, "waiting": left})
    elif decision.enabled and not tools:
        click.echo("Nothing waits.")
    if left or not decision.enabled:
        click.get_current_context().exit(NO)


def _discard(tools: list[ToolFolders]) -> None:
    """As the tool itself does when it finds its user opted out."""
    from usage_telemetry.waiting import empty_outbox

    for folders in tools:
        empty_outbox(folders.state)


def _flush(session: Session, tool: ToolFolders, deadline: float, *, quiet: bool) -> dict[str, Any]:
    before = sum(waiting(tool))
    counts: Counter[str] = Counter()
    if before:
        lock = threading.Lock()
        with _progress(f"{tool.name}: delivering", before, quiet=quiet) as advance:

            def count(name: str, number: int) -> None:
                with lock:
                    counts[name] += number
                if name == "sent" or name.startswith("given_up:"):
                    advance(number)

            _take_spools(session, tool)
            _deliver(session, tool, deadline, count, counts)
    outbox, spooled = waiting(tool)
    problem = _problem(tool, outbox, spooled)
    if not quiet:
        line = f"{tool.name}: {counts['sent']} sent, {outbox + spooled} waiting"
        click.echo(f"{line} ({problem})" if problem else line)
    return {"tool": tool.name, **counts, "waiting": outbox + spooled, "problem": problem or None}


def _problem(tool: ToolFolders, outbox: int, spooled: int) -> str:
    if outbox:
        state, unreadable = outbox_of(tool)
        reasons = {found.reason for found in state.destinations if found.waiting and found.reason}
        return unreadable or ", ".join(sorted(reasons)) or "not delivered in time"
    return "the next run of the tool takes these over" if spooled else ""


def _deliver(
    session: Session,
    tool: ToolFolders,
    deadline: float,
    count: Callable[[str, int], None],
    counts: Counter[str],
) -> None:
    from opentelemetry.exporter.jitsu.configuration import DEFAULT_TIMEOUT_S
    from opentelemetry.exporter.jitsu.inspection import destinations
    from opentelemetry.exporter.jitsu.outbox import Outbox, OutboxUnusable
    from opentelemetry.exporter.jitsu.sender import Sender

    outbox = Outbox(tool.outbox)
    try:
        found = destinations(tool.outbox, with_waiting=True)
    except OutboxUnusable as error:
        click.echo(f"{tool.name}: {error}", err=True)
        return
    request_timeout_s = session.settings.jitsu_timeout_s or DEFAULT_TIMEOUT_S
    for destination in found:
        sender = Sender(
            outbox,
            destination,
            request_timeout_s,
            lambda: session.decision().enabled,
            count,
        )
        while time.monotonic() < deadline:
            requests = counts["requests"]
            if sender.flush(deadline - time.monotonic()):
                break
            if counts["requests"] > requests:  # tried, and the endpoint did not take it
                break
            time.sleep(POLL_S)  # another process delivers, or the endpoint asked for silence
        sender.stop()


def _take_spools(session: Session, tool: ToolFolders) -> None:
    """Bring what ended processes left into the outbox, where it is clear where it goes."""
    from opentelemetry.exporter.jitsu.inspection import destinations
    from opentelemetry.exporter.jitsu.outbox import Outbox, OutboxUnusable

    folder = tool.state / "spool" / "jitsu"
    outbox = Outbox(tool.outbox)
    outbox.adopt()
    try:
        found = destinations(tool.outbox)
    except OutboxUnusable:
        return
    endpoint, token = session.settings.jitsu_endpoint, session.settings.jitsu_token
    if len(found) == 1:
        endpoint, token = endpoint or found[0].endpoint, token or found[0].token
    from usage_telemetry import spool

    if not (endpoint and token) or not spool.waiting(folder):
        return
    from opentelemetry.exporter.jitsu.event import EventRefused, encode, event_from_span
    from opentelemetry.exporter.jitsu.outbox import Destination, Event

    from usage_telemetry.spans import Spans

    destination = Destination(endpoint, token)
    for resource, records in spool.replay(folder):
        events = []
        for span in Spans(resource).make(records):
            event = event_from_span(span, no_ip=session.settings.jitsu_no_ip)
            with suppress(EventRefused):  # as the exporter does: it is given up
                if event is not None:
                    events.append(
                        Event(event["eventn_ctx_event_id"], event["_timestamp"], encode(event))
                    )
        outbox.append(destination, events, time.time())


@contextmanager
def _progress(title: str, total: int, *, quiet: bool) -> Iterator[Progress]:
    import sys

    if quiet or not sys.stderr.isatty():
        if not quiet:
            click.echo(f"{title} {plural(total, 'event')}", err=True)
        yield lambda number: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda number: bar.advance(task, number)
