"""`preview`: the bytes that would be sent, made as they are made for sending; nothing is sent."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from usage_telemetry.cli.catalogs import Declared, declared
from usage_telemetry.cli.output import heading, on_terminal, print_event
from usage_telemetry.cli.session import Session, pass_session
from usage_telemetry.identity import read_user_id

if TYPE_CHECKING:
    from usage_telemetry.catalog import Action

PLACEHOLDER_ID = "00000000-0000-4000-8000-000000000000"
"""Stands for the user id where none has been made yet."""
PLACEHOLDER_VERSION = "0.0.0"


@click.command(
    epilog="Examples: usage-telemetry preview; usage-telemetry preview list_projects; "
    "usage-telemetry preview list_projects | wc -c. "
    "Exit code: 0; 2 an unknown action or tool, or a setting that cannot be used."
)
@click.argument("action", required=False)
@click.option("--tool", metavar="NAME", help="The tool whose events to show.")
@click.option(
    "--catalog", "reference", metavar="MODULE:NAME", help="Its catalog, if not installed."
)
@click.option("--raw", "--json", "raw", is_flag=True, help="The exact bytes, on a terminal too.")
@click.option("--no-ip", is_flag=True, help="As with OTEL_EXPORTER_JITSU_NO_IP=on.")
@pass_session
def preview(
    session: Session,
    action: str | None,
    tool: str | None,
    reference: str | None,
    raw: bool,
    no_ip: bool,
) -> None:
    """The exact bytes that would be sent for ACTION, or for all actions as one request.

    Extras have the catalog's example values. In a pipe these are the bytes of the request's body,
    without a line end. Nothing is sent, no file is made or changed.
    """
    session.require_valid_settings()
    found = declared(session, tool, reference)
    actions = _choose(found, action)
    no_ip = no_ip or session.settings.jitsu_no_ip
    bodies = [_body(session, found, chosen, no_ip) for chosen in actions]
    if raw or not on_terminal():
        from opentelemetry.exporter.jitsu.client import encode_batch

        sys.stdout.buffer.write(encode_batch(bodies))
        return
    for chosen, body in zip(actions, bodies, strict=True):
        heading(f"{chosen.name}: {chosen.description} ({len(body)} bytes)")
        print_event(body)


def _choose(found: Declared, action: str | None) -> list[Action]:
    from usage_telemetry.catalog import UndeclaredError

    if action is None:
        return list(found.catalog)
    try:
        return [found.catalog[action]]
    except UndeclaredError as error:
        raise click.UsageError(str(error)) from None


def _body(session: Session, found: Declared, action: Action, no_ip: bool) -> bytes:
    from opentelemetry.exporter.jitsu.event import EventRefused, encode

    from usage_telemetry.page import example_event

    user_id = read_user_id(session.folders(found.tool).user_id)
    if user_id is None:
        _say_once(f"{PLACEHOLDER_ID} stands for the user id: none has been made yet")
    if found.version is None:
        _say_once(
            f"{PLACEHOLDER_VERSION} stands for the version: {found.tool} is not installed here"
        )
    event = example_event(
        action,
        tool=found.tool,
        version=found.version or PLACEHOLDER_VERSION,
        interface=found.interface,
        user_id=user_id or PLACEHOLDER_ID,
        group_id=found.group_id,
        time_ns=time.time_ns(),
        no_ip=no_ip,
    )
    try:
        return encode(event)
    except EventRefused as error:
        raise click.ClickException(f"{action.name}: {error}") from None


def _say_once(line: str) -> None:
    context = click.get_current_context()
    said: set[str] = context.meta.setdefault(f"{__name__}.said", set())
    if line not in said:
        said.add(line)
        click.echo(line, err=True)
