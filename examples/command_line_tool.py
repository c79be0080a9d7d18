"""A command-line tool that reports which of its commands are used, and lets its users decide.

pip install usage-telemetry
python3 examples/command_line_tool.py count README.md
python3 examples/command_line_tool.py telemetry status
"""

from pathlib import Path

import click

from usage_telemetry import Action, Catalog, Choice, Telemetry
from usage_telemetry.cli import command

catalog = Catalog(
    [
        Action(
            "count",
            "Words or lines of a file were counted.",
            unit=Choice("What was counted.", ["words", "lines"]),
        ),
    ]
)
telemetry = Telemetry("counter", "1.0", "cli", catalog)


@click.group()
def main() -> None:
    """Count things in files."""


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--lines", is_flag=True)
def count(file: Path, lines: bool) -> None:
    """Count the words of FILE, or its lines."""
    with telemetry.action("count", unit="lines" if lines else "words"):
        text = file.read_text()
        click.echo(len(text.splitlines() if lines else text.split()))


main.add_command(command("counter", telemetry), "telemetry")

if __name__ == "__main__":
    main()
