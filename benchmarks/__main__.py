"""The command: measure, print a Markdown table per subject, put it into docs/cost.md."""

from __future__ import annotations

import argparse
import importlib

SUBJECTS = ("call", "functions", "delivered", "start", "memory", "growth", "evidently_ui")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="subject", help=", ".join(SUBJECTS))
    parser.add_argument("--million", action="store_true", help="growth: up to 1,000,000 events")
    options = parser.parse_args()
    unknown = set(options.subjects) - set(SUBJECTS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: the subjects are {', '.join(SUBJECTS)}")
    for subject in options.subjects or SUBJECTS:
        module = importlib.import_module(f"benchmarks.{subject}")
        module.main(**({"million": True} if options.million and subject == "growth" else {}))


if __name__ == "__main__":
    main()
