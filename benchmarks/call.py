"""What the caller waits for: one event recorded, p50 and p99, beside other libraries.

Every sender lives in a process of its own. They take turns, some hundred calls each, many times
over, so that whatever else the machine does meets all of them alike; a turn ends with a flush, so
that nobody's background work falls into another's turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import TracebackType

from benchmarks import table
from benchmarks.process import ROOT, environment, new_home
from benchmarks.senders import SENDERS
from benchmarks.sink import Sink

TURNS = 40
CALLS = 500
CALLS_OF_PROCESSES = 5
"""For iterative-telemetry, which starts a process for each event."""
SETTLE_S = 0.3
BASE = "OTel SDK span, exporter that discards"


class Worker:
    """A process that records events on demand and answers with the duration of each call."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._home = new_home()
        opted_out = {"DO_NOT_TRACK": "1"} if "opted out" in name else {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.call", name, url],
            env=environment(self._home.name, **opted_out),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def turn(self, calls: int) -> list[int]:
        """Nanoseconds of each of `calls` calls."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(calls, file=self._process.stdin, flush=True)
        samples: list[int] = json.loads(self._process.stdout.readline())
        return samples

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._home.cleanup()


def serve(name: str, url: str) -> None:
    """The worker's side: a number of calls on stdin, their durations on stdout."""
    sender = SENDERS[name](url)
    clock = time.perf_counter_ns
    for line in sys.stdin:
        samples = []
        for _ in range(int(line)):
            begin = clock()
            sender.record()
            samples.append(clock() - begin)
        sender.flush()
        print(json.dumps(samples), flush=True)


def main(turns: int = TURNS) -> None:
    samples: dict[str, list[int]] = {name: [] for name in SENDERS}
    with Sink() as sink:
        workers = [Worker(name, sink.url) for name in SENDERS]
        for worker in workers:
            worker.turn(calls_of(worker.name))  # imports, threads and connections come first
        for _ in range(turns):
            for worker in workers:
                time.sleep(SETTLE_S if worker.name == "iterative-telemetry" else 0.0)
                samples[worker.name] += worker.turn(calls_of(worker.name))
            time.sleep(SETTLE_S)
        for worker in workers:
            worker.__exit__(None, None, None)
    base_us = table.median(samples[BASE]) / 1000
    rows = []
    for name, of_sender in samples.items():
        p50_us, p99_us = (table.percentile(of_sender, p) / 1000 for p in (50, 99))
        ratio = "" if name == "nothing" else table.number(p50_us / base_us)
        rows.append([name, table.number(p50_us), table.number(p99_us), ratio])
    header = ["one call", "p50, us", "p99, us", "p50 over the bare SDK span"]
    table.publish("call", table.markdown(header, rows))


def calls_of(name: str) -> int:
    return CALLS_OF_PROCESSES if name == "iterative-telemetry" else CALLS


if __name__ == "__main__":
    serve(*sys.argv[1:])
