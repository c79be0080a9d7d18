"""What telemetry keeps resident: after the import, idle, and after many events."""

from __future__ import annotations

from benchmarks import table
from benchmarks.process import environment, new_home, run
from benchmarks.sink import Sink

EVENTS = 100_000
ROUNDS = 2
REFUSES = "http://127.0.0.1:9"
"""Nobody listens on the discard port: every connection is refused at once."""
NAMES = (
    "usage-telemetry record()",
    "usage-telemetry record(), opted out",
    "OTel SDK span, OTLP/HTTP",
    "segment-analytics-python",
    "posthog",
)


def main(rounds: int = ROUNDS, events: int = EVENTS) -> None:
    added: dict[tuple[str, str, str], list[float]] = {}
    with Sink() as sink:
        for _ in range(rounds):
            for name in NAMES:
                for endpoint, url in (("up", sink.url), ("down", REFUSES)):
                    opted_out = {"DO_NOT_TRACK": "1"} if "opted out" in name else {}
                    with new_home() as home:
                        stages, _ = run(
                            ["-m", "benchmarks.resident", name, url, str(events)],
                            environment(home, **opted_out),
                        )
                    for stage, size_mb in stages.items():
                        added.setdefault((name, endpoint, stage), []).append(size_mb)
    header = [
        "MB resident over bare Python",
        "made",
        "idle after one event",
        f"after {events:,}, endpoint up",
        f"after {events:,}, endpoint down",
    ]
    columns = (("up", "made"), ("up", "idle"), ("up", "after"), ("down", "after"))
    rows = [
        [name, *(table.number(table.median(added[name, at, stage])) for at, stage in columns)]
        for name in NAMES
    ]
    table.publish("memory", table.markdown(header, rows))
