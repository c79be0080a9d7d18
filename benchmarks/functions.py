"""The parts of an event's way, each as a function, timed by pyperf in processes of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks import table
from benchmarks.process import environment, new_home
from usage_telemetry.record import Record, with_ids
from usage_telemetry.spans import Spans

BATCH = 512
NAMES = {
    "validate": "one extra validated",
    "record": "`record()` up to the queue",
    "opted out": "`record()`, opted out",
    "span": "action -> SDK span",
    "event": "span -> event",
    "encode": "event -> JSON",
}


def main() -> None:
    """Run this file under pyperf and turn its result into a table."""
    import subprocess
    import sys

    import pyperf

    with new_home() as home:
        result = Path(home) / "functions.json"
        command = [
            sys.executable,
            "-m",
            "benchmarks.functions",
            "-o",
            str(result),
            "--quiet",
            "--fast",
        ]
        env = environment(home)
        inherited = f"--inherit-environ={','.join(env)}"
        subprocess.run([*command, inherited], env=env, check=True)
        suite = pyperf.BenchmarkSuite.load(str(result))
    rows = []
    for name, title in NAMES.items():
        values_us = [value * 1e6 for value in suite.get_benchmark(name).get_values()]
        low, middle, high = (table.percentile(values_us, p) for p in (5, 50, 95))
        rows.append([title, *map(table.number, (middle, low, high))])
    header = ["for one event", "median, us", "5 % of runs below", "95 % of runs below"]
    table.publish("functions", table.markdown(header, rows))


def run() -> None:
    import pyperf
    from opentelemetry.exporter.jitsu.event import encode, encode_resource, span_fields

    from benchmarks.senders import ACTION, TOOL, VERSION, telemetry
    from usage_telemetry import Telemetry
    from usage_telemetry.environment import resource_attributes

    url = "http://127.0.0.1:9"
    ours = telemetry(url)
    ours._sinks = (_Nowhere(),)
    os.environ["DO_NOT_TRACK"] = "1"
    off: Telemetry = telemetry(url)
    off.record(ACTION)
    declared = ours.catalog[ACTION]

    now_ns = time.time_ns()
    record = Record(ACTION, "service_backend", {"project_count": 3}, None, now_ns, now_ns)
    resource = resource_attributes(tool=TOOL, version=VERSION, user_id="0" * 36)
    spans = Spans(resource)
    records = with_ids([record] * BATCH)
    made = spans.make(records)
    further = encode_resource(made[0].resource.attributes)
    fields = span_fields(made[0])
    assert fields is not None

    runner = pyperf.Runner()
    runner.bench_func("validate", declared.validate, "project_count", 3)
    runner.bench_func("record", lambda: ours.record(ACTION, project_count=3))
    runner.bench_func("opted out", lambda: off.record(ACTION, project_count=3))
    runner.bench_func("span", spans.make, records, inner_loops=BATCH)
    runner.bench_func("event", span_fields, made[0])
    runner.bench_func("encode", encode, fields, further)


class _Nowhere:
    """The end of the queue, without a queue."""

    def submit(self, record: object) -> None: ...
    def flush(self, timeout_s: float) -> bool:
        return True

    def settle(self, timeout_s: float = 0.0) -> None: ...
    def shutdown(self, timeout_s: float = 0.0) -> None: ...
    def stats(self) -> dict[str, int]:
        return {}


if __name__ == "__main__":
    run()
