"""Every documented example arrives as it is documented, field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hosts import run_python

from usage_telemetry.listen import JitsuEndpoint

EXAMPLES = sorted((Path(__file__).parent / "data" / "documented-events").glob("*.json"))
OF_MACHINE_MOMENT_OR_SERVER = {
    "_timestamp",
    "api_key",
    "eventn_ctx_event_id",
    "os_name",
    "os_version",
    "python_version",
    "source_ip",
    "user_id",
}

HOST = """
import json, sys
from usage_telemetry import Action, Catalog, Choice, Count, Names, Telemetry
example = json.loads(sys.argv[1])
metrics = example["extra"].get("metrics", [])
catalog = Catalog([Action(
    example["action"], "From the documentation.",
    project_count=Count("n"), reports_count=Count("n"),
    snapshot_type=Choice("t", ["report", "test_suite"]),
    **{key: Names("names", metrics) for key in (
        "metrics", "metric_presets", "metric_generators",
        "tests", "test_presets", "test_generators",
    )},
)])
telemetry = Telemetry(
    example["tool_name"], example["tool_version"], example["interface"], catalog, strict=True
)
telemetry.record(example["action"], **example["extra"])
assert telemetry.flush(timeout=60.0)
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_event_equals_the_documented_example(
    path: Path, environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    example = json.loads(path.read_text())

    host = run_python(HOST, environment, json.dumps(example))

    assert host.stderr == ""
    [event] = endpoint.events
    assert same_for_all(event) == same_for_all(example)
    assert set(event) == set(example)
    for field in OF_MACHINE_MOMENT_OR_SERVER:
        assert shape(event[field]) == shape(example[field]), field


def test_there_are_nine_examples() -> None:
    assert len(EXAMPLES) == 9


def same_for_all(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in OF_MACHINE_MOMENT_OR_SERVER}


def shape(value: object) -> object:
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return type(value)
