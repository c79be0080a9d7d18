"""`status`: on or off, who decides, where events go, what waits, where the files are."""

from __future__ import annotations

import time
from typing import Any

import click
from opentelemetry.exporter.jitsu.inspection import (
    DestinationState,
    address_of,
    is_encrypted,
)

from usage_telemetry.cli.output import heading, moment, plural, print_json, print_rows
from usage_telemetry.cli.session import (
    NO,
    Session,
    ToolFolders,
    json_option,
    pass_session,
    tool_option,
)
from usage_telemetry.cli.stored import outbox_of, spooled
from usage_telemetry.consent import Decision
from usage_telemetry.identity import read_user_id


@click.command(
    epilog="Examples: usage-telemetry status; usage-telemetry status --check && echo on. "
    "Exit code: 0; with --check 0 on, 1 off; 2 a setting that cannot be used."
)
@tool_option
@json_option
@click.option("--check", is_flag=True, help="Say it by the exit code alone: 0 on, 1 off.")
@pass_session
def status(session: Session, tool: str | None, as_json: bool, check: bool) -> None:
    """Whether usage is reported, who decided that, where it goes and what waits.

    Reads only: nothing is sent, no file is made or changed.
    """
    session.require_valid_settings()
    decision = session.decision()
    if check:
        click.get_current_context().exit(0 if decision.enabled else NO)
    tools = [_facts(folders) for folders in session.tools(tool)]
    if as_json:
        print_json(_as_json(session, decision, tools))
    else:
        _print(session, decision, tools)


def _facts(tool: ToolFolders) -> dict[str, Any]:
    outbox, problem = outbox_of(tool)
    left = spooled(tool)
    return {
        "tool": tool.name,
        "user_id": read_user_id(tool.user_id),
        "destinations": [_destination(found) for found in outbox.destinations],
        "waiting": {
            "total": outbox.waiting + left,
            "outbox": outbox.waiting,
            "spool": left,
            "oldest": moment(outbox.oldest) if outbox.oldest is not None else None,
        },
        "sent": outbox.sent,
        "counters": outbox.counters,
        "problem": problem or None,
        "files": {
            "user_id": str(tool.user_id),
            "outbox": str(tool.outbox),
            "spool": str(tool.state / "spool"),
        },
    }


def _destination(found: DestinationState) -> dict[str, Any]:
    rests = found.rests_until > time.time()
    return {
        "address": found.address,
        "encrypted": found.encrypted,
        "waiting": found.waiting,
        "rests_until": moment(found.rests_until) if rests else None,
        "reason": found.reason or None,
    }


def _as_json(session: Session, decision: Decision, tools: list[dict[str, Any]]) -> dict[str, Any]:
    endpoint = session.settings.jitsu_endpoint
    return {
        "enabled": decision.enabled,
        "decided_by": decision.link.name,
        "chain": [
            {
                "name": link.name,
                "verdict": _word(link.verdict),
                "detail": link.detail,
                "decides": link is decision.link,
            }
            for link in decision.chain
        ],
        "waiting_is_sent": decision.enabled,
        "exporters": list(session.settings.exporters),
        "endpoint_from_environment": None
        if endpoint is None
        else {"address": address_of(endpoint), "encrypted": is_encrypted(endpoint)},
        "tools": tools,
        "files": {"switch": str(session.switch), "state": str(session.state)},
    }


def _print(session: Session, decision: Decision, tools: list[dict[str, Any]]) -> None:
    heading(f"Usage telemetry is {'on' if decision.enabled else 'off'}.")
    click.echo(f"Decided by: {decision.link.name} ({decision.link.detail})")
    if not decision.enabled:
        click.echo(_fate_of_waiting(decision, sum(tool["waiting"]["total"] for tool in tools)))
    click.echo()
    heading("Who decides, the strongest first")
    rows = [
        (link.name, _word(link.verdict) or "-", link.detail, "decides" * (link is decision.link))
        for link in decision.chain
    ]
    print_rows(rows, strong=decision.chain.index(decision.link))
    click.echo()
    heading("Where events go")
    print_rows(_ways(session))
    for tool in tools:
        click.echo()
        heading(tool["tool"])
        print_rows(_tool_rows(tool))
    if not tools:
        click.echo()
        click.echo("No tool has kept anything here yet.")
    click.echo()
    heading("Files")
    print_rows([("switch", str(session.switch)), ("state", str(session.state))])


def _fate_of_waiting(decision: Decision, number: int) -> str:
    if not number:
        return "Nothing waits, and nothing is recorded."
    if decision.opted_out_by_user:
        return (
            f"{plural(number, 'event')} from earlier runs: never sent while this holds, and "
            "deleted by the next run of the tool, or now by `usage-telemetry off`."
        )
    return f"{plural(number, 'event')} from earlier runs: not sent while this holds."


def _ways(session: Session) -> list[tuple[str, str]]:
    rows = [("exporter", ", ".join(session.settings.exporters))]
    endpoint = session.settings.jitsu_endpoint
    if endpoint is not None:
        rows.append(
            ("OTEL_EXPORTER_JITSU_ENDPOINT", _address(address_of(endpoint), is_encrypted(endpoint)))
        )
    for name, otlp in session.settings.otlp.items():
        # A gRPC target need not have a scheme; then it is one with TLS.
        url = otlp.endpoint if "://" in otlp.endpoint else f"https://{otlp.endpoint}"
        where = _address(address_of(url), is_encrypted(url))
        rows.append((name, f"{where} ({otlp.protocol})"))
    return rows


def _tool_rows(tool: dict[str, Any]) -> list[tuple[str, str]]:
    waits = tool["waiting"]
    text = f"{waits['total']} (outbox {waits['outbox']}, spool {waits['spool']})"
    if waits["oldest"]:
        text += f", the oldest since {waits['oldest']}"
    rows = [("user id", tool["user_id"] or "none yet")]
    for found in tool["destinations"]:
        line = _address(found["address"], found["encrypted"])
        if found["rests_until"]:
            line += f", left alone until {found['rests_until']} ({found['reason']})"
        rows.append(("destination", line))
    if not tool["destinations"]:
        rows.append(("destination", "none used yet"))
    counters = ", ".join(f"{name} {value}" for name, value in tool["counters"].items())
    rows += [("waiting", text), ("counters", counters or "none")]
    if tool["problem"]:
        rows.append(("problem", tool["problem"]))
    return [*rows, *tool["files"].items()]


def _address(address: str, encrypted: bool) -> str:
    return address if encrypted else f"{address} (unencrypted)"


def _word(verdict: bool | None) -> str | None:
    return None if verdict is None else "on" if verdict else "off"
