"""From a caller's thread to an exporter: bounded, never in the way, nothing left behind."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from usage_telemetry import leaving, spool
from usage_telemetry.pipeline import MAX_QUEUE, Pipeline
from usage_telemetry.record import Record


class Exporter(SpanExporter):
    """Notes what it gets, and behaves as told."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.react: Callable[[], SpanExportResult] = lambda: SpanExportResult.SUCCESS
        self.stopped = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self.react()
        if result is SpanExportResult.SUCCESS:
            self.got.extend((span.attributes or {})["usage.extra.n"] for span in spans)
        return result

    def shutdown(self) -> None:
        self.stopped += 1


@pytest.fixture
def exporter() -> Exporter:
    return Exporter()


@pytest.fixture
def make(exporter: Exporter, tmp_path: Path) -> Iterator[Callable[..., Pipeline]]:
    with ExitStack() as stack:

        def make_one(**options: Any) -> Pipeline:
            options = {
                "make_exporter": lambda: exporter,
                "make_resource": lambda: {"service.name": "x"},
                "spool_folder": lambda: tmp_path / "spool",
                "allowed": lambda: True,
                **options,
            }
            pipeline = Pipeline(**options)
            stack.callback(pipeline.shutdown)
            return pipeline

        yield make_one


def record(number: int) -> Record:
    return Record("a", "cli", {"n": number}, None, time.time_ns(), time.time_ns())


def left(folder: Path) -> list[Any]:
    return sorted(
        one.extras["n"] for _, found in spool.replay(folder / "spool") for one, _ in found
    )


def test_records_reach_the_exporter_in_order_and_nothing_is_left(
    make: Any, exporter: Exporter, tmp_path: Path
) -> None:
    pipeline = make()
    for number in range(1000):
        pipeline.submit(record(number))
    assert pipeline.flush(10)
    assert exporter.got == list(range(1000))
    pipeline.shutdown()
    assert exporter.stopped == 1
    assert not (tmp_path / "spool").exists()


def test_an_exporter_that_hangs_holds_nobody_and_loses_nothing(
    make: Any, exporter: Exporter, tmp_path: Path
) -> None:
    release = threading.Event()

    def hang() -> SpanExportResult:
        release.wait(30)
        return SpanExportResult.FAILURE

    exporter.react = hang
    pipeline = make()
    pipeline.submit(record(1))
    time.sleep(0.6)
    pipeline.submit(record(2))
    began = time.monotonic()
    assert not pipeline.flush(0.1)
    pipeline.shutdown()
    assert time.monotonic() - began < 2.0
    assert left(tmp_path) == [1, 2]
    release.set()


def test_what_was_copied_to_the_spool_and_taken_after_all_is_not_replayed(
    make: Any, exporter: Exporter, tmp_path: Path
) -> None:
    release = threading.Event()

    def slow() -> SpanExportResult:
        release.wait(30)
        return SpanExportResult.SUCCESS

    exporter.react = slow
    pipeline = make()
    pipeline.submit(record(1))
    time.sleep(0.6)
    pipeline.settle()
    assert spool.waiting(tmp_path / "spool") == 1
    release.set()
    assert pipeline.flush(10)
    assert spool.waiting(tmp_path / "spool") == 0
    assert exporter.got == [1]


@pytest.mark.parametrize("way", ["fails", "raises"])
def test_a_batch_that_fails_is_tried_again_after_the_next_success(
    make: Any, exporter: Exporter, tmp_path: Path, way: str
) -> None:
    def fail() -> SpanExportResult:
        if way == "raises":
            raise RuntimeError("third party")
        return SpanExportResult.FAILURE

    exporter.react = fail
    pipeline = make()
    pipeline.submit(record(1))
    assert pipeline.flush(10)
    assert spool.waiting(tmp_path / "spool") == 1
    exporter.react = lambda: SpanExportResult.SUCCESS
    pipeline.submit(record(2))
    assert pipeline.flush(10)
    assert sorted(exporter.got) == [1, 2]
    assert pipeline.stats()["dropped:export_failed"] == 1


def test_a_full_queue_drops_and_counts_and_does_not_block(make: Any) -> None:
    release = threading.Event()

    def slow() -> SpanExporter:
        release.wait(30)
        return Exporter()

    pipeline = make(make_exporter=slow)
    for number in range(MAX_QUEUE + 100):
        pipeline.submit(record(number))
    assert pipeline.stats()["dropped:queue_full"] == 100
    release.set()


def test_an_exporter_that_cannot_be_made_costs_nothing_further(make: Any, tmp_path: Path) -> None:
    def broken() -> SpanExporter:
        raise ValueError("no such exporter")

    pipeline = make(make_exporter=broken)
    pipeline.submit(record(1))
    deadline = time.monotonic() + 10
    while "dropped:no_exporter" not in pipeline.stats() and time.monotonic() < deadline:
        time.sleep(0.01)
    pipeline.submit(record(2))
    assert pipeline.stats()["dropped:no_exporter"] == 2
    assert not pipeline.flush(0.1)
    pipeline.shutdown()
    assert not (tmp_path / "spool").exists()


def test_a_machine_without_file_handles_is_asked_again(
    make: Any, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from usage_telemetry import pipeline as module

    monkeypatch.setattr(module, "RETRY_S", 0.05)
    tries: list[int] = []

    def now_and_then() -> dict[str, str]:
        tries.append(1)
        if len(tries) < 3:
            raise OSError(24, "Too many open files")
        return {"service.name": "x"}

    pipeline = make(make_resource=now_and_then)
    pipeline.submit(record(1))
    assert pipeline.flush(10)
    assert exporter.got == [1]


def test_without_a_thread_everything_is_kept(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pipeline = make()
    pipeline.submit(record(1))
    pipeline.submit(record(2))
    pipeline.shutdown()
    assert left(tmp_path) == [1, 2]


def test_after_the_processs_end_began_a_record_is_kept_and_after_a_shutdown_it_is_not(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make()
    pipeline.shutdown()
    pipeline.submit(record(1))
    assert pipeline.stats()["dropped:after_shutdown"] == 1
    monkeypatch.setattr(leaving, "begun", True)
    pipeline.submit(record(2))
    make().submit(record(3))
    assert left(tmp_path) == [2, 3]


def test_nothing_is_kept_where_it_is_not_allowed(
    make: Any, exporter: Exporter, tmp_path: Path
) -> None:
    pipeline = make(allowed=lambda: False)
    pipeline.submit(record(1))
    assert pipeline.flush(10)
    pipeline.shutdown()
    assert exporter.got == []
    assert not (tmp_path / "spool").exists()


def test_a_hostile_spool_file_does_not_switch_telemetry_off(
    make: Any, exporter: Exporter, tmp_path: Path
) -> None:
    (tmp_path / "spool").mkdir()
    for index, content in enumerate((b"[1]\n[]", b'{"service.name": {"a": []}}', b"\x00")):
        (tmp_path / "spool" / f"{index:020d}-00000000.jsonl").write_bytes(content)
    spool.write(tmp_path / "spool", {"service.name": "x"}, [(record(7), spool.Ids(1, 2))])
    pipeline = make()
    pipeline.submit(record(1))
    assert pipeline.flush(10)
    assert sorted(exporter.got) == [1, 7]


def test_several_pipelines_leave_within_one_limit(
    make: Any, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "_leavers", {})
    monkeypatch.setattr(leaving, "begun", False)
    release = threading.Event()

    def hang() -> SpanExportResult:
        release.wait(30)
        return SpanExportResult.FAILURE

    exporter.react = hang
    for pipeline in [make() for _ in range(10)]:
        pipeline.submit(record(1))
    began = time.monotonic()
    leaving.leave()
    assert time.monotonic() - began < 10 * leaving.EXIT_WAIT_S
    monkeypatch.setattr(leaving, "begun", False)
    release.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_ends_an_idle_thread_and_the_next_record_starts_another(
    make: Any, exporter: Exporter
) -> None:
    pipeline = make()
    pipeline.submit(record(1))
    assert pipeline.flush(10)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if pipeline._thread is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert pipeline._thread is None
    pipeline.submit(record(2))
    assert pipeline.flush(10)
    assert exporter.got == [1, 2]


def test_nothing_is_logged_above_debug(
    make: Any, exporter: Exporter, caplog: pytest.LogCaptureFixture
) -> None:
    def noisy() -> SpanExportResult:
        logging.getLogger("opentelemetry.sdk.trace").error("third party")
        raise RuntimeError("third party")

    exporter.react = noisy
    pipeline = make()
    with caplog.at_level(logging.DEBUG):
        pipeline.submit(record(1))
        pipeline.flush(10)
        pipeline.shutdown()
    assert [line for line in caplog.records if line.levelno > logging.DEBUG] == []
