"""The command line: `usage-telemetry`, and the same commands mounted under a tool's own.

Each command imports what it needs when it runs, so that `--help` and `status` answer at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from usage_telemetry import __version__
from usage_telemetry.cli.describe import catalog
from usage_telemetry.cli.flush import flush
from usage_telemetry.cli.forget import purge, reset_id
from usage_telemetry.cli.listen import listen
from usage_telemetry.cli.log import log
from usage_telemetry.cli.preview import preview
from usage_telemetry.cli.run import run
from usage_telemetry.cli.session import Session
from usage_telemetry.cli.status import status
from usage_telemetry.cli.switch import off, on

if TYPE_CHECKING:
    from usage_telemetry.telemetry import Telemetry

__all__ = ["command", "main", "mount_typer"]

_COMMANDS = (status, on, off, preview, log, flush, purge, reset_id, catalog, listen)
_EXIT_CODES = (
    "Exit codes: 0 done, 1 the answer is no or nothing was done, 2 wrong usage or setting."
)


def command(tool: str, telemetry: Telemetry | None = None) -> click.Group:
    """The same commands for one tool, to be mounted under its own command line.

    With click: ``cli.add_command(usage_telemetry.cli.command("mytool"), "telemetry")``.

    Args:
        tool: The name that the tool's `Telemetry` has.
        telemetry: That object; with it, `status` knows the tool's own switch, and `preview` and
            `catalog` its actions. Otherwise the entry-point group ``usage_telemetry_catalog``
            tells the actions.
    """

    @click.pass_context
    def begin(context: click.Context) -> None:
        context.obj = Session(tool, telemetry)

    return click.Group(
        "telemetry",
        {str(part.name): part for part in _COMMANDS},
        callback=begin,
        help=f"The anonymous usage telemetry of {tool}: see it, switch it, delete it.",
        epilog=_EXIT_CODES,
    )


def mount_typer(
    app: Any, tool: str, telemetry: Telemetry | None = None, *, name: str = "telemetry"
) -> None:
    """Mount the commands of `command` under a Typer app.

    Typer has come with a click of its own since 0.26, which takes no command of another click;
    so its command hands the words after its name on to ours.

    Args:
        app: The ``typer.Typer`` to mount under.
        tool: As in `command`.
        telemetry: As in `command`.
        name: What the command is called there.
    """
    import typer

    def hand_on(context: typer.Context) -> None:
        command(tool, telemetry).main(context.args, prog_name=context.command_path)

    hand_on.__annotations__ = {"context": typer.Context, "return": None}
    app.command(
        name,
        help=f"The anonymous usage telemetry of {tool}: see it, switch it, delete it.",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(hand_on)


@click.group(epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="usage-telemetry")
@click.pass_context
def main(context: click.Context) -> None:
    """See and decide what tools report about their use: honest, anonymous usage telemetry.

    Examples: `usage-telemetry status`, `usage-telemetry off`, `usage-telemetry preview`.
    """
    context.obj = Session()


for _command in (run, *_COMMANDS):
    main.add_command(_command)
