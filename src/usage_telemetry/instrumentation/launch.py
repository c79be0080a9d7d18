"""`usage-telemetry run`: a Python program started unchanged, with our instrumentations in it.

The way of `opentelemetry-instrument`, for our instrumentations alone: a folder with a
`sitecustomize` module is put in front of PYTHONPATH, so that the program and its worker processes
import it at their start. It sets hooks and imports nothing of OpenTelemetry.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger("usage_telemetry")

BOOTSTRAP = str(Path(__file__).parent / "bootstrap")


class LaunchError(Exception):
    """The command cannot be started; the message says why and what to do."""


def launch(command: Sequence[str]) -> int:
    """Replace this process with `command`, instrumented.

    Raises:
        LaunchError: There is no such command, or it belongs to another Python environment.
    """
    if not command:
        raise LaunchError("what shall be run? Such as: usage-telemetry run -- evidently ui")
    executable = shutil.which(command[0])
    if executable is None:
        raise LaunchError(f"{command[0]!r} is not a command on the PATH")
    _check_environment(Path(executable))
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [BOOTSTRAP, *(path for path in paths if path != BOOTSTRAP)]
    )
    os.execv(executable, [executable, *command[1:]])  # noqa: S606 - the user's own command


def _check_environment(executable: Path) -> None:
    """A script of another environment would start there, where we are not installed."""
    try:
        first_line = executable.open("rb").readline(512)
    except OSError:
        return
    if not first_line.startswith(b"#!"):
        return
    interpreter = Path(os.fsdecode(first_line[2:].split()[0])) if first_line[2:].split() else None
    if interpreter is None or "python" not in interpreter.name:
        return
    if interpreter.parent.resolve() != Path(sys.executable).parent.resolve():
        raise LaunchError(
            f"{executable} runs with {interpreter}, where usage-telemetry is not installed. "
            f"Install it there: {interpreter} -m pip install usage-telemetry"
        )


def bootstrap() -> None:
    """Called by our sitecustomize in the new process: hooks, then the next sitecustomize."""
    try:
        from usage_telemetry.instrumentation import evidently_ui, iterative_tools

        evidently_ui.install()
        iterative_tools.install()  # asked after Evidently's, for whatever other tool it is
    except Exception as error:  # whatever it is, the program starts
        logger.debug("not instrumented: %s: %s", type(error).__name__, error)
    _next_sitecustomize()


def _next_sitecustomize() -> None:
    """Run the sitecustomize that ours stands in front of, if there is one."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if path != BOOTSTRAP])
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)
