"""`catalog`: the "what is collected" page, or the JSON Schema of every event."""

from __future__ import annotations

import json
from pathlib import Path

import click

from usage_telemetry.cli.catalogs import declared
from usage_telemetry.cli.session import NO, Session, json_option, pass_session


@click.command(
    epilog="Examples: usage-telemetry catalog > docs/what-is-collected.md; "
    "usage-telemetry catalog --check docs/what-is-collected.md; "
    "usage-telemetry catalog --json > event.schema.json. "
    "Exit code: 0; 1 --check finds a difference; 2 no such catalog."
)
@click.option("--tool", metavar="NAME", help="The tool whose page to write.")
@click.option(
    "--catalog", "reference", metavar="MODULE:NAME", help="Its catalog, if not installed."
)
@json_option
@click.option(
    "--check",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write nothing; compare with this file.",
)
@pass_session
def catalog(
    session: Session, tool: str | None, reference: str | None, as_json: bool, check: Path | None
) -> None:
    """What a tool may record, as a page in Markdown; with --json as JSON Schema (2020-12)."""
    from usage_telemetry.page import event_schema, what_is_collected

    found = declared(session, tool, reference)
    if as_json:
        text = json.dumps(event_schema(found.catalog, tool=found.tool), indent=2) + "\n"
    else:
        text = what_is_collected(found.catalog, tool=found.tool, interface=found.interface)
    if check is None:
        click.echo(text, nl=False)
        return
    try:
        same = check.read_text(encoding="utf-8") == text
    except OSError as error:
        raise click.ClickException(f"{check} cannot be read: {error}") from None
    if not same:
        click.echo(f"{check} differs from the catalog; write it anew with this command.", err=True)
        click.get_current_context().exit(NO)
