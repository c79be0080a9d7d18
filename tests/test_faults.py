"""Each fault of the table in docs/delivery.md, once, without timing: nothing lost, nothing twice.

The table itself, with exit delays over several runs, is written by `python -m benchmarks.faults`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults.rows import ROWS, Row, measure

TOO_LONG = (
    "a million actions, endpoint down",
    "fork storm, hanging endpoint",
    "OTLP over HTTP: drips",
)


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name) for row in ROWS if row.name not in TOO_LONG]
)
def test_no_event_is_lost_or_delivered_twice(row: Row, tmp_path: Path) -> None:
    result = measure(row, tmp_path, repeats=1, paired=row.task.get("end") == "exception")
    assert result.lost == row.allowed_lost
    assert result.given_up == row.allowed_lost
    assert result.waiting == row.allowed_waiting
    assert result.twice == 0
    if not row.name.startswith("fork storm"):  # Python 3.12 warns of forks amid requests
        assert result.stderr == b""
