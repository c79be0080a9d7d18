"""`purge` and `reset-id`: what is kept on this machine is the user's to delete."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

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

_OURS = {
    "": re.compile(r"outbox\.(db|db-journal|db-wal|db-shm|lock|corrupt)|\.?user_id.*"),
    "runs": re.compile(r"[0-9a-f]{24}"),
    "spool": re.compile(r"lock|\.?[0-9]{20}-[0-9a-f]{8}(-[0-9])?\.jsonl.*"),
}
"""Folder below a tool's -> the names we give to files there. Nothing else is ever deleted:
USAGE_TELEMETRY_HOME may name a folder with other things in it."""


@click.command(
    epilog="Examples: usage-telemetry purge; usage-telemetry purge --yes --tool evidently. "
    "Exit code: 0 deleted, 1 declined or nothing there."
)
@tool_option
@json_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@pass_session
def purge(session: Session, tool: str | None, as_json: bool, yes: bool) -> None:
    """Delete everything kept here: what waits, the log of what was sent, counters, the user id.

    Your `off` stays: deleting it would switch telemetry on.
    """
    tools = session.tools(tool)
    files = [path for folders in tools for path in _files(folders)]
    context = click.get_current_context()
    if not files:
        _tell(as_json, 0, "Nothing is kept here.")
        context.exit(NO)
    names = ", ".join(folders.name for folders in tools)
    if not yes and not click.confirm(
        f"Delete {plural(len(files), 'file')} of {names}, the user id among them?", err=True
    ):
        _tell(as_json, 0, "Nothing was deleted.")
        context.exit(NO)
    failed = [f"{path}: {error}" for path in files if (error := _unlink(path))]
    for folders in tools:
        _remove_empty_folders(folders)
    _tell(as_json, len(files) - len(failed), f"{plural(len(files) - len(failed), 'file')} deleted.")
    if failed:
        raise click.ClickException("; ".join(failed))


@click.command(
    "reset-id",
    epilog="Example: usage-telemetry reset-id. Exit code: 0 the next event has a new id, "
    "1 there was none.",
)
@tool_option
@json_option
@pass_session
def reset_id(session: Session, tool: str | None, as_json: bool) -> None:
    """Forget the user id: a new one, unrelated to it, is made with the next event recorded.

    A tool that runs right now keeps the old one until it ends.
    """
    tools = [found for found in session.tools(tool) if os.path.lexists(found.user_id)]
    for found in tools:
        if error := _unlink(found.user_id):
            raise click.ClickException(f"{found.user_id}: {error}")
    names = [found.name for found in tools]
    if as_json:
        print_json({"reset": names})
    elif names:
        click.echo(f"Forgotten: the user id of {', '.join(names)}.")
    else:
        click.echo("There is no user id here.")
    if not names:
        click.get_current_context().exit(NO)


def _tell(as_json: bool, deleted: int, line: str) -> None:
    if as_json:
        print_json({"deleted": deleted})
    else:
        click.echo(line)


def _files(tool: ToolFolders) -> Iterator[Path]:
    yield from _ours(tool.config, "")
    yield from _ours(tool.state, "")
    yield from _ours(tool.state / "runs", "runs")
    for spool in _children(tool.state / "spool"):
        yield from _ours(spool, "spool")


def _ours(folder: Path, kind: str) -> Iterator[Path]:
    return (path for path in _children(folder) if _OURS[kind].fullmatch(path.name))


def _children(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where it is a link to somewhere else."""
    try:
        return [] if folder.is_symlink() else sorted(folder.iterdir())
    except OSError:
        return []


def _unlink(path: Path) -> str:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return str(error.strerror or error)
    return ""


def _remove_empty_folders(tool: ToolFolders) -> None:
    spool = tool.state / "spool"
    for folder in (*_children(spool), spool, tool.state / "runs", tool.state, tool.config):
        try:
            folder.rmdir()
        except OSError:  # not there, or something of somebody else's is in it
            continue
