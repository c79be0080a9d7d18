"""A workspace full of tell-tale strings: none of them is in anything that telemetry writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from release_drive import TELLTALE, Driven, drive
from releases import RELEASES

OURS = re.compile(r'usage event: | *["{}\[\]]')
"""How a line begins that telemetry prints here, because it was asked to: an event, or some of the
JSON of a span. The others are the host's, which names paths in its access log and where it watches
files."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "usage_telemetry.log"


@pytest.fixture(scope="module")
def driven(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Driven:
    """The newest release after every request, its events, spans and log lines all written out."""
    return drive(
        RELEASES[-1],
        tmp_path_factory.mktemp("telltale"),
        USAGE_TELEMETRY_DEBUG="1",
        USAGE_TELEMETRY_EXPORTER="jitsu,console",
        LOG_OF_USAGE_TELEMETRY=str(log),
    )


@pytest.fixture(scope="module")
def telltales(driven: Driven) -> list[str]:
    """What the user chose (names, texts, columns, tags, classes: all hold one word), ids, paths."""
    urls = " ".join(step.visit.path for step in driven.steps)
    ids = set(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", urls))
    assert len(ids) > 3
    return [TELLTALE, str(driven.workspace), *ids]


def found(telltales: list[str], text: str) -> list[str]:
    return [telltale for telltale in telltales if telltale in text.lower()]


def test_the_user_interface_shows_the_telltales(driven: Driven, telltales: list[str]) -> None:
    shown = b" ".join(step.visit.body for step in driven.steps).decode(errors="replace")

    assert found(telltales[:1] + telltales[2:3], shown)
    for text in ("zqtelltale project", "zqtelltale text", "zqtelltale_column"):
        assert text in shown


def test_no_event_holds_one(driven: Driven, telltales: list[str]) -> None:
    assert {event["action"] for event in driven.events} >= {"get_snapshot_data", "add_project"}
    assert found(telltales, json.dumps(driven.events)) == []


def test_no_event_or_span_that_is_printed_holds_one(driven: Driven, telltales: list[str]) -> None:
    lines = [line for line in driven.printed.splitlines() if OURS.match(line)]

    assert sum(line.startswith("usage event: ") for line in lines) == len(driven.events)
    assert sum("usage.action" in line for line in lines) == len(driven.events)  # spans
    assert [line for line in lines if found(telltales, line)] == []


def test_no_log_line_holds_one(log: Path, telltales: list[str]) -> None:
    assert found(telltales, log.read_text()) == []


def test_no_file_of_telemetry_holds_one(driven: Driven, telltales: list[str]) -> None:
    files = [path for path in driven.home.rglob("*") if path.is_file()]
    outbox = b"".join(path.read_bytes() for path in files if "outbox.db" in path.name)

    assert b"get_snapshot_data" in outbox, "accepted events are kept for the log command"
    for path in files:
        assert found(telltales, path.read_bytes().decode(errors="replace")) == [], path
