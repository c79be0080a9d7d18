"""Measured numbers -> Markdown tables, and their place in docs/cost.md."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "cost.md"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def publish(subject: str, table: str) -> None:
    """Print a table and put it between the marks of its subject in docs/cost.md."""
    print(f"\n## {subject}\n\n{table}", flush=True)
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- begin {subject} -->", f"<!-- end {subject} -->"
    if begin not in page:
        page = f"{page.rstrip()}\n\n{begin}\n{end}\n"
    marked = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    page = marked.sub(lambda _: f"{begin}\n{table}\n{end}", page)
    PAGE.write_text(page, encoding="utf-8")


def percentile(samples: Sequence[float], percent: float) -> float:
    """The sample that `percent` per cent of all samples do not exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def number(value: float) -> str:
    """Three significant digits, as far as they stand before or shortly after the point."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
