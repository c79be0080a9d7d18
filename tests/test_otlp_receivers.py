"""The receivers read what the SDK's own OTLP exporters send, and misbehave when told to."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator

import pytest
import requests
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, StatusCode
from otlp_receivers import RECEIVERS, Fault, OtlpGrpcReceiver, OtlpHttpReceiver, OtlpReceiver
from tls_files import Tls, make_tls

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
EXPORTERS: dict[type[OtlpReceiver], type[GrpcExporter] | type[HttpExporter]] = {
    OtlpGrpcReceiver: GrpcExporter,
    OtlpHttpReceiver: HttpExporter,
}

both_protocols = pytest.mark.parametrize("receiver_type", RECEIVERS, ids=lambda r: r.protocol)


@pytest.fixture(autouse=True)
def no_variables_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    # With these set, requests 2.34 puts them over the certificate that the HTTP exporter is given.
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def spans() -> Iterator[list[ReadableSpan]]:
    """One span with everything that a receiver decodes, and a child of it."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(
        resource=Resource({"service.name": "evidently", "numbers": (1, 2)}, SCHEMA_URL),
        sampler=ALWAYS_ON,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("usage_telemetry", "1.0", SCHEMA_URL, {"scope": "attribute"})
    with tracer.start_as_current_span(
        "parent", start_time=1_000_000_000, end_on_exit=False
    ) as span:
        span.set_attributes(
            {"text": "ä", "yes": True, "count": 3, "share": 0.5, "list": ["a", "b"]}
        )
        tracer.start_span("child", kind=SpanKind.SERVER).end()
    span.set_status(StatusCode.ERROR, "it broke")
    span.end(end_time=3_500_000_000)
    yield list(memory.get_finished_spans())
    provider.shutdown()


def exporter_for(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> SpanExporter:
    """The SDK's exporter, told where to send in the way its users tell it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    return EXPORTERS[type(receiver)](timeout=0.5)


@both_protocols
def test_a_span_arrives_with_all_it_had(
    receiver_type: type[OtlpReceiver], spans: list[ReadableSpan], monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver_type() as receiver:
        result = exporter_for(receiver, monkeypatch).export(spans)
        child, parent = receiver.wait_for(2)

    assert result is SpanExportResult.SUCCESS
    assert (parent.name, parent.kind, parent.parent_span_id) == ("parent", "INTERNAL", None)
    assert (child.name, child.kind, child.parent_span_id) == ("child", "SERVER", parent.span_id)
    assert child.trace_id == parent.trace_id
    assert (context := spans[1].get_span_context()) is not None
    assert parent.trace_id == f"{context.trace_id:032x}"
    assert parent.attributes == {
        "text": "ä",
        "yes": True,
        "count": 3,
        "share": 0.5,
        "list": ["a", "b"],
    }
    assert (parent.status, parent.status_message) == ("ERROR", "it broke")
    assert (child.status, child.status_message) == ("UNSET", "")
    assert (parent.start_ns, parent.end_ns) == (1_000_000_000, 3_500_000_000)
    assert parent.duration_s == 2.5
    assert parent.resource == {"service.name": "evidently", "numbers": [1, 2]}
    assert (parent.scope_name, parent.scope_version) == ("usage_telemetry", "1.0")
    assert parent.scope_attributes == {"scope": "attribute"}
    assert parent.resource_schema_url == parent.scope_schema_url == SCHEMA_URL
    assert (parent.events, parent.links) == ([], 0)


@both_protocols
def test_the_signal_s_own_endpoint_and_headers_are_seen(
    receiver_type: type[OtlpReceiver], spans: list[ReadableSpan], monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver_type() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.traces_endpoint)
        monkeypatch.setenv(
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "X-Team=usage,authorization=Bearer%20t"
        )
        EXPORTERS[receiver_type]().export(spans)
        receiver.wait_for(2)

    (headers,) = receiver.headers
    assert (headers["x-team"], headers["authorization"]) == ("usage", "Bearer t")
    assert headers["user-agent"].startswith("OTel-OTLP-Exporter-Python/")


@both_protocols
@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_compressed_requests_are_read(
    receiver_type: type[OtlpReceiver],
    compression: str,
    spans: list[ReadableSpan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if receiver_type is OtlpGrpcReceiver and compression != "gzip":
        pytest.skip("the gRPC exporter knows gzip alone")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
    with receiver_type() as receiver:
        exporter_for(receiver, monkeypatch).export(spans * 50)
        assert len(receiver.wait_for(100)) == 100

    (request,) = receiver.requests
    if receiver_type is OtlpHttpReceiver:
        assert request.wire_bytes is not None
        assert (request.wire_bytes < 5_000) is (compression != "none")
        assert request.headers.get("content-encoding", "none") == compression


@both_protocols
def test_tls_asks_for_the_authority(
    receiver_type: type[OtlpReceiver],
    tls: Tls,
    spans: list[ReadableSpan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receiver_type(tls=tls) as receiver:
        assert receiver.endpoint.startswith("https://")
        assert exporter_for(receiver, monkeypatch).export(spans) is SpanExportResult.FAILURE
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tls.ca_file))
        assert exporter_for(receiver, monkeypatch).export(spans) is SpanExportResult.SUCCESS
        assert len(receiver.wait_for(2)) == 2


@both_protocols
def test_tls_asks_for_the_client_s_certificate(
    receiver_type: type[OtlpReceiver],
    tls: Tls,
    spans: list[ReadableSpan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tls.ca_file))
    with receiver_type(tls=tls, require_client_certificate=True) as receiver:
        assert exporter_for(receiver, monkeypatch).export(spans) is SpanExportResult.FAILURE
        monkeypatch.setenv(
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(tls.client_certificate_file)
        )
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(tls.client_key_file))
        assert exporter_for(receiver, monkeypatch).export(spans) is SpanExportResult.SUCCESS
        assert len(receiver.wait_for(2)) == 2


@both_protocols
@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.HANG, Fault.STALL, Fault.UNAVAILABLE])
def test_a_fault_fails_the_export(
    receiver_type: type[OtlpReceiver],
    fault: Fault,
    spans: list[ReadableSpan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receiver_type(fault=fault) as receiver:
        assert exporter_for(receiver, monkeypatch).export(spans) is SpanExportResult.FAILURE
        assert (receiver.attempts > 0) is (fault is not Fault.REFUSE)
        assert bool(receiver.spans) is (fault is Fault.STALL)


def test_a_drip_outlasts_the_grpc_deadline(
    spans: list[ReadableSpan], monkeypatch: pytest.MonkeyPatch
) -> None:
    with OtlpGrpcReceiver(fault=Fault.DRIP) as receiver:
        assert exporter_for(receiver, monkeypatch).export(spans) is SpanExportResult.FAILURE
        assert receiver.attempts == 1


def test_a_drip_holds_the_http_exporter_beyond_its_timeout(
    spans: list[ReadableSpan], monkeypatch: pytest.MonkeyPatch
) -> None:
    with OtlpHttpReceiver(fault=Fault.DRIP) as receiver:
        exporter = exporter_for(receiver, monkeypatch)
        export = threading.Thread(target=exporter.export, args=(spans,), daemon=True)
        export.start()
        export.join(1.5)  # three times the exporter's timeout
        assert export.is_alive()
    export.join(5)
    assert not export.is_alive(), "closing the receiver cuts its connections"


@both_protocols
def test_a_receiver_comes_back_on_its_port(
    receiver_type: type[OtlpReceiver], spans: list[ReadableSpan], monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver_type(fault=Fault.REFUSE) as down:
        exporter = exporter_for(down, monkeypatch)
        assert exporter.export(spans) is SpanExportResult.FAILURE
    with receiver_type(port=down.port) as up:
        deadline = time.monotonic() + 5
        while exporter.export(spans) is SpanExportResult.FAILURE:
            assert time.monotonic() < deadline
        assert len(up.wait_for(2)) == 2


def test_waiting_in_vain_says_what_has_come(
    spans: list[ReadableSpan], monkeypatch: pytest.MonkeyPatch
) -> None:
    with OtlpHttpReceiver() as receiver:
        exporter_for(receiver, monkeypatch).export(spans)
        with pytest.raises(AssertionError, match=r"2 of 3 spans.*'child', 'parent'"):
            receiver.wait_for(3, timeout=0.1)
        receiver.clear()
        assert receiver.spans == []


def test_other_paths_and_types_are_turned_away() -> None:
    with OtlpHttpReceiver() as receiver:
        protobuf = {"Content-Type": "application/x-protobuf"}
        assert requests.post(receiver.endpoint, headers=protobuf).status_code == 404
        assert requests.post(receiver.traces_endpoint, json={}).status_code == 415
        answer = requests.post(receiver.traces_endpoint, headers=protobuf)
        assert (answer.status_code, answer.content) == (200, b"")
        assert (receiver.attempts, receiver.spans) == (3, [])


def test_nothing_is_said_on_standard_error(
    tls: Tls,
    spans: list[ReadableSpan],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # A handler that another test's library left at the root logger may write to a closed file.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with OtlpHttpReceiver(tls=tls) as receiver:
        exporter_for(receiver, monkeypatch).export(spans)  # fails the handshake
        assert receiver.spans == []
    assert capfd.readouterr().err == ""
