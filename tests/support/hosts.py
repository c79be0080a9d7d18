"""Host processes for tests: an environment of their own, and a script or command run in it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

SETTINGS_OF_THE_MACHINE = (
    "CI",
    "DO_NOT_TRACK",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
)
PREFIXES = ("OTEL_", "USAGE_TELEMETRY", "PYTEST_", "TOX_", "NOX_")


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """What a new user's shell has: folders below `home`, and no setting that concerns us."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in SETTINGS_OF_THE_MACHINE and not name.startswith(PREFIXES)
    }
    scripts = str(Path(sys.executable).parent)
    return {
        **kept,
        "PATH": scripts + os.pathsep + kept.get("PATH", ""),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
        **more,
    }


def jitsu_settings(url: str) -> dict[str, str]:
    """The variables that send events to a local endpoint."""
    return {"OTEL_EXPORTER_JITSU_ENDPOINT": url, "OTEL_EXPORTER_JITSU_TOKEN": "write-key"}


def run_python(
    script: str, environment: Mapping[str, str], *arguments: str, timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a script in a new process and wait for it; its output is kept apart."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def start_python(
    script: str, environment: Mapping[str, str], *arguments: str
) -> subprocess.Popen[str]:
    """Start a script in a new process; its output can be read from pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_command(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start a command; what it prints goes to the file `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            list(command), env=dict(environment), stdout=output, stderr=subprocess.STDOUT
        )


TOOL = """
from usage_telemetry import Action, Catalog, Choice, Count, Flag, Names, Telemetry

catalog = Catalog([
    Action("startup", "The service started."),
    Action("list_projects", "The list was opened.", project_count=Count("Projects.")),
])
telemetry = Telemetry("tool", "1.2.3", "service_backend", catalog)
"""
"""A tool as its author would write it; the endpoint comes from the environment."""
