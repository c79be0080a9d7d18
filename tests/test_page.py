"""The "what is collected" page and the JSON Schema: both from the catalog, both complete."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hosts import clean_environment
from shell import record, usage_telemetry

from usage_telemetry import Action, Catalog, Choice, Count, Flag, Names, Telemetry
from usage_telemetry.instrumentation.evidently_catalog import CATALOG as EVIDENTLY
from usage_telemetry.listen import JitsuEndpoint
from usage_telemetry.page import event_schema, what_is_collected
from usage_telemetry.testing import capture

PROJECT = Path(__file__).parent.parent
EVIDENTLY_PAGE = PROJECT / "docs" / "what-is-collected-evidently.md"
DOCUMENTED = sorted((Path(__file__).parent / "data" / "documented-events").glob("*.json"))

SMALL = Catalog(
    [
        Action("startup", "The service started."),
        Action(
            "train",
            "A model | was trained.",
            rows=Count("Rows, in thousands."),
            cached=Flag("Whether a cache was used."),
            kind=Choice("Which kind.", ["tree", "net"]),
            layers=Names("Layers of ours.", ["Dense", "Conv"]),
        ),
    ]
)


def test_the_page_for_evidently_is_the_one_that_its_catalog_makes() -> None:
    written = what_is_collected(EVIDENTLY, tool="evidently")

    assert EVIDENTLY_PAGE.read_text(encoding="utf-8") == written, (
        "write it anew: usage-telemetry catalog --tool evidently > "
        "docs/what-is-collected-evidently.md"
    )


def test_the_command_finds_a_page_that_differs(home: Path, tmp_path: Path) -> None:
    environment = clean_environment(home)
    page = tmp_path / "page.md"
    page.write_text(EVIDENTLY_PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    arguments = ("catalog", "--tool", "evidently", "--check", str(page))

    same = usage_telemetry(environment, *arguments)
    page.write_text("something else")
    different = usage_telemetry(environment, *arguments)

    assert (same.returncode, same.stdout) == (0, "")
    assert different.returncode == 1
    assert str(page) in different.stderr


def test_the_page_names_every_action_and_extra_with_an_event_each() -> None:
    page = what_is_collected(SMALL, tool="mytool")

    assert "| `train` | A model \\| was trained. | `rows`, `cached`, `kind`, `layers` |" in page
    assert "| `rows` | a whole number, 0 or more | Rows, in thousands. |" in page
    assert "| `cached` | yes or no | Whether a cache was used. |" in page
    assert "| `kind` | one of `tree`, `net` | Which kind. |" in page
    assert "| `layers` | at most 100 names" in page
    events = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    assert [event["action"] for event in events] == ["startup", "train"]
    assert events[1]["extra"] == {
        "rows": 3,
        "cached": True,
        "kind": "tree",
        "layers": ["Conv", "Dense"],
    }
    for event in events:
        jsonschema.validate(event, event_schema(SMALL, tool="mytool"))
        for field in event:
            assert f"| `{field}` |" in page


@pytest.mark.parametrize(
    "promise",
    [
        "DO_NOT_TRACK",
        "OTEL_SDK_DISABLED",
        "USAGE_TELEMETRY",
        "continuous-integration",
        "test runner",
        "usage-telemetry off",
        "own switch",
        "pseudonym",
        "The connection that carries it has one",
        "ip_policy=strict",
        "OTEL_EXPORTER_JITSU_NO_IP",
        "never sent",
    ],
)
def test_the_page_says(promise: str) -> None:
    assert promise in what_is_collected(SMALL, tool="mytool")


def test_the_chain_on_the_page_is_the_chain_that_decides(home: Path) -> None:
    from usage_telemetry.page import WHO_DECIDES

    told = json.loads(usage_telemetry(clean_environment(home), "status", "--json").stdout)

    assert len(told["chain"]) == len(WHO_DECIDES)


def test_the_page_is_the_same_whether_or_not_the_tool_is_installed() -> None:
    def missing() -> set[str]:
        return set()

    names = {
        vocabulary: Names("Names.", vocabulary, example=["One", "Two"])
        for vocabulary in (missing, lambda: {"One", "Two"})
    }
    pages = {
        what_is_collected(Catalog([Action("go", "Went.", names=extra)]), tool="mytool")
        for extra in names.values()
    }

    assert len(pages) == 1


def test_python_dash_m_writes_the_same(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "usage_telemetry", "catalog", "--tool", "evidently"],
        env=clean_environment(home),
        capture_output=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.decode() == EVIDENTLY_PAGE.read_text(encoding="utf-8")


# -- JSON Schema ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTED, ids=lambda path: path.stem)
def test_the_documented_events_are_valid_but_for_what_the_server_sets(path: Path) -> None:
    event = json.loads(path.read_text())
    del event["api_key"], event["source_ip"]

    jsonschema.validate(event, event_schema(EVIDENTLY, tool="evidently"))


def test_the_schema_is_a_schema_and_comes_from_the_command(home: Path) -> None:
    shown = usage_telemetry(clean_environment(home), "catalog", "--tool", "evidently", "--json")

    schema = json.loads(shown.stdout)
    assert schema == event_schema(EVIDENTLY, tool="evidently")
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_what_arrives_is_valid(environment: dict[str, str], endpoint: JitsuEndpoint) -> None:
    record(environment, 2)
    catalog = Catalog([Action("list_projects", "Listed.", project_count=Count("Projects."))])

    for event in endpoint.events:
        del event["api_key"], event["source_ip"]
        jsonschema.validate(event, event_schema(catalog, tool="tool"))


@pytest.mark.parametrize(
    "change",
    [
        {"action": "undeclared"},
        {"host_name": "laptop"},
        {"extra": {"rows": -1}},
        {"extra": {"rows": "3"}},
        {"extra": {"kind": "forest"}},
        {"extra": {"layers": ["a name with spaces"]}},
        {"extra": {"layers": ["x"] * 101}},
        {"extra": {"free_text": "hello"}},
        {"action": "startup", "extra": {"rows": 3}},
        {"user_id": "jane"},
        {"source_ip": "203.0.113.7"},
        {"_timestamp": "yesterday"},
        {"tool_name": "another"},
    ],
    ids=str,
)
def test_the_schema_refuses(change: dict[str, Any]) -> None:
    with capture() as captured:
        Telemetry("mytool", "1", "cli", SMALL).record("train", rows=3, kind="net")
    [event] = captured.events
    schema = event_schema(SMALL, tool="mytool")
    jsonschema.validate(event, schema)

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**event, **change}, schema)
