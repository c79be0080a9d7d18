"""Every action of every release line, exactly once, from the unchanged package; nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from release_drive import TELLTALE, Driven, drive
from releases import RELEASES, Release

from usage_telemetry.instrumentation.evidently_catalog import CATALOG
from usage_telemetry.page import event_schema

NOTICE = (
    "Anonymous usage reporting is enabled. "
    "To disable it, set env variable DO_NOT_TRACK to any value"
)
SET_BY_THE_SERVER = ("api_key", "source_ip")

LEGACY_REPORT = {
    "snapshot_type": "report",
    "metrics": [
        "DatasetMissingValuesMetric",
        "DatasetDriftMetric",
        "DataDriftTable",
        "ColumnQuantileMetric",
        "custom",
        "custom",
    ],
    "metric_presets": ["DataDriftPreset", "custom"],
    "metric_generators": ["ColumnsGenerator"],
    "tests": [],
    "test_presets": [],
    "test_generators": [],
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(one, id=one.version, marks=[pytest.mark.releases] * one.own_environment)
        for one in RELEASES
    ],
)
def release(request: pytest.FixtureRequest) -> Release:
    """A release; those that are not in the project's environment have the mark `releases`."""
    found: Release = request.param
    if found.own_environment and sys.version_info >= (3, 12):
        pytest.skip("what older releases need has no wheels for Python 3.12 and later")
    return found


@pytest.fixture(scope="module")
def driven(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Driven:
    """The release, after every request there is."""
    return drive(release, tmp_path_factory.mktemp("release"))


@pytest.fixture
def events(driven: Driven) -> Callable[[str], list[dict[str, Any]]]:
    """The events of one action."""
    return lambda action: [event for event in driven.events if event["action"] == action]


def test_each_request_that_succeeded_is_one_event_and_no_other_request_is_any(
    driven: Driven,
) -> None:
    assert [event["action"] for event in driven.events] == driven.expected


def test_every_action_is_seen_but_those_whose_feature_the_release_does_not_have(
    release: Release, driven: Driven
) -> None:
    seen = {event["action"] for event in driven.events if event["error"] is None}

    assert {action.name for action in CATALOG} - seen == release.absent


def test_a_failure_of_the_server_is_told_by_its_class_name(
    release: Release, driven: Driven
) -> None:
    failed = [step for step in driven.steps if step.visit.status >= 500]
    errors = [event for event in driven.events if event["error"] is not None]

    assert [event["action"] for event in errors] == [step.action for step in failed]
    # An unknown snapshot is a KeyError from 0.4.15 on; 0.7.0 was published without its page.
    assert {event["error"] for event in errors} <= {"KeyError", "ImproperlyConfiguredException"}


def test_events_are_valid_and_of_this_release(release: Release, driven: Driven) -> None:
    validator = jsonschema.Draft202012Validator(event_schema(CATALOG, tool="evidently"))
    for event in driven.events:
        sent = {key: value for key, value in event.items() if key not in SET_BY_THE_SERVER}
        validator.validate(sent)
        assert event["tool_version"] == release.version
        assert event["interface"] == "service_backend"
    assert len({event["user_id"] for event in driven.events}) == 1


def test_counts_are_told(events: Callable[[str], list[dict[str, Any]]]) -> None:
    assert events("list_projects")[0]["extra"] == {"project_count": 1}
    assert [event["extra"] for event in events("list_reports")] == [{"reports_count": 1}] * 2


def test_classes_are_told_by_name_and_a_users_own_as_custom(
    release: Release, events: Callable[[str], list[dict[str, Any]]]
) -> None:
    shown = [event["extra"] for event in events("get_snapshot_data") if event["error"] is None]

    if release.is_legacy:
        report, suite = shown
        assert report == LEGACY_REPORT
        assert suite["snapshot_type"] == "test_suite"
        assert suite["tests"][:2] == ["TestNumberOfRows", "TestNumberOfColumns"]
        assert "custom" not in suite["tests"]
        assert suite["test_presets"] == ["DataStabilityTestPreset"]
        assert suite["test_generators"] == ["ColumnsGenerator"]
        assert suite["metrics"] == suite["metric_presets"] == suite["metric_generators"] == []
    else:
        [report] = shown
        assert report["snapshot_type"] == "report"
        assert report["metrics"][:2] == ["RowCount", "MissingValueCount"]
        assert report["metrics"].count("custom") == 1
        assert "ValueDriftTest" in report["tests"]
        assert "custom" not in report["tests"]


def test_notice_is_printed_once(driven: Driven) -> None:
    assert driven.printed.splitlines().count(NOTICE) == 1


def test_no_telltale_leaves(driven: Driven) -> None:
    assert TELLTALE not in str(driven.events).lower()
