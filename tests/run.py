"""All checks of the project, in an environment that this makes: lint, types, tests.

    python3 tests/run.py                     everything a change has to pass
    python3 tests/run.py tests/test_x.py -k y    pytest alone, with these arguments

In CI (the variable CI is set) the tests behind the marks run as well: older releases of Evidently
in environments of their own, and whatever takes long. See docs/development.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".ci"))

from environment import prepare, say  # noqa: E402 - it lies beside the CI script

CHECKS = (
    ("Lint", ["ruff", "check", "."]),
    ("Format", ["ruff", "format", "--check", "."]),
    ("Types", ["mypy"]),
)


def main(arguments: list[str]) -> int:
    """Run the checks; the exit code of the first that fails, else 0."""
    python = prepare(["dev", "evidently", "examples", "otlp"])
    scripts = python.parent
    if not arguments:
        for name, command in CHECKS:
            say(name)
            done = subprocess.run([str(scripts / command[0]), *command[1:]], cwd=ROOT)
            if done.returncode:
                return done.returncode
        # A file's tests stay together: some share a real server that takes long to start.
        arguments = ["-n", "2", "--dist", "loadfile"]
        if os.environ.get("CI"):
            arguments += ["-m", ""]
    say("Tests")
    return subprocess.run([str(python), "-m", "pytest", *arguments], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
