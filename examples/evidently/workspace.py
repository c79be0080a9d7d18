"""A small Evidently workspace: one project with one report, made in a second or two.

python workspace.py FOLDER
"""

import sys

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import RowCount, ValueDrift
from evidently.presets import DataSummaryPreset
from evidently.ui.workspace import Workspace


def make(folder: str) -> None:
    """Make the workspace in `folder`."""
    frame = pd.DataFrame({"age": [31, 42, 53] * 10, "income": [3.5, 4.0, 5.5] * 10})
    data = Dataset.from_pandas(frame, DataDefinition())
    report = Report([RowCount(), ValueDrift(column="age"), DataSummaryPreset()])
    workspace = Workspace.create(folder)
    project = workspace.create_project("demo")
    workspace.add_run(project.id, report.run(data, data))


if __name__ == "__main__":
    make(sys.argv[1])
