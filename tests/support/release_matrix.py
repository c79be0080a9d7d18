"""Which release tells which action: seen by driving each of them, written into the docs.

python tests/support/release_matrix.py                             show the table
python tests/support/release_matrix.py --write docs/evidently.md   put it between its two marks
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "examples" / "evidently")]

from release_drive import Driven, drive  # noqa: E402 - pytest sets the path by itself
from releases import RELEASES, Release  # noqa: E402

from usage_telemetry.instrumentation.evidently_catalog import CATALOG  # noqa: E402

BEGIN = "<!-- made by tests/support/release_matrix.py -->"
END = "<!-- end -->"


def cell(action: str, release: Release, driven: Driven) -> str:
    """What one release tells of one action: by the instrumentation, and by itself."""
    if action in release.absent:
        return "absent"
    asked = [1 if action == "startup" else 0]
    asked += [1 if step.action == action and step.succeeded else 0 for step in driven.steps]
    told = [event for event in driven.events if event["action"] == action and not event["error"]]
    seen = "once" if len(told) == sum(asked) else f"**{len(told)} of {sum(asked)}**"
    itself = [calls.count(action) for calls in driven.by_itself]
    right = sum(min(wanted, calls) for wanted, calls in zip(asked, itself, strict=True))
    wrong = sum(itself) - right
    return f"{seen}; {right}/{sum(asked)}" + (f" and {wrong} wrong" if wrong else "")


def table(driven: Sequence[tuple[Release, Driven]]) -> str:
    """The matrix in Markdown."""
    header = ["action", *(release.version for release, _ in driven)]
    rows = [header, ["---"] * len(header)]
    for action in CATALOG:
        rows.append([f"`{action.name}`", *(cell(action.name, *one) for one in driven)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(arguments: list[str]) -> None:
    """Drive all releases; show the table, or write it into a file."""
    driven = []
    with tempfile.TemporaryDirectory(prefix="release-matrix-") as folder:
        for release in RELEASES:
            print(f"driving Evidently {release.version} ...", file=sys.stderr, flush=True)
            place = Path(folder) / release.version
            place.mkdir()
            driven.append((release, drive(release, place, overhear=True)))
    text = table(driven)
    if arguments[:1] != ["--write"]:
        print(text)
        return
    path = Path(arguments[1])
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main(sys.argv[1:])
