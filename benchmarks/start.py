"""What a tool's start pays: imports over bare Python, and the first event."""

from __future__ import annotations

from benchmarks import table
from benchmarks.process import environment, new_home, run
from benchmarks.sink import Sink

ROUNDS = 11
SERVICE = "import typing, re, logging, dataclasses, inspect, pathlib"
"""What any service has imported before it looks at telemetry."""

IMPORTS = {
    "`import usage_telemetry`": "import usage_telemetry",
    "`from usage_telemetry import Telemetry, ...`": (
        "from usage_telemetry import Action, Catalog, Count, Telemetry"
    ),
    "opted out: catalog, `Telemetry`, first `record()`": (
        "from benchmarks.senders import usage_record; usage_record('http://127.0.0.1:9').record()"
    ),
    "`import opentelemetry.trace`": "import opentelemetry.trace",
    "`import opentelemetry.sdk.trace.export`": "import opentelemetry.sdk.trace.export",
    "`import httpx`": "import httpx",
    "`import segment.analytics`": "import segment.analytics",
    "`import iterative_telemetry`": "import iterative_telemetry",
    "`import posthog`": "import posthog",
}

_TIMED = """
import time
begin = time.perf_counter()
{code}
print('{{"ms": %f}}' % ((time.perf_counter() - begin) * 1e3))
"""

_MODULES = """
from benchmarks.senders import usage_record
import json, sys
sender = usage_record("http://127.0.0.1:9")
sender.record()
sender.flush()
print(json.dumps(sorted(sys.modules)))
"""

_FIRST = """
import json, sys, time
from benchmarks.senders import telemetry
ours = telemetry(sys.argv[1])
begin = time.perf_counter()
ours.record("list_projects", project_count=3)
called = time.perf_counter()
ours.flush(60.0)
print(json.dumps({"call": (called - begin) * 1e3, "arrived": (time.perf_counter() - begin) * 1e3}))
"""

HEAVY = ("opentelemetry.sdk", "opentelemetry.trace", "httpx", "sqlite3", "platformdirs", "ssl")


def main(rounds: int = ROUNDS) -> None:
    taken: dict[tuple[str, bool], list[float]] = {}
    first: dict[str, list[float]] = {"call": [], "arrived": []}
    with new_home() as home, Sink() as sink:
        for number in range(rounds + 1):
            for name, code in IMPORTS.items():
                for in_service in (False, True):
                    ms = _run(
                        (f"{SERVICE}\n" if in_service else "") + _TIMED.format(code=code),
                        name,
                        home,
                    )
                    if number:  # the first round writes the .pyc files
                        taken.setdefault((name, in_service), []).append(ms)
            times, _ = run(["-c", _FIRST, sink.url], environment(home))
            for what in first:
                first[what].append(times[what])
        modules, _ = run(["-c", _MODULES], environment(home, DO_NOT_TRACK="1"))
    rows = [
        [name, *(table.number(table.median(taken[name, where])) for where in (False, True))]
        for name in IMPORTS
    ]
    header = ["wall time in a new process", "over bare Python, ms", "in a service*, ms"]
    loaded = [name for name in HEAVY if name in modules] or ["none"]
    notes = [
        f"\n\\* which has done `{SERVICE}` already.",
        f"\nOpted out, after `record()` and `flush()`, of {', '.join(f'`{n}`' for n in HEAVY)} "
        f"are imported: {', '.join(loaded)}.",
        f"\nFirst `record()` of a process: {table.number(table.median(first['call']))} ms on the "
        f"calling thread, {table.number(table.median(first['arrived']))} ms until the event has "
        "arrived (flushed at once), p50.",
    ]
    table.publish("start", "\n".join([table.markdown(header, rows), *notes]))


def _run(code: str, name: str, home: str) -> float:
    opted_out = {"DO_NOT_TRACK": "1"} if "opted out" in name else {}
    printed, _ = run(["-c", code], environment(home, **opted_out))
    return float(printed["ms"])
