"""What an event costs until it has arrived: CPU of all processes of a tool, start and end included.

Each process is run whole, once with a single event and once with many: the first is the price of
having telemetry at all, the difference between the two is the price of each further event.
"""

from __future__ import annotations

from benchmarks import table
from benchmarks.process import environment, new_home, run
from benchmarks.sink import Sink, count, wait_for

EVENTS = 10_000
EVENTS_OF_PROCESSES = 100
"""For iterative-telemetry: 10,000 processes would take half an hour."""
ROUNDS = 7
DISCARDS = "OTel SDK span, exporter that discards"
NAMES = (
    "nothing",
    DISCARDS,
    "usage-telemetry record()",
    "OTel SDK span, OTLP/HTTP",
    "segment-analytics-python",
    "posthog",
    "iterative-telemetry",
)


def cost(name: str, url: str, events: int) -> tuple[float, int]:
    """CPU in milliseconds of a process that records `events`, and how many of them arrived."""
    before = count(url)
    with new_home() as home:
        _, usage = run(["-m", "benchmarks.emit", name, url, str(events)], environment(home))
    # A sink that has answered has counted; only a detached process could be late.
    arrived = wait_for(url, before + events, timeout_s=1.0) - before if delivers(name) else 0
    return usage["cpu_ms"], arrived


def main(rounds: int = ROUNDS) -> None:
    single: dict[str, list[float]] = {name: [] for name in NAMES}
    many: dict[str, list[float]] = {name: [] for name in NAMES}
    arrived: dict[str, list[float]] = {name: [] for name in NAMES}
    with Sink() as sink:
        for number in range(rounds):
            for name in NAMES if number % 2 else reversed(NAMES):
                single[name].append(cost(name, sink.url, 1)[0])
                cpu_ms, of_them = cost(name, sink.url, events_of(name))
                many[name].append(cpu_ms)
                arrived[name].append(of_them)
    rows = []
    bare = [cpu_ms / events_of(DISCARDS) for cpu_ms in many[DISCARDS]]
    for name in NAMES:
        events = events_of(name)
        whole, one = table.median(many[name]), table.median(single[name])
        reached = table.median(arrived[name])
        thousands = (reached if delivers(name) else events) / 1000
        each = zip(many[name], arrived[name], bare, strict=True)
        over_bare = table.median(
            [cpu_ms / (n if delivers(name) else events) / base for cpu_ms, n, base in each]
        )
        rows.append(
            [
                name,
                f"{reached:,.0f} of {events:,}" if delivers(name) else f"none of {events:,}",
                table.number(whole / thousands),
                "" if name == "nothing" else table.number(over_bare),
                table.number((whole - one) / thousands),
                table.number(one),
            ]
        )
    header = [
        "whole processes",
        "arrived",
        "CPU for 1,000 that arrived, ms",
        "over the bare SDK span, in the same round",
        "of it for the events alone, ms",
        "CPU of a process with one event, ms",
    ]
    table.publish("delivered", table.markdown(header, rows))


def events_of(name: str) -> int:
    return EVENTS_OF_PROCESSES if name == "iterative-telemetry" else EVENTS


def delivers(name: str) -> bool:
    return name not in ("nothing", DISCARDS)


if __name__ == "__main__":
    main()
