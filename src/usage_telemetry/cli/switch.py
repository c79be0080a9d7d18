"""`on` and `off`: the user's own switch, for all tools, kept in a file."""

from __future__ import annotations

import click

from usage_telemetry.cli.output import plural, print_json
from usage_telemetry.cli.session import NO, Session, json_option, pass_session


@click.command(
    epilog="Example: usage-telemetry on. Exit code: 0 on, 1 something else keeps it off."
)
@json_option
@pass_session
def on(session: Session, as_json: bool) -> None:
    """Take back `off`. What stands above it, such as DO_NOT_TRACK, goes on deciding."""
    try:
        session.switch.unlink(missing_ok=True)
    except OSError as error:
        raise click.ClickException(f"{session.switch} cannot be removed: {error}") from None
    decision = session.decision()
    if as_json:
        print_json({"enabled": decision.enabled, "decided_by": decision.link.name})
    elif decision.enabled:
        click.echo("Usage telemetry is on.")
    else:
        click.echo(
            f"The switch is on. Telemetry is still off: {decision.link.name} stands above it "
            f"({decision.link.detail})."
        )
    if not decision.enabled:
        click.get_current_context().exit(NO)


@click.command(epilog="Example: usage-telemetry off. Exit code: 0 off, 1 it is still on.")
@json_option
@pass_session
def off(session: Session, as_json: bool) -> None:
    """Switch telemetry off for all tools, at once; delete what waits. Sends nothing."""
    from opentelemetry.exporter.jitsu.private_files import write_private

    try:
        write_private(session.switch, b"")
    except OSError as error:
        raise click.ClickException(
            f"{session.switch} cannot be written: {error}. "
            "The environment variable DO_NOT_TRACK switches off without a file."
        ) from None
    thrown_away = _discard_all(session)
    decision = session.decision()
    if as_json:
        print_json(
            {
                "enabled": decision.enabled,
                "decided_by": decision.link.name,
                "thrown_away": thrown_away,
            }
        )
    elif decision.enabled:
        click.echo(
            f"The switch is off. Telemetry is still on: {decision.link.name} stands above it "
            f"({decision.link.detail})."
        )
    else:
        click.echo("Usage telemetry is off, for every tool that uses usage-telemetry.")
        click.echo(f"{plural(thrown_away, 'waiting event')} thrown away; nothing was sent.")
    if decision.enabled:
        click.get_current_context().exit(NO)


def _discard_all(session: Session) -> int:
    """Throw away what waits for any tool, also where the commands are mounted under one."""
    from usage_telemetry.cli.stored import waiting
    from usage_telemetry.waiting import empty_outbox

    number = 0
    for tool in Session(settings=session.settings).tools():
        number += sum(waiting(tool))
        empty_outbox(tool.state)
    return number
