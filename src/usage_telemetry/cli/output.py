"""How commands speak: tables and colour on a terminal, plain text in a pipe, JSON on request."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime, timezone

import click


def on_terminal() -> bool:
    """Whether a person reads along."""
    return sys.stdout.isatty()


def print_json(value: object) -> None:
    """Indented for a person, one line for a program."""
    click.echo(json.dumps(value, indent=2 if on_terminal() else None))


def print_rows(
    rows: Sequence[Sequence[str]], *, indent: int = 2, strong: int | None = None
) -> None:
    """Columns, aligned.

    Args:
        rows: Cells, as many in each row.
        indent: Spaces before the first column.
        strong: Index of the row to stand out on a terminal.
    """
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for index, row in enumerate(rows):
        cells = [printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = (" " * indent + "  ".join(cells)).rstrip()
        click.secho(line, bold=True if index == strong and on_terminal() else None)


def print_event(event: bytes) -> None:
    """An event as a person reads it."""
    text = json.dumps(json.loads(event), indent=2, ensure_ascii=False)
    if not on_terminal():
        click.echo(text)
        return
    from rich.console import Console
    from rich.syntax import Syntax

    Console().print(Syntax(text, "json", background_color="default", word_wrap=True))


def heading(text: str) -> None:
    """A line that begins a section."""
    click.secho(text, bold=True)


def moment(seconds: float) -> str:
    """UTC, to the second, as people and programs both can read it."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def printable(text: str) -> str:
    """Without anything that a terminal could act upon."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def plural(number: int, noun: str) -> str:
    """`1 event`, `2 events`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
