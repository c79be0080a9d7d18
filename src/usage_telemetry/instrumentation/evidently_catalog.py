"""What Evidently's monitoring UI may record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from usage_telemetry.catalog import Action, Catalog, Choice, Count, Names


@lru_cache(maxsize=1)
def own_names() -> frozenset[str]:
    """Class names that the installed evidently package itself defines; a user's are never here.

    Read from its source files, so that neither importing them nor what a user's code registered
    at run time plays a part.
    """
    spec = find_spec("evidently")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return frozenset(name for folder in folders for name in _class_names(Path(folder)))


def _class_names(package: Path) -> Iterator[str]:
    for part in _METRIC_FOLDERS:
        for path in (package / part).rglob("*.py"):
            yield from _CLASS.findall(path.read_text(encoding="utf-8", errors="replace"))
    for part in _GENERATORS:
        path = package / part
        if path.exists():
            yield from _INNER_CLASS.findall(path.read_text(encoding="utf-8", errors="replace"))


_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)
_INNER_CLASS = re.compile(r"^ *class (\w+)", re.MULTILINE)
_METRIC_FOLDERS = (
    "generators",
    "metrics",
    "presets",
    "tests",
    "metric_preset",
    "test_preset",
    "legacy/metrics",
    "legacy/metric_preset",
    "legacy/tests",
    "legacy/test_preset",
)
"""Where releases from 0.4 to 0.7 keep metrics, tests, presets and generators."""

_GENERATORS = ("utils/generators.py", "legacy/utils/generators.py")
"""Where a function makes the generators of reports and test suites; their class is local to it."""

SNAPSHOT_TYPES = ("report", "test_suite")

_SNAPSHOT_TYPE = Choice("Whether the snapshot is a report or a test suite.", SNAPSHOT_TYPES)
_METRICS = Names(
    "Class names of the metrics in the snapshot.",
    own_names,
    example=("DatasetDriftMetric", "ColumnQuantileMetric"),
)
_METRIC_PRESETS = Names(
    "Class names of the metric presets it was made with.", own_names, example=("DataDriftPreset",)
)
_METRIC_GENERATORS = Names(
    "Class names of the metric generators it was made with.", own_names, example=()
)
_TESTS = Names("Class names of the tests in the snapshot.", own_names, example=())
_TEST_PRESETS = Names("Class names of the test presets it was made with.", own_names, example=())
_TEST_GENERATORS = Names(
    "Class names of the test generators it was made with.", own_names, example=()
)

CATALOG = Catalog(
    [
        Action("startup", "The monitoring UI was started."),
        Action("index", "The UI's page was opened in a browser."),
        Action(
            "list_projects",
            "The list of projects was opened.",
            project_count=Count("Number of projects in the workspace."),
        ),
        Action("get_project_info", "A project was opened."),
        Action("project_dashboard", "A project's dashboard was shown."),
        Action(
            "list_reports",
            "The list of a project's reports was opened.",
            reports_count=Count("Number of reports in the project."),
        ),
        Action("list_test_suites", "The list of a project's test suites was opened."),
        Action("get_snapshot_download", "A report or test suite was downloaded."),
        Action("add_project", "A project was added."),
        Action("search_projects", "Projects were searched by name (the name is not recorded)."),
        Action("update_project_info", "A project's settings were changed."),
        Action("get_snapshot_graph_data", "One chart of a report or test suite was loaded."),
        Action(
            "get_snapshot_data",
            "A report or test suite was opened.",
            snapshot_type=_SNAPSHOT_TYPE,
            metrics=_METRICS,
            metric_presets=_METRIC_PRESETS,
            metric_generators=_METRIC_GENERATORS,
            tests=_TESTS,
            test_presets=_TEST_PRESETS,
            test_generators=_TEST_GENERATORS,
        ),
        Action("list_project_dashboard_panels", "The panels of a dashboard were listed."),
        Action("add_snapshot", "A report or test suite was added to a project."),
        Action(
            "list_snapshots",
            "The list of a project's reports and test suites was opened.",
            reports_count=Count("Number of snapshots in the project."),
        ),
        Action(
            "get_snapshot_metadata",
            "The description of a report or test suite was loaded.",
            snapshot_type=_SNAPSHOT_TYPE,
            metric_presets=_METRIC_PRESETS,
            metric_generators=_METRIC_GENERATORS,
            test_presets=_TEST_PRESETS,
            test_generators=_TEST_GENERATORS,
        ),
        Action("reload_project_snapshots", "A project's snapshots were read anew from storage."),
        Action("save_project_dashboard", "A project's dashboard was changed."),
        Action("delete_project", "A project was deleted."),
        Action("delete_snapshot", "A report or test suite was deleted."),
    ]
)
