"""The whole way: the real Evidently UI, unchanged, driven over HTTP; events at a Jitsu endpoint."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browse import browse
from evidently_host import OPENTELEMETRY_INSTRUMENT, RUN, make_workspace, running_ui
from hosts import clean_environment, jitsu_settings, run_python

from usage_telemetry.listen import JitsuEndpoint

ENABLED = (
    "Anonymous usage reporting is enabled. "
    "To disable it, set env variable DO_NOT_TRACK to any value"
)
DISABLED = "Anonymous usage reporting is disabled"

BROWSED = [
    "startup",
    "index",
    "list_projects",
    "index",
    "get_project_info",
    "project_dashboard",
    "list_reports",
    "get_snapshot_data",
    "get_snapshot_download",
    "add_project",
]


@pytest.fixture(scope="module")
def made_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    return make_workspace(folder / "made", clean_environment(folder))


@pytest.fixture(scope="module")
def workspace(made_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A copy for each UI, because a browser adds projects to it."""

    def copy() -> Path:
        return shutil.copytree(made_workspace, tmp_path_factory.mktemp("workspace") / "copy")

    return copy


@pytest.fixture(scope="module", params=[RUN, OPENTELEMETRY_INSTRUMENT], ids=lambda p: p[0])
def browsed(
    request: pytest.FixtureRequest,
    workspace: Callable[[], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """The events of one service that a browser used, and all that the service printed."""
    home = tmp_path_factory.mktemp("home")
    with JitsuEndpoint() as endpoint:
        environment = clean_environment(
            home, **jitsu_settings(endpoint.url), OTEL_TRACES_EXPORTER="none"
        )
        with running_ui(request.param, workspace(), environment, home / "log") as ui:
            for visit in browse(ui.browser):
                assert 200 <= visit.status < 300, visit
            # None of these is an action that succeeded, or an action at all.
            for path in ("/api/version", "/favicon.ico", "/nowhere.js", "/api/nowhere"):
                ui.browser.visit(path)
            ui.browser.visit("/api/projects", "HEAD")
            ui.browser.visit("/api/projects/00000000-0000-0000-0000-000000000000/info")
            events = endpoint.wait_for_events(len(BROWSED), timeout_s=60)
            assert ui.stop() in (0, -15)
            yield events, ui.printed()


def test_each_action_arrives_once_and_nothing_else(
    browsed: tuple[list[dict[str, Any]], str],
) -> None:
    events, _ = browsed

    # A file is finished after its last byte was seen: the next request may overtake it.
    assert sorted(event["action"] for event in events) == sorted(BROWSED)


def test_events_equal_the_documented_examples(
    browsed: tuple[list[dict[str, Any]], str],
) -> None:
    events, _ = browsed
    examples = Path(__file__).parent / "data" / "documented-events"
    by_action = {event["action"]: event for event in events}

    for action in (
        "startup",
        "index",
        "list_projects",
        "get_project_info",
        "project_dashboard",
        "add_project",
    ):
        example = json.loads((examples / f"{action}.json").read_text())
        event = by_action[action]
        assert set(event) == set(example)
        for field in ("action", "error", "extra", "group_id", "interface", "src", "tool_name"):
            assert event[field] == example[field], (action, field)
    assert by_action["list_reports"]["extra"] == {"reports_count": 1}
    assert {event["tool_version"] for event in events} == {"0.7.23"}
    assert len({event["user_id"] for event in events}) == 1


def test_metrics_are_told_by_class_name(browsed: tuple[list[dict[str, Any]], str]) -> None:
    events, _ = browsed
    [event] = [event for event in events if event["action"] == "get_snapshot_data"]

    assert event["extra"]["snapshot_type"] == "report"
    assert event["extra"]["metrics"][:3] == ["RowCount", "ValueDrift", "ColumnCount"]
    assert set(event["extra"]) == {
        "snapshot_type",
        "metrics",
        "metric_presets",
        "metric_generators",
        "tests",
        "test_presets",
        "test_generators",
    }


def test_notice_is_printed_once(browsed: tuple[list[dict[str, Any]], str]) -> None:
    _, printed = browsed

    assert printed.count("usage reporting") == 1
    assert ENABLED in printed.splitlines()


def test_nothing_of_the_workspace_leaves(browsed: tuple[list[dict[str, Any]], str]) -> None:
    events, _ = browsed
    everything = json.dumps(events)

    for telltale in ("demo", "age", "income", "one more"):
        assert f'"{telltale}"' not in everything


def test_with_do_not_track_nothing_arrives_and_the_ui_works(
    workspace: Callable[[], Path], tmp_path: Path
) -> None:
    with JitsuEndpoint() as endpoint:
        environment = clean_environment(
            tmp_path / "home", **jitsu_settings(endpoint.url), DO_NOT_TRACK=""
        )
        with running_ui(RUN, workspace(), environment, tmp_path / "log") as ui:
            for visit in browse(ui.browser):
                assert 200 <= visit.status < 300, visit
            assert threads_of(ui.process.pid) == []
            ui.stop()

        assert endpoint.received == 0
        assert DISABLED in ui.printed().splitlines()
        assert ui.printed().count("usage reporting") == 1
        assert not [p for p in (tmp_path / "home").rglob("*") if "usage-telemetry" in str(p)]


def threads_of(pid: int) -> list[str]:
    """Names of threads of ours in a process."""
    names = [
        Path(f"/proc/{pid}/task/{task}/comm").read_text().strip()
        for task in os.listdir(f"/proc/{pid}/task")
    ]
    return [name for name in names if name.startswith("usage-telemetry")]


def test_importing_evidently_as_a_library_sends_nothing(
    environment: dict[str, str], endpoint: JitsuEndpoint, home: Path
) -> None:
    result = run_python(
        """
        from usage_telemetry.instrumentation.evidently import EvidentlyInstrumentor
        EvidentlyInstrumentor().instrument()
        import sys
        import pandas as pd
        from evidently import Report, Dataset, DataDefinition
        from evidently.metrics import RowCount
        frame = pd.DataFrame({"a": [1, 2]})
        Report([RowCount()]).run(Dataset.from_pandas(frame, DataDefinition()), None)
        assert "usage_telemetry.pipeline" not in sys.modules
        """,
        environment,
    )

    assert result.returncode == 0, result.stderr
    assert endpoint.received == 0
    assert not [path for path in home.rglob("*") if "usage-telemetry" in str(path)]


def test_evidentlys_own_sender_never_starts_its_subprocess(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    result = run_python(
        """
        import subprocess
        from usage_telemetry.instrumentation.evidently import EvidentlyInstrumentor
        instrumentor = EvidentlyInstrumentor()
        instrumentor.instrument()
        def refuse(*args, **kwargs):
            raise AssertionError("a subprocess")
        from evidently.telemetry import event_logger
        import iterative_telemetry
        iterative_telemetry.subprocess.Popen = refuse
        event_logger.send_event("service", "list_projects", project_count=2)
        from usage_telemetry.instrumentation import evidently_ui
        assert evidently_ui._telemetry.flush(60.0)
        """,
        environment,
    )

    assert result.returncode == 0, result.stderr
    [event] = endpoint.events
    assert event["action"] == "list_projects"
    assert event["extra"] == {"project_count": 2}
    assert event["interface"] == "service_backend"
