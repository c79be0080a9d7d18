"""Environments for tests below .cache, each with our packages and something real beside them."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = (ROOT / "exporters" / "jitsu", ROOT)
OWN_SCRIPTS = Path(sys.executable).parent
"""Where the commands of the environment are that runs this."""


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The folder of an environment's commands; it is made if it is not there or out of date.

    Args:
        name: Of its folder below .cache.
        requirements: What to install beside our packages, which are installed editable.

    Raises:
        RuntimeError: It could not be installed; the message holds what uv said.
    """
    folder = ROOT / ".cache" / name
    scripts = folder / OWN_SCRIPTS.name
    python = str(scripts / "python")
    done = folder / "made-from.txt"
    before = done.read_text().splitlines() if done.exists() else []
    recipe = [platform.python_version(), *requirements, *(_described(path) for path in PACKAGES)]
    if before == recipe:
        return scripts
    uv = str(OWN_SCRIPTS / "uv")
    if before[:1] != recipe[:1]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
    editable = [argument for path in PACKAGES for argument in ("--editable", str(path))]
    _run([uv, "pip", "install", "--quiet", "--python", python, *requirements, *editable])
    done.write_text("\n".join(recipe))
    return scripts


def _described(package: Path) -> str:
    """What an editable installation copies from a package, and therefore has to follow."""
    text = (package / "pyproject.toml").read_bytes()
    return f"{package} {hashlib.sha256(text).hexdigest()}"


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-4000:]}")
