"""Makes the project's environment in .venv from the lock file, with nothing but Python's stdlib.

    python3 .ci/environment.py [GROUP ...]

uv is installed into .venv/bin first, and then installs what uv.lock says: the packages of this
workspace, and the dependency groups that are named. It is quick where nothing has changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = "uv >= 0.8, < 1"


def prepare(groups: Sequence[str]) -> Path:
    """Make or update the environment; returns its Python.

    Args:
        groups: Dependency groups of pyproject.toml to install beside the packages.

    Raises:
        SystemExit: This Python is too old, or a step failed; its output is on the screen.
    """
    if sys.version_info < (3, 10):
        raise SystemExit(f"Python 3.10 or later is needed; this is {sys.version.split()[0]}")
    folder = ROOT / ".venv"
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    if not python.exists():
        say(f"Making an environment in {folder.name} (Python {sys.version.split()[0]}) ...")
        venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    uv = scripts / ("uv.exe" if os.name == "nt" else "uv")
    if not uv.exists():
        say("Installing uv, which installs the rest ...")
        run([str(python), "-m", "pip", "install", "--quiet", UV])
    say(f"Installing what uv.lock says: usage-telemetry {' '.join(('and', *groups))} ...")
    wanted = [argument for group in groups for argument in ("--group", group)]
    run(
        [str(uv), "sync", "--locked", "--inexact", "--no-default-groups", *wanted],
        UV_PROJECT_ENVIRONMENT=str(folder),
        UV_PYTHON_DOWNLOADS="never",
        UV_PYTHON=str(python),
    )
    return python


def say(text: str) -> None:
    """A line of progress, on the screen at once."""
    print(f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text, flush=True)


def run(command: Sequence[str], **environment: str) -> None:
    """Run a step in the project's folder, its output on the screen.

    Raises:
        SystemExit: It failed.
    """
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False)
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    prepare(sys.argv[1:])
