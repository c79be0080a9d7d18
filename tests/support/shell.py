"""The real command line in a process of its own, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from hosts import TOOL, run_python


def usage_telemetry(
    environment: Mapping[str, str], *arguments: str, typed: str = "", folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`usage-telemetry ARGUMENTS`, its output in pipes."""
    return subprocess.run(
        [sys.executable, "-m", "usage_telemetry", *arguments],
        env=dict(environment),
        cwd=folder,
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def record(environment: Mapping[str, str], count: int = 3) -> None:
    """A run of a tool, named `tool`, that records `count` actions and ends."""
    script = TOOL + (
        f"for number in range({count}):\n"
        "    telemetry.record('list_projects', project_count=number)\n"
        "telemetry.flush(timeout=5)\n"
    )
    done = run_python(script, environment)
    assert done.returncode == 0, done.stderr


def everything_below(folder: Path) -> dict[str, bytes]:
    """Path -> content of all files, to see whether a command changed anything."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def terminal(environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """`usage-telemetry ARGUMENTS` on a pseudo-terminal; its exit code and what it showed."""
    import pty

    pid, terminal_fd = pty.fork()
    if pid == 0:
        command = [sys.executable, "-m", "usage_telemetry", *arguments]
        os.execve(sys.executable, command, dict(environment))
    shown = b""
    while True:
        try:
            chunk = os.read(terminal_fd, 65536)
        except OSError:  # Linux says so when the other end has closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(terminal_fd)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()
