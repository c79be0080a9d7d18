"""`python -m benchmarks.faults`: make every fault for real, and write the table of the outcome."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "exporters/jitsu/tests/support"))

from benchmarks.faults.lab import Result  # noqa: E402 - needs the path above
from benchmarks.faults.rows import ROWS, Row, measure  # noqa: E402

PAGE = ROOT / "docs" / "delivery.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


def main() -> None:
    """Parse the command line, run the rows, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--repeats", type=int, default=3, help="processes per row (default: 3)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/delivery.md")
    arguments = parser.parse_args()
    lines = [
        "| fault | recorded | delivered once | waiting | lost | delivered twice | exit delay, s "
        "| bytes on stderr | |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    print("\n".join(lines))
    began = time.monotonic()
    for row in ROWS:
        if arguments.only not in row.name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            line = render(row, measure(row, Path(folder), repeats=arguments.repeats))
        lines.append(line)
        print(line, flush=True)
    print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)
    if arguments.write:
        text = PAGE.read_text()
        before, rest = text.split(BEGIN)
        _, after = rest.split(END)
        PAGE.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]))


def render(row: Row, result: Result) -> str:
    """One line of the table."""
    note = "; ".join(filter(None, [row.note, result.extra]))
    return (
        f"| {row.name} | {result.recorded:,} | {result.once:,} | {result.waiting:,} "
        f"| {result.lost:,} | {result.twice:,} | {result.delay_s:+.2f} | {len(result.stderr)} "
        f"| {note} |"
    )


if __name__ == "__main__":
    main()
