"""What users install: both wheels, from a checkout, in one pip command."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    uv = Path(sys.executable).parent / "uv"
    subprocess.run(
        [str(uv), "build", "--quiet", "--all-packages", "--wheel", "--out-dir", str(folder)],
        cwd=ROOT,
        check=True,
    )
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


def test_both_wheels_hold_their_package_types_and_licence(wheels: dict[str, Path]) -> None:
    tool = set(zipfile.ZipFile(wheels["usage_telemetry"]).namelist())
    exporter = set(zipfile.ZipFile(wheels["opentelemetry_exporter_jitsu"]).namelist())

    assert "usage_telemetry/py.typed" in tool
    assert "usage_telemetry/instrumentation/bootstrap/sitecustomize.py" in tool
    assert "opentelemetry/exporter/jitsu/py.typed" in exporter
    assert "opentelemetry/__init__.py" not in exporter
    assert "opentelemetry/exporter/__init__.py" not in exporter
    for names in (tool, exporter):
        assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.long
def test_one_plain_pip_command_installs_both_from_a_checkout(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"

    subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "./exporters/jitsu", "."],
        cwd=ROOT,
        check=True,
    )

    script = """
import opentelemetry.sdk.trace, opentelemetry.exporter
from importlib.metadata import entry_points
from opentelemetry.exporter.jitsu import JitsuSpanExporter
[jitsu] = entry_points(group="opentelemetry_traces_exporter", name="jitsu")
assert jitsu.load() is JitsuSpanExporter
import usage_telemetry
"""
    subprocess.run([str(python), "-c", script], check=True, cwd=tmp_path)
    subprocess.run(
        [str(python.parent / "usage-telemetry"), "--help"], check=True, stdout=subprocess.DEVNULL
    )
