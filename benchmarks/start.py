"""What a tool's start pays: imports over bare Python, and the first event."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import table
from benchmarks.process import environment, new_home, run
from benchmarks.sink import Sink

ROUNDS = 25
BARE = "bare Python"
HOST = "import typing, re, logging, dataclasses, inspect, pathlib"
"""What any service has imported before it looks at telemetry."""

IMPORTS = {
    BARE: "pass",
    "`import usage_telemetry`": "import usage_telemetry",
    "a `Telemetry` and its catalog": (
        "from benchmarks.senders import telemetry; telemetry('http://127.0.0.1:9')"
    ),
    "an opted-out process that records": (
        "from benchmarks.senders import usage_record; usage_record('http://127.0.0.1:9').record()"
    ),
    "`import opentelemetry.trace`": "import opentelemetry.trace",
    "`import opentelemetry.sdk.trace.export`": "import opentelemetry.sdk.trace.export",
    "`import httpx`": "import httpx",
    "`import segment.analytics`": "import segment.analytics",
    "`import iterative_telemetry`": "import iterative_telemetry",
    "`import posthog`": "import posthog",
}

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
    wall: dict[tuple[str, bool], list[float]] = {}
    cpu: dict[tuple[str, bool], list[float]] = {}
    first: dict[str, list[float]] = {"call": [], "arrived": []}
    with new_home() as home, Sink() as sink:
        for number in range(rounds + 1):
            for name, code in IMPORTS.items():
                for in_host in (False, True):
                    usage = _run(f"{HOST}\n{code}" if in_host else code, name, home)
                    if number:  # the first round writes the .pyc files
                        wall.setdefault((name, in_host), []).append(usage["wall_ms"])
                        cpu.setdefault((name, in_host), []).append(usage["cpu_ms"])
            taken, _ = run(["-c", _FIRST, sink.url], environment(home))
            for what in first:
                first[what].append(taken[what])
        modules, _ = run(["-c", _MODULES], environment(home, DO_NOT_TRACK="1"))
    rows = []
    for name in IMPORTS:
        over = [
            table.median(times[name, in_host]) - table.median(times[BARE, in_host])
            for times in (wall, cpu)
            for in_host in (False, True)
        ]
        rows.append([name, *(table.number(value) if name != BARE else "0" for value in over)])
    header = [
        "over bare Python",
        "wall, ms",
        "wall in a service*, ms",
        "CPU, ms",
        "CPU in a service*, ms",
    ]
    loaded = [name for name in HEAVY if name in modules] or ["none"]
    notes = [
        f"\n\\* which has done `{HOST}` already.",
        f"\nOpted out, after `record()` and `flush()`, of {', '.join(f'`{n}`' for n in HEAVY)} "
        f"are imported: {', '.join(loaded)}.",
        f"\nFirst `record()` of a process: {table.number(table.median(first['call']))} ms on the "
        f"calling thread, {table.number(table.median(first['arrived']))} ms until the event has "
        "arrived (flushed at once), p50.",
    ]
    table.publish("start", "\n".join([table.markdown(header, rows), *notes]))


def _run(code: str, name: str, home: str) -> Mapping[str, float]:
    opted_out = {"DO_NOT_TRACK": "1"} if "opted-out" in name else {}
    return run(["-c", code], environment(home, **opted_out))[1]
