"""`run`: a program started unchanged, with usage telemetry in it."""

from __future__ import annotations

import click

from usage_telemetry.cli.session import USAGE, Session, pass_session


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example: usage-telemetry run -- evidently ui --workspace ./workspace. "
    "Exit code: the program's own; 2 it cannot be started.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_session
def run(session: Session, command: tuple[str, ...]) -> None:
    """Start COMMAND, a Python program such as `evidently ui`, with no change to its code."""
    from usage_telemetry.instrumentation.launch import LaunchError, launch

    try:
        session.require_valid_settings()
    except click.UsageError as error:  # no reason to keep the program from its work
        click.echo(f"Usage telemetry stays off: {error.message}", err=True)
    try:
        code = launch(list(command))
    except LaunchError as error:
        click.echo(f"Error: {error}", err=True)
        code = USAGE
    except OSError as error:
        click.echo(f"Error: {command[0]} cannot be started: {error}", err=True)
        code = USAGE
    click.get_current_context().exit(code)
