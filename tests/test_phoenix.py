"""A real product takes usage spans by both protocols: arize-phoenix, in an environment of its own.

Its gRPC server listens on all interfaces whatever it is told, so that it runs in a network
namespace that has nothing but loopback.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PHOENIX = "arize-phoenix == 20.26.1"
ENVIRONMENT = ROOT / ".cache" / "phoenix-20.26.1"

pytestmark = pytest.mark.long


def can_have_a_namespace() -> bool:
    unshare = shutil.which("unshare")
    return unshare is not None and (
        subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode == 0
    )


@pytest.fixture(scope="module")
def phoenix() -> Path:
    """The command, installed once per checkout; 625 MB."""
    if sys.version_info < (3, 11):
        pytest.skip("this release of arize-phoenix needs Python 3.11")
    if not can_have_a_namespace():
        pytest.skip("no network namespace to be had: Phoenix would listen on all interfaces")
    command = ENVIRONMENT / "bin" / "phoenix"
    if not command.exists():
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "-q", "-p", sys.executable, str(ENVIRONMENT)], check=True)
        python = str(ENVIRONMENT / "bin" / "python")
        subprocess.run([uv, "pip", "install", "-q", "-p", python, PHOENIX], check=True)
    return command


def test_phoenix_takes_spans_by_both_protocols(phoenix: Path, tmp_path: Path) -> None:
    inside = Path(__file__).parent / "support" / "phoenix_inside.py"
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, str(inside), str(phoenix), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=400,
    )

    assert done.returncode == 0, done.stderr
    spans = json.loads(done.stdout)
    assert {span["attributes"]["usage.extra.project_count"] for span in spans} == {0, 1}
    for span in spans:
        assert span["name"] == span["attributes"]["usage.action"] == "list_projects"
        assert span["status_code"] == "ERROR"
        assert span["attributes"]["error.type"] == "KeyError"
        assert span["parent_id"] is None
        assert "secret" not in json.dumps(span)
