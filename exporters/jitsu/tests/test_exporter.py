"""JitsuSpanExporter against real servers: what is sent, retried, split, given up, kept."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import misbehaving as m
import pytest
from opentelemetry.exporter.jitsu import JitsuSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

Make = Callable[..., JitsuSpanExporter]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes exporters that share an outbox, as processes of one user do."""
    with ExitStack() as stack:

        def make_one(endpoint: str | None, **options: Any) -> JitsuSpanExporter:
            options = {"state_dir": tmp_path / "state", "timeout_s": 2.0, **options}
            exporter = JitsuSpanExporter(endpoint, "token", **options)
            stack.callback(exporter.shutdown)
            return exporter

        yield make_one


def ids(spans: Any) -> set[str]:
    from opentelemetry.exporter.jitsu.event import event_id

    return {event_id(span) for span in spans}


def test_many_events_go_in_one_request(start: Any, make: Make, spans: Any) -> None:
    endpoint = start()
    exporter = make(endpoint.url)
    sent = spans(100)
    assert exporter.export(sent) is SpanExportResult.SUCCESS
    assert exporter.force_flush(5000)
    assert len(endpoint.requests) == 1
    assert set(endpoint.accepted) == ids(sent)
    stats = exporter.stats()
    assert (stats["queued"], stats["sent"], stats["requests"]) == (100, 100, 1)


def test_spans_without_an_action_are_ignored(start: Any, make: Make, spans: Any) -> None:
    endpoint = start()
    exporter = make(endpoint.url)
    exporter.export(spans(3, action=None))
    assert exporter.force_flush(2000)
    assert endpoint.requests == []


@pytest.mark.parametrize("way", ["DO_NOT_TRACK", "no endpoint", "not allowed", "bad timeout"])
def test_nothing_is_written_or_sent_where_it_must_not_be(
    start: Any, make: Make, spans: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    endpoint = start()
    if way == "DO_NOT_TRACK":
        monkeypatch.setenv("DO_NOT_TRACK", "")
    if way == "bad timeout":
        monkeypatch.setenv("OTEL_EXPORTER_JITSU_TIMEOUT", "soon")
    options = {"allowed": lambda: False} if way == "not allowed" else {}
    exporter = make(None if way == "no endpoint" else endpoint.url, **options)
    assert exporter.export(spans(2)) is SpanExportResult.SUCCESS
    assert exporter.force_flush(1000)
    assert endpoint.connections == 0
    assert not (tmp_path / "state").exists()


def test_an_event_over_8_kib_is_given_up_and_counted(start: Any, make: Make, spans: Any) -> None:
    endpoint = start()
    exporter = make(endpoint.url)
    exporter.export([*spans(1, **{"usage.extra.x": "y" * 9000}), *spans(1)])
    assert exporter.force_flush(5000)
    assert len(endpoint.accepted) == 1
    assert exporter.stats()["given_up:over_8_kib"] == 1


def test_one_bad_event_of_fifty_is_found_and_the_rest_delivered(
    start: Any, make: Make, spans: Any
) -> None:
    endpoint = start(m.refuse_if(m.has_action("bad")))
    exporter = make(endpoint.url)
    good, bad = spans(49), spans(1, action="bad")
    exporter.export([*good[:20], *bad, *good[20:]])
    assert exporter.force_flush(10_000)
    assert set(endpoint.accepted) == ids(good)
    assert endpoint.twice == []
    assert exporter.stats()["given_up:status_400"] == 1


def test_sixteen_bad_events_in_a_row_do_not_stop_a_destination_that_works(
    start: Any, make: Make, spans: Any
) -> None:
    endpoint = start(m.refuse_if(m.has_action("bad")))
    exporter = make(endpoint.url)
    exporter.export([*spans(4), *spans(16, action="bad"), *spans(4)])
    assert exporter.force_flush(10_000)
    assert len(endpoint.accepted) == 8
    assert exporter.stats()["given_up:status_400"] == 16


def test_an_endpoint_that_refuses_everything_costs_seven_events_and_rests(
    start: Any, make: Make, spans: Any
) -> None:
    endpoint = start(m.status(400))
    exporter = make(endpoint.url)
    exporter.export(spans(50))
    assert not exporter.force_flush(10_000)
    assert exporter.stats()["given_up:status_400"] == 7
    requests = len(endpoint.requests)
    assert not exporter.force_flush(1000)
    assert len(endpoint.requests) == requests


def test_an_endpoint_without_arrays_gets_single_events(start: Any, make: Make, spans: Any) -> None:
    endpoint = start(m.refuses_arrays)
    exporter = make(endpoint.url)
    exporter.export(spans(40))
    assert exporter.force_flush(10_000)
    assert len(set(endpoint.accepted)) == len(endpoint.accepted) == 40
    assert len([request for request in endpoint.requests if request.is_array]) <= 6
    exporter.export(spans(3))
    assert exporter.force_flush(5000)
    assert not endpoint.requests[-1].is_array


def test_413_makes_the_batches_smaller(start: Any, make: Make, spans: Any) -> None:
    endpoint = start(m.larger_than(4000))
    exporter = make(endpoint.url)
    exporter.export(spans(50))
    assert exporter.force_flush(10_000)
    assert len(set(endpoint.accepted)) == len(endpoint.accepted) == 50


def test_402_is_given_up_and_counted(start: Any, make: Make, spans: Any) -> None:
    exporter = make(start(m.status(402)).url)
    exporter.export(spans(5))
    assert exporter.force_flush(5000)
    assert exporter.stats()["given_up:status_402"] == 5


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_wrong_destination_rests_and_its_events_stay(
    start: Any, make: Make, spans: Any, code: int
) -> None:
    endpoint = start(m.status(code))
    first = make(endpoint.url)
    first.export(spans(3))
    assert not first.force_flush(5000)
    endpoint.behave = m.healthy
    second = make(endpoint.url)
    second.export(spans(1))
    assert not second.force_flush(1000)
    assert len(endpoint.requests) == 1
    other = make(endpoint.url + "/other")  # a destination of its own
    sent = spans(1)
    other.export(sent)
    assert other.force_flush(5000)
    assert set(endpoint.accepted) == ids(sent)


def test_503_is_retried_by_itself(start: Any, make: Make, spans: Any) -> None:
    endpoint = start(m.first(2, 503))
    exporter = make(endpoint.url)
    exporter.export(spans(3))
    assert endpoint.wait_for(3, 15)
    assert exporter.stats()["retried"] == 2


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for_even_by_a_flush(
    start: Any, make: Make, spans: Any, form: str
) -> None:
    from email.utils import formatdate

    value = "1" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)
    endpoint = start(m.first(1, 429, f"Retry-After: {value}"))
    exporter = make(endpoint.url)
    exporter.export(spans(1))
    assert not exporter.force_flush(3000)
    assert not exporter.force_flush(100)
    assert len(endpoint.requests) == 1
    assert endpoint.wait_for(1, 15)
    first, second = endpoint.requests
    assert second.at - first.at > 0.5


def test_retry_after_0_does_not_become_a_storm(start: Any, make: Make, spans: Any) -> None:
    endpoint = start(m.status(429, "Retry-After: 0"))
    make(endpoint.url).export(spans(1))
    time.sleep(1.5)
    assert 1 <= len(endpoint.requests) < 12


def test_an_accepted_event_is_not_repeated_when_the_answer_breaks_off(
    start: Any, make: Make, spans: Any
) -> None:
    for behave in (m.reset_mid_answer, m.hang_in_body, m.drip_body(0.2)):
        endpoint = start(behave)
        exporter = make(endpoint.url)
        exporter.export(spans(2))
        assert exporter.force_flush(5000)
        endpoint.behave = m.healthy
        exporter.export(spans(1))
        assert exporter.force_flush(5000)
        assert len(endpoint.accepted) == 3
        assert endpoint.twice == []


def test_a_repeat_after_a_lost_answer_carries_the_same_ids(
    start: Any, make: Make, spans: Any
) -> None:
    endpoint = start(m.reset_before_answer)
    exporter = make(endpoint.url)
    exporter.export(spans(3))
    assert not exporter.force_flush(5000)
    endpoint.behave = m.healthy
    assert exporter.force_flush(5000)
    assert endpoint.requests[0].ids == endpoint.requests[-1].ids


def test_what_one_exporter_could_not_deliver_the_next_one_does(
    start: Any, make: Make, spans: Any
) -> None:
    endpoint = start(m.refuses_connections)
    first = make(endpoint.url)
    kept = spans(3)
    first.export(kept)
    assert not first.force_flush(2000)
    first.shutdown()
    endpoint.behave = m.healthy
    second = make(endpoint.url)
    new = spans(1)
    second.export(new)
    assert second.force_flush(5000)
    assert set(endpoint.accepted) == ids(kept) | ids(new)
    assert endpoint.twice == []


def test_two_exporters_of_one_tool_share_the_work(start: Any, make: Make, spans: Any) -> None:
    endpoint = start()
    one, other = make(endpoint.url), make(endpoint.url)
    for _ in range(5):
        one.export(spans(10))
        other.export(spans(10))
    assert one.force_flush(10_000)
    assert other.force_flush(10_000)
    assert len(endpoint.accepted) == 100
    assert endpoint.twice == []


def test_a_flush_takes_along_what_another_process_puts_in_meanwhile(
    start: Any, make: Make, spans: Any
) -> None:
    other = make("http://127.0.0.1:9/x")
    endpoint = start()
    exporter = make(endpoint.url)
    other._destination = exporter._destination
    other.hold()
    late = spans(2)

    @m.each
    def accept_while_the_other_records(connection: m.Connection, request: m.Request) -> None:
        if not endpoint.accepted:
            other.export(late)
        connection.answer(request)

    endpoint.behave = accept_while_the_other_records
    sent = spans(3)
    exporter.hold()
    exporter.export(sent)
    assert exporter.force_flush(5000)
    assert set(endpoint.accepted) == ids(sent) | ids(late)
    assert endpoint.twice == []


def test_shutdown_waits_a_moment_and_no_longer(start: Any, make: Make, spans: Any) -> None:
    endpoint = start(m.hang_before_headers)
    exporter = make(endpoint.url, timeout_s=30.0)
    exporter.export(spans(1))
    assert endpoint.wait_until(lambda: bool(endpoint.requests))
    began = time.monotonic()
    exporter.shutdown()
    assert time.monotonic() - began < 2.0
    assert exporter.export(spans(1)) is SpanExportResult.FAILURE


def test_while_holding_nothing_is_sent_and_afterwards_everything(
    start: Any, make: Make, spans: Any
) -> None:
    endpoint = start()
    exporter = make(endpoint.url)
    exporter.hold()
    exporter.export(spans(2))
    time.sleep(0.3)
    assert endpoint.requests == []
    exporter.hold(False)
    assert endpoint.wait_for(2)


def test_events_of_two_tools_wait_apart(start: Any, make: Make, spans: Any, tmp_path: Path) -> None:
    exporter = make(start().url)
    exporter.export(spans(1))
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["tool"]


def test_nothing_is_logged_above_debug_and_nothing_escapes(
    start: Any, make: Make, spans: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (hostile,) = spans(1)
    hostile._start_time = 10**40  # no such year
    endpoint = start(m.reset_mid_request)
    exporter = make(endpoint.url)
    with caplog.at_level(logging.DEBUG):
        result = exporter.export([hostile, *spans(1)])
        exporter.force_flush(2000)
    assert result is SpanExportResult.SUCCESS
    assert exporter.stats()["given_up:not_an_event"] == 1
    assert exporter.stats()["queued"] == 1
    assert [line for line in caplog.records if line.levelno > logging.DEBUG] == []


SCRIPT = """
import os, sys, time
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.jitsu import JitsuSpanExporter

exporter = JitsuSpanExporter(sys.argv[1], "token")
provider = TracerProvider(resource=Resource({"service.name": "tool"}))
provider.add_span_processor(BatchSpanProcessor(exporter))
tracer = provider.get_tracer("usage_telemetry")
def act():
    tracer.start_span("a", attributes={"usage.action": "a"}).end()
act()
provider.force_flush()
time.sleep(float(sys.argv[2]))
if sys.argv[3:] == ["fork"] and os.fork() == 0:
    act()
    exporter.force_flush(5000)
    provider.shutdown()
    os._exit(0)
act()
"""


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_it_works_alone_under_the_sdks_own_processor(start: Any, tmp_path: Path) -> None:
    endpoint = start()
    for _ in range(2):
        result = run(tmp_path, endpoint.url, "1.0")
        assert (result.returncode, result.stderr) == (0, "")
    assert endpoint.twice == []
    assert len(endpoint.accepted) in (3, 4)  # the last one may wait for a third process


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_of_an_idle_process_warns_of_no_thread_of_ours(start: Any, tmp_path: Path) -> None:
    # Python 3.12 and later print a warning when a process with threads forks. The SDK's own
    # processor has one as well, so that here only the exporter's are looked at.
    script = SCRIPT.replace("BatchSpanProcessor(", "SimpleSpanProcessor(").replace(
        "import BatchSpanProcessor", "import SimpleSpanProcessor"
    )
    endpoint = start()
    result = subprocess.run(
        [sys.executable, "-W", "always", "-c", script, endpoint.url, "2.0", "fork"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "fork" not in result.stderr
    assert endpoint.wait_for(2)
    assert endpoint.twice == []
