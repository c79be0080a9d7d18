"""Makes a workspace full of tell-tale strings, with whatever release of Evidently runs this.

python telltale_workspace.py FOLDER

One project; one report with metrics, a preset, a generator, and a metric class of the user's own;
up to 0.7.0 a test suite too. FOLDER.json says what to ask for, FOLDER.snapshot.json is one more
report, to be added over HTTP.
"""

import json
import sys
import warnings
from importlib import import_module
from pathlib import Path

warnings.filterwarnings("ignore")

import evidently  # noqa: E402
import pandas as pd  # noqa: E402

TELLTALE = "zqtelltale"
RELEASE = tuple(int(part) for part in evidently.__version__.split(".")[:3])
COLUMN = f"{TELLTALE}_column"


def frames():
    """Current and reference data; one column bears the tell-tale."""
    current = pd.DataFrame(
        {COLUMN: [float(n % 7) for n in range(40)], "b": [n * 1.5 for n in range(40)]}
    )
    return current, current * 1.1


def make_legacy(folder: str) -> str:
    """With the classes of 0.4 to 0.6, which 0.7.0 has below evidently.legacy."""
    package = "evidently.legacy." if RELEASE >= (0, 7, 0) else "evidently."

    def of(module: str, name: str):
        return getattr(import_module(package + module), name)

    user = import_module("zqtelltale_metrics")
    current, reference = frames()

    def report():
        made = of("report", "Report")(
            metrics=[
                of("metrics", "DatasetMissingValuesMetric")(),
                of("metric_preset", "DataDriftPreset")(),
                of("metrics.base_metric", "generate_column_metrics")(
                    of("metrics", "ColumnQuantileMetric"),
                    columns=[COLUMN],
                    parameters={"quantile": 0.5},
                ),
                user.ZqtelltaleMetric(),
                user.ZqtelltalePreset(),
            ],
            metadata={TELLTALE: TELLTALE},
            tags=[TELLTALE],
        )
        made.run(reference_data=reference, current_data=current)
        return made

    workspace = of("ui.workspace", "Workspace").create(folder)
    project = workspace.create_project(f"{TELLTALE} project", description=f"{TELLTALE} text")
    project.save()
    workspace.add_report(project.id, report())
    suite = of("test_suite", "TestSuite")(
        tests=[
            of("tests", "TestNumberOfRows")(),
            of("test_preset", "DataStabilityTestPreset")(),
            of("tests.base_test", "generate_column_tests")(
                of("tests", "TestColumnShareOfMissingValues"), columns=[COLUMN]
            ),
        ]
    )
    suite.run(reference_data=reference, current_data=current)
    workspace.add_test_suite(project.id, suite)
    another = report()
    snapshot = (
        another._get_snapshot() if hasattr(another, "_get_snapshot") else another.to_snapshot()
    )
    snapshot.save(folder + ".snapshot.json")
    return str(project.id)


def make(folder: str) -> str:
    """With the classes of 0.7.1 and later."""
    from evidently import Report
    from evidently.generators import ColumnMetricGenerator
    from evidently.legacy.utils import NumpyEncoder
    from evidently.metrics import MissingValueCount, QuantileValue, RowCount
    from evidently.presets import DataDriftPreset, ValueStats
    from evidently.ui.workspace import Workspace

    user = import_module("zqtelltale_metrics")
    current, reference = frames()

    def run():
        report = Report(
            [
                RowCount(),
                MissingValueCount(column=COLUMN),
                DataDriftPreset(),
                ValueStats(column=COLUMN),
                ColumnMetricGenerator(
                    QuantileValue, columns=["b"], metric_kwargs={"quantile": 0.5}
                ),
                user.ZqtelltaleMetric(column="b"),
            ],
            include_tests=True,
            metadata={TELLTALE: TELLTALE},
            tags=[TELLTALE],
        )
        return report.run(current, reference)

    workspace = Workspace.create(folder)
    project = workspace.create_project(f"{TELLTALE} project", description=f"{TELLTALE} text")
    workspace.add_run(project.id, run(), include_data=False)
    snapshot = run().to_snapshot_model().dict()
    Path(folder + ".snapshot.json").write_text(json.dumps(snapshot, cls=NumpyEncoder))
    return str(project.id)


if __name__ == "__main__":
    target = str(Path(sys.argv[1]).resolve())
    project_id = make(target) if RELEASE >= (0, 7, 1) else make_legacy(target)
    Path(target + ".json").write_text(json.dumps({"project": project_id}))
