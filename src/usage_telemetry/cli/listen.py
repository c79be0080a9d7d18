"""`listen`: a Jitsu endpoint on this machine that shows what arrives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usage_telemetry.cli.session import json_option

if TYPE_CHECKING:
    from usage_telemetry.listen import JitsuEndpoint

DEFAULT_PORT = 8001


@click.command(
    epilog="Example: usage-telemetry listen --port 8001, and in another terminal: "
    "OTEL_EXPORTER_JITSU_ENDPOINT=http://127.0.0.1:8001/api/v1/s2s/event "
    "OTEL_EXPORTER_JITSU_TOKEN=any usage-telemetry run -- evidently ui. "
    "Exit code: 0 ended by Ctrl-C, 1 the port or the file cannot be had, 2 not a loopback address."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="0: any that is free.",
)
@click.option("--token", help="Accept this token alone; default: any.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append each event to this file, one line of JSON each.",
)
@json_option
def listen(host: str, port: int, token: str | None, output: Path | None, as_json: bool) -> None:
    """Show events as they arrive, on loopback alone: for trying a tool out and for development."""
    from usage_telemetry.listen import serve, summary_line

    def show(event: dict[str, Any]) -> None:
        click.echo(json.dumps(event, sort_keys=True) if as_json else summary_line(event))

    def ready(endpoint: JitsuEndpoint) -> None:
        click.echo(f"Listening at {endpoint.url} (Ctrl-C ends it)", err=True)

    try:
        serve(host, port, show=show, token=token, jsonl=output, ready=ready)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.ClickException(str(error)) from None
