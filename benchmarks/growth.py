"""Whether an event costs the same among ten and a million, from many threads and processes."""

from __future__ import annotations

import json
import multiprocessing
import sys
import threading
import time
from collections.abc import Sequence

from benchmarks import table
from benchmarks.emit import CHUNK, PAUSE_S, emit
from benchmarks.process import environment, new_home, run
from benchmarks.senders import SENDERS
from benchmarks.sink import Sink, count, wait_for

NAME = "usage-telemetry record()"
EVENTS = (10, 100, 1_000, 10_000, 100_000)
THREADS = (1, 2, 4, 8, 16, 32, 64)
PROCESSES = (1, 2, 4, 8)
SHARED = 16_000
"""Events that the threads or processes share among them."""
ROUNDS = 2
PLOT = table.DOCS / "cost-growth.svg"


def threads(number: int, url: str, events: int) -> None:
    """Record `events` from so many threads at the pace of `emit`; prints the calls' p50, us."""
    sender = SENDERS[NAME](url)
    samples: list[int] = []
    barrier = threading.Barrier(number)

    def work() -> None:
        mine = []
        for _ in range(events // CHUNK):
            barrier.wait()
            for _ in range(CHUNK // number):
                begin = time.perf_counter_ns()
                sender.record()
                mine.append(time.perf_counter_ns() - begin)
            time.sleep(PAUSE_S)
        samples.extend(mine)

    workers = [threading.Thread(target=work) for _ in range(number)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sender.flush()
    p50_us, p99_us = (table.percentile(samples, p) / 1000 for p in (50, 99))
    print(json.dumps({"p50_us": p50_us, "p99_us": p99_us, "events": len(samples)}))


def processes(number: int, url: str, events: int) -> None:
    """Record `events` from so many processes that share one outbox."""
    context = multiprocessing.get_context("spawn")
    children = [
        context.Process(target=emit, args=(NAME, url, events // number, number * PAUSE_S))
        for _ in range(number)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()


Measured = tuple[float, int, dict[str, float]]


def measure(arguments: Sequence[str], url: str, events: int) -> Measured:
    """CPU in milliseconds of a run, how many of its events arrived, and what it printed."""
    before = count(url)
    with new_home() as home:
        printed, usage = run(["-m", *arguments], environment(home))
        events = int(printed.get("events", events))
        arrived = wait_for(url, before + events, timeout_s=2.0) - before
    return usage["cpu_ms"], arrived, printed


def further_us(few: Measured, many: Measured) -> float:
    """CPU of an event that only the larger run has; both start as many threads or processes."""
    return (many[0] - few[0]) / (many[1] - few[1]) * 1000


def main(rounds: int = ROUNDS, *, million: bool = False) -> None:
    by_events: dict[int, list[float]] = {}
    by_threads: dict[int, list[tuple[float, float, float]]] = {}
    by_processes: dict[int, list[tuple[float, float]]] = {}
    with Sink() as sink:
        url = sink.url
        for round_number in range(rounds):
            # The million takes as long as all the others together: once is enough.
            for events in (0, *EVENTS, *((1_000_000,) if million and not round_number else ())):
                arguments = ["benchmarks.emit", NAME, url, str(events or 1)]
                by_events.setdefault(events, []).append(measure(arguments, url, events or 1)[0])
            start_ms = table.median(by_events[0])
            for number in THREADS:
                few, many = (
                    measure(["benchmarks.growth", "threads", str(number), url, str(n)], url, n)
                    for n in (CHUNK, SHARED)
                )
                calls = many[2]
                figures = (calls["p50_us"], calls["p99_us"], further_us(few, many))
                by_threads.setdefault(number, []).append(figures)
            for number in PROCESSES:
                few, many = (
                    measure(["benchmarks.growth", "processes", str(number), url, str(n)], url, n)
                    for n in (number, SHARED)
                )
                by_processes.setdefault(number, []).append((further_us(few, many), many[1]))
    by_events.pop(0)
    whole_ms = {events: table.median(cpu) for events, cpu in by_events.items()}
    # Fewer events cost less than what the start of a process varies by.
    per_event = {
        events: (cpu_ms - start_ms) / events * 1000
        for events, cpu_ms in whole_ms.items()
        if events >= 1_000
    }
    per_thread = {
        n: [table.median(f) for f in zip(*runs, strict=True)] for n, runs in by_threads.items()
    }
    per_process = {n: table.median([us for us, _ in runs]) for n, runs in by_processes.items()}
    arrived_of = {n: int(table.median([a for _, a in runs])) for n, runs in by_processes.items()}
    tables = [
        table.markdown(
            ["events in one process", *(f"{events:,}" for events in whole_ms)],
            [
                ["CPU of the process, ms", *map(table.number, whole_ms.values())],
                [
                    "CPU of a further event, us",
                    *(table.number(per_event[e]) if e in per_event else "" for e in whole_ms),
                ],
            ],
        ),
        table.markdown(
            ["threads", *map(str, per_thread)],
            [
                ["`record()` p50, us", *(table.number(f[0]) for f in per_thread.values())],
                ["`record()` p99, us", *(table.number(f[1]) for f in per_thread.values())],
                ["CPU of a further event, us", *(table.number(f[2]) for f in per_thread.values())],
            ],
        ),
        table.markdown(
            [f"processes that share {SHARED:,} events", *map(str, per_process)],
            [
                ["CPU of a further event, us", *map(table.number, per_process.values())],
                ["arrived", *(f"{arrived:,}" for arrived in arrived_of.values())],
            ],
        ),
    ]
    _plot(per_event, {n: figures[0] for n, figures in per_thread.items()}, per_process)
    table.publish("growth", "\n\n".join([*tables, f"![Cost per event]({PLOT.name})"]))


def _plot(events: dict[int, float], threads: dict[int, float], processes: dict[int, float]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "cost"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    panels = (
        ("events in one process", "CPU of an event, us", events),
        ("threads", "record(), p50, us", threads),
        ("processes sharing an outbox", "CPU of an event, us", processes),
    )
    for axis, (x, y, points) in zip(axes, panels, strict=True):
        axis.plot(list(points), list(points.values()), marker="o")
        axis.set_xscale("log", base=10 if points is events else 2)
        axis.set_xticks(list(points), [f"{at:,}" for at in points])
        axis.set_ylim(0, 2 * max(points.values()))
        axis.set_xlabel(x)
        axis.set_ylabel(y)
    figure.savefig(PLOT, metadata={"Date": None})


if __name__ == "__main__":
    task = {"threads": threads, "processes": processes}[sys.argv[1]]
    task(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
