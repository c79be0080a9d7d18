"""The same commands under a tool's own command line, in one line of code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hosts import TOOL, clean_environment
from shell import record

CLICK = (
    TOOL
    + """
import click
import usage_telemetry.cli

@click.group()
@click.pass_context
def cli(context):
    context.obj = "the host's own"

cli.add_command(usage_telemetry.cli.command("tool", telemetry), "telemetry")

@cli.command()
@click.pass_obj
def work(own):
    print(own)

cli()
"""
)

TYPER = (
    TOOL
    + """
import typer
import usage_telemetry.cli

app = typer.Typer()
usage_telemetry.cli.mount_typer(app, "tool", telemetry)

@app.command()
def work():
    print("the host's own")

app()
"""
)


@pytest.fixture(params=["click", "typer"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A tool's script."""
    script = tmp_path / "mytool.py"
    script.write_text(CLICK if request.param == "click" else TYPER)
    return script


def call(
    host: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(host), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_commands_are_those_of_usage_telemetry(home: Path, host: Path) -> None:
    environment = clean_environment(home)

    shown = call(host, environment, "telemetry", "--help")
    own = call(host, environment, "--help")

    for command in ("status", "on", "off", "preview", "log", "flush", "purge", "reset-id"):
        assert command in shown.stdout
    assert "telemetry" in own.stdout
    assert "anonymous usage telemetry of tool" in " ".join(own.stdout.split())
    assert call(host, environment, "work").stdout == "the host's own\n"


def test_options_reach_the_command_and_exit_codes_come_back(home: Path, host: Path) -> None:
    environment = clean_environment(home)

    assert call(host, environment, "telemetry", "status", "--check").returncode == 0
    assert call(host, environment, "telemetry", "off").returncode == 0
    assert call(host, environment, "telemetry", "status", "--check").returncode == 1
    wrong = call(host, environment, "telemetry", "status", "--no-such-option")
    assert wrong.returncode == 2
    assert "telemetry status" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_they_are_about_that_tool_alone(
    home: Path, environment: dict[str, str], host: Path
) -> None:
    record(environment, 1)
    (home / "config" / "usage-telemetry" / "other").mkdir()
    (home / "config" / "usage-telemetry" / "other" / "user_id").write_text("")

    told = json.loads(call(host, environment, "telemetry", "status", "--json").stdout)
    event = json.loads(call(host, environment, "telemetry", "preview", "startup").stdout)

    assert [tool["tool"] for tool in told["tools"]] == ["tool"]
    assert (event["tool_name"], event["tool_version"]) == ("tool", "1.2.3")


def test_the_tools_own_switch_is_in_the_chain(home: Path, host: Path) -> None:
    host.write_text(host.read_text().replace("catalog)\n", "catalog, enabled=lambda: False)\n", 1))

    told = json.loads(call(host, clean_environment(home), "telemetry", "status", "--json").stdout)

    assert told["decided_by"] == "the tool's own switch"
    assert told["enabled"] is False
