"""The faults, one by one: how each is made, and what is to be expected of it."""

from __future__ import annotations

import os
import signal
import sqlite3
import ssl
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import misbehaving as m
from misbehaving import Endpoint

from benchmarks.faults.lab import Lab, Result

CONTACT_S = 0.8
"""How long a process lives whose endpoint cannot tell that it was tried."""


@dataclass
class Row:
    """One fault.

    Attributes:
        name: What the table calls it.
        behave: What the endpoint does; None: it is healthy.
        note: What the contract says of this row, where lost or waiting is not 0.
        task: Of the first process, over the defaults.
        until: When the first process may leave; given the endpoint and how many it recorded.
        prepare: Puts the fault into the home; may return something to end it with.
        end: Ends the first process from outside.
        url: Another URL than the endpoint's own.
        environment: Of the first process.
        later: What is different in the second process's task and environment.
        allowed_lost: How many events the contract gives up.
        allowed_waiting: How many still wait in the outbox after the second process.
        second: Whether there is a second process.
        scale: Most runs that make sense of it.
        tls: The server's context, and what the second process trusts.
    """

    name: str
    behave: Callable[[], m.Behaviour] = lambda: m.healthy
    note: str = ""
    task: dict[str, Any] = field(default_factory=dict)
    until: Callable[[Endpoint, int], object] = lambda endpoint, count: endpoint.wait_until(
        lambda: bool(endpoint.requests)
    )
    prepare: Callable[[Lab], Callable[[], object] | None] = lambda lab: None
    end: Callable[[subprocess.Popen[bytes]], None] | None = None
    url: Callable[[Endpoint], str] = lambda endpoint: endpoint.url
    environment: Callable[[Endpoint], dict[str, str]] = lambda endpoint: {}
    later: dict[str, Any] = field(default_factory=dict)
    allowed_lost: int = 0
    allowed_waiting: int = 0
    second: bool = True
    otlp: bool = False
    most_repeats: int = 100
    tls: bool = False


def measure(
    row: Row, folder: Path, *, repeats: int, events: int = 50, paired: bool = True
) -> Result:
    """Run a row `repeats` times, each in a home of its own."""
    result = Result()
    for index in range(min(repeats, row.most_repeats)):
        _measure_once(row, Lab(folder / f"{index}"), result, events, paired)
    return result


def _measure_once(row: Row, lab: Lab, result: Result, events: int, paired: bool) -> None:
    with ExitStack() as stack:
        tls = None
        if row.tls:
            tls, ca = _certificate(lab.folder)
        endpoint = Endpoint(row.behave(), tls=tls, ids_of=otlp_ids if row.otlp else m.ids_of)
        stack.callback(endpoint.close)
        task = {"endpoint": row.url(endpoint), "events": events, **row.task}
        lab.environment = row.environment(endpoint)
        without = None
        if paired:
            without = lab.run({**task, "without": True}, end=row.end)
        undo = row.prepare(lab)
        try:
            run = lab.run(task, lambda: row.until(endpoint, task["events"]), row.end)
        finally:
            if undo is not None:
                undo()
        result.recorded += task["events"]
        result.stderr += run.stderr[len(without.stderr) if without else 0 :]
        if without is not None:
            result.delays_s.append(run.exit_s - without.exit_s)
        if "peak_mb" in run.said and without is not None:
            result.extra = f"{run.said['peak_mb'] - without.said['peak_mb']:.0f} MB added at most"
        if row.second:
            later = {"endpoint": row.url(endpoint), **row.later}
            lab.environment = {**lab.environment, **later.pop("environment", {})}
            if row.tls:
                lab.environment["SSL_CERT_FILE"] = str(ca)
            lab.deliver_the_rest(endpoint, result, later)
        result.accepted.extend(endpoint.accepted)
        result.requests_seen += len(endpoint.requests)
        if not row.otlp:
            waiting, given_up = _kept(lab)
            result.waiting += waiting
            result.given_up += given_up


def _kept(lab: Lab) -> tuple[int, int]:
    """How many events wait, in the outbox and in the spool, and how many were given up."""
    from usage_telemetry.waiting import in_spools

    path = lab.state / "outbox.db"
    if not path.is_file():
        return in_spools(lab.state), 0
    with closing(sqlite3.connect(path)) as db:
        batches = db.execute("SELECT ids FROM batch WHERE waiting").fetchall()
        given_up = db.execute(
            "SELECT total(value) FROM counter WHERE name LIKE 'given_up:%'"
        ).fetchone()[0]
    ids = [one for (of_batch,) in batches for one in of_batch.split(" ")]
    in_outbox = sum(not one.startswith("old-") for one in ids)
    return in_outbox + in_spools(lab.state), int(given_up)


def otlp_ids(request: m.Request) -> list[str]:
    """The spans' ids in a request of the OTLP exporter."""
    import gzip

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    body = request.body
    if request.header("content-encoding") == "gzip":
        body = gzip.decompress(body)
    found = ExportTraceServiceRequest.FromString(body)
    return [
        span.span_id.hex()
        for resource in found.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return context, path


# -- until when --------------------------------------------------------------------------------


def all_accepted(endpoint: Endpoint, count: int) -> None:
    """All that was recorded was accepted."""
    endpoint.wait_for(count, 20)


def some_time(endpoint: Endpoint, count: int) -> None:
    """The endpoint cannot tell."""
    time.sleep(CONTACT_S)


def answered(endpoint: Endpoint, count: int) -> None:
    """Requests came, and no more of them come."""
    endpoint.wait_until(
        lambda: bool(endpoint.requests) and time.monotonic() - endpoint.requests[-1].at > 0.5
    )


def connected(endpoint: Endpoint, count: int) -> None:
    """There was a connection."""
    endpoint.wait_until(lambda: endpoint.connections > 0)


def a_second_in_flight(endpoint: Endpoint, count: int) -> None:
    """A request has been on its way for a second."""
    endpoint.wait_until(lambda: bool(endpoint.requests))
    time.sleep(1.0)


def at_once(endpoint: Endpoint, count: int) -> None:
    """Without waiting."""


# -- faults of the machine ----------------------------------------------------------------------


def read_only_home(lab: Lab) -> Callable[[], object]:
    """A home that nobody can write: a read-only mount for root, permissions for others."""
    if os.getuid() != 0:
        lab.home.chmod(0o500)
        return lambda: lab.home.chmod(0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(lab.home)], capture_output=True
    )
    if mounted.returncode == 0:
        return lambda: subprocess.run(["umount", str(lab.home)], check=True)
    # No mounts in this container: a file stands where the folders would be.
    lab.home.rmdir()
    lab.home.write_text("")

    def undo() -> None:
        lab.home.unlink()
        lab.home.mkdir()

    return undo


def garbage_in_outbox(lab: Lab) -> None:
    """No database at all."""
    lab.state.mkdir(parents=True)
    (lab.state / "outbox.db").write_bytes(os.urandom(50_000))


def damaged_outbox(lab: Lab) -> None:
    """A database of an earlier version of this process, with a hole in it."""
    garbage_in_outbox(lab)
    path = lab.state / "outbox.db"
    path.unlink()
    from opentelemetry.exporter.jitsu.outbox import Destination, Event, Outbox

    outbox = Outbox(path)
    time_of_all = "2026-01-01T00:00:00.000000Z"
    events = [
        Event(f"old-{n}", time_of_all, b'{"eventn_ctx_event_id":"old-%d"}' % n) for n in range(200)
    ]
    outbox.append(Destination("http://127.0.0.1:1/", "t"), events, time.time())
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8192] = os.urandom(8192)
    path.write_bytes(data)


def garbage_in_user_id(lab: Lab) -> None:
    """Half a file of something else."""
    lab.config.mkdir(parents=True)
    (lab.config / "user_id").write_bytes(b"\xff\xfe not an id")


def locked_outbox(lab: Lab) -> Callable[[], object]:
    """Somebody has the database open and holds it."""
    lab.state.mkdir(parents=True)
    from opentelemetry.exporter.jitsu.outbox import Outbox

    Outbox(lab.state / "outbox.db").add_counts({"nothing": 1})
    db = sqlite3.connect(lab.state / "outbox.db", isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    return db.close


def terminate(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM."""
    process.send_signal(signal.SIGTERM)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL."""
    process.kill()


def otlp(endpoint: Endpoint, protocol: str = "http/protobuf") -> dict[str, str]:
    """What makes a process send to a collector."""
    return {
        "USAGE_TELEMETRY_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint.url.removesuffix(m.PATH),
    }


SAME_ID = "the answer was lost; the repeat carries the same id"
GIVEN_UP = "given up, as the contract says"

ROWS = [
    Row("healthy", until=all_accepted),
    Row("connection refused", lambda: m.refuses_connections, until=some_time),
    Row("hangs before the headers", lambda: m.hang_before_headers),
    Row("hangs in the body, after 200", lambda: m.hang_in_body),
    Row("never reads", lambda: m.never_reads, until=connected, task={"events": 500}),
    Row("drips headers, a byte a second", lambda: m.drip_headers(1.0)),
    Row("drips the body, after 200", lambda: m.drip_body(1.0)),
    Row("resets within the request", lambda: m.reset_mid_request, until=connected),
    Row("resets within the answer, after 200", lambda: m.reset_mid_answer),
    Row("takes the events, resets before an answer", lambda: m.reset_before_answer, SAME_ID),
    Row("503 twice, then up", lambda: m.first(2, 503), until=all_accepted),
    Row("429, Retry-After: 1", lambda: m.first(1, 429, "Retry-After: 1"), until=all_accepted),
    Row(
        "400 for one bad event of 50",
        lambda: m.refuse_if(m.has_action("bad")),
        f"1 in each run {GIVEN_UP}",
        task={"bad_at": 20},
        until=lambda endpoint, count: endpoint.wait_for(count - 1),
        allowed_lost=1,
    ),
    Row(
        "400 to everything",
        lambda: m.status(400),
        f"7 in each run {GIVEN_UP}; the rest waits: the endpoint rests for a day",
        until=answered,
        allowed_lost=7,
        allowed_waiting=44,
    ),
    Row("400 to every array", lambda: m.refuses_arrays, until=all_accepted),
    Row("413 over 4 kB", lambda: m.larger_than(4000), until=all_accepted),
    Row(
        "402", lambda: m.status(402), f"50 in each run {GIVEN_UP}", until=answered, allowed_lost=50
    ),
    Row(
        "401",
        lambda: m.status(401),
        "kept: the endpoint rests for a day",
        until=answered,
        allowed_waiting=51,
    ),
    Row("redirect to another host", lambda: m.redirect("http://localhost:9/elsewhere")),
    Row("wrong certificate", until=some_time, tls=True),
    Row(
        "no DNS",
        until=some_time,
        url=lambda endpoint: endpoint.url.replace("127.0.0.1", "no-such-host.invalid"),
        later={"resolver": "127.0.0.1"},
    ),
    Row(
        "DNS that hangs",
        until=some_time,
        url=lambda endpoint: endpoint.url.replace("127.0.0.1", "no-such-host.invalid"),
        task={"resolver": "hangs"},
        later={"resolver": "127.0.0.1"},
    ),
    Row("read-only home", until=all_accepted, prepare=read_only_home),
    Row("disk full from the start", until=all_accepted, task={"file_limit": 1}),
    Row(
        "disk full half-way",
        until=all_accepted,
        task={"file_limit": 100_000, "events": 500},
    ),
    Row("outbox: no database", until=all_accepted, prepare=garbage_in_outbox),
    Row("outbox: damaged", until=all_accepted, prepare=damaged_outbox),
    Row(
        "outbox locked by another program, hanging endpoint",
        lambda: m.hang_before_headers,
        prepare=locked_outbox,
        until=a_second_in_flight,
        most_repeats=3,
    ),
    Row("corrupt user_id", until=all_accepted, prepare=garbage_in_user_id),
    Row("kill -9 mid-batch", lambda: m.hang_before_headers, until=a_second_in_flight, end=kill),
    Row(
        "SIGTERM under uvicorn",
        lambda: m.hang_before_headers,
        task={"way": "server"},
        end=terminate,
    ),
    Row("sys.exit", lambda: m.hang_before_headers, task={"end": "sys.exit"}),
    Row("unhandled exception", lambda: m.hang_before_headers, task={"end": "exception"}),
    Row("exit before the SDK is imported", task={"way": "early"}, until=at_once),
    Row("recorded while exiting", task={"way": "at_exit"}, until=at_once),
    Row(
        "fork storm: 30 children",
        task={"way": "forks", "children": 30, "events": 500},
        until=at_once,
        most_repeats=3,
    ),
    Row(
        "fork storm, hanging endpoint",
        lambda: m.hang_before_headers,
        task={"way": "forks", "children": 10, "events": 200},
        most_repeats=1,
    ),
    Row(
        "eight workers at once (spawn)",
        task={"way": "workers", "workers": 8, "method": "spawn", "events": 450},
        until=at_once,
        most_repeats=2,
    ),
    Row(
        "eight workers at once (fork)",
        task={"way": "workers", "workers": 8, "method": "fork", "events": 450},
        until=at_once,
        most_repeats=2,
    ),
    Row(
        "clock set back an hour",
        lambda: m.hang_before_headers,
        task={"clock_ahead": True},
    ),
    Row(
        "2,000 threads recording",
        task={"way": "threads", "threads": 2000, "events": 4000},
        until=all_accepted,
        most_repeats=3,
    ),
    Row(
        "a million actions, endpoint down",
        lambda: m.refuses_connections,
        "given up and counted: what comes faster than it is written, and what exceeds the caps",
        task={"way": "million", "events": 1_000_000},
        until=at_once,
        second=False,
        allowed_lost=1_000_000,
        allowed_waiting=10_000,
        most_repeats=1,
    ),
    Row(
        "OTLP over HTTP: hangs",
        lambda: m.hang_before_headers,
        SAME_ID.replace("answer was lost", "answer never came"),
        environment=otlp,
        otlp=True,
    ),
    Row(
        "OTLP over HTTP: refused",
        lambda: m.refuses_connections,
        until=some_time,
        environment=otlp,
        otlp=True,
    ),
    Row(
        "OTLP over gRPC: hangs",
        lambda: m.never_reads,
        "the second process uses OTLP over HTTP",
        until=connected,
        environment=lambda endpoint: otlp(endpoint, "grpc"),
        later={"environment": {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}},
        otlp=True,
    ),
    Row("OTLP over HTTP: drips", lambda: m.drip_headers(1.0), environment=otlp, otlp=True),
]
