"""Processes under measurement: their environment, and what they and their children consume."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

_KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_PR_SET_CHILD_SUBREAPER = 36


def environment(home: str | Path, **more: str) -> dict[str, str]:
    """A user's environment with a home of its own and telemetry switched on.

    Args:
        home: Stands for the user's home folder; everything that is written lies below it.
        **more: Further variables.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {
        **kept,
        "HOME": str(home),
        "XDG_CONFIG_HOME": f"{home}/config",
        "XDG_STATE_HOME": f"{home}/state",
        "PYTHONPATH": str(ROOT),
        "USAGE_TELEMETRY": "on",
        **more,
    }


def new_home() -> tempfile.TemporaryDirectory[str]:
    """A home folder for one process; daemons may still write there while it goes."""
    return tempfile.TemporaryDirectory(prefix="usage-benchmark-", ignore_cleanup_errors=True)


def run(
    arguments: Sequence[str], env: Mapping[str, str], *, timeout_s: float = 600.0
) -> tuple[dict[str, Any], dict[str, float]]:
    """Run `python <arguments>` to the end of its last descendant.

    Returns:
        The JSON object that it printed, and ``cpu_ms``, ``wall_ms`` of all its processes.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.process", *arguments],
        env=dict(env),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    if done.returncode:
        raise RuntimeError(f"{arguments} failed:\n{done.stderr}")
    *printed, usage = done.stdout.splitlines()
    return (json.loads(printed[-1]) if printed else {}), json.loads(usage)


def main(arguments: Sequence[str]) -> int:
    """Run Python as a child, adopt what it leaves behind, and print what all of them consumed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    begin = time.perf_counter()
    child = subprocess.Popen([sys.executable, *arguments])
    code = child.wait()
    with suppress(ChildProcessError):
        while True:
            os.wait()
    wall_s = time.perf_counter() - begin
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = usage.ru_utime + usage.ru_stime
    print(json.dumps({"cpu_ms": cpu_s * 1000, "wall_ms": wall_s * 1000}), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
