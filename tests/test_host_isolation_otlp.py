"""A host with an OTLP exporter of its own, to another endpoint: each side sees its own spans."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hosts import TOOL, run_python
from otlp_receivers import RECEIVERS, OtlpReceiver

HOST_SPANS = TOOL + (
    """
from opentelemetry import trace
tracer = trace.get_tracer("host")
with tracer.start_as_current_span("host-request"):
    with telemetry.action("list_projects", project_count=2):
        with tracer.start_as_current_span("inside-action"):
            pass
assert telemetry.flush(30.0)
trace.get_tracer_provider().force_flush()
"""
)
OWN_PROVIDER = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
if sys.argv[2] == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
provider = TracerProvider(resource=Resource.create({"service.name": "the-host"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=sys.argv[1])))
trace.set_tracer_provider(provider)
"""
CONFIGURED = """
import sys
from opentelemetry.exporter.otlp.proto.{module}.trace_exporter import OTLPSpanExporter

class HostExporter(OTLPSpanExporter):
    def __init__(self):
        super().__init__(endpoint={endpoint!r})
"""

both_protocols = pytest.mark.parametrize("receiver_type", RECEIVERS, ids=lambda r: r.protocol)


def usage_settings(receiver: OtlpReceiver) -> dict[str, str]:
    return {
        "USAGE_TELEMETRY_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": receiver.protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_SERVICE_NAME": "the-host",
        "OTEL_RESOURCE_ATTRIBUTES": "host.secret=leak",
    }


def check(usage: OtlpReceiver, host: OtlpReceiver) -> None:
    """Each receiver holds the spans of its own side, and nothing of the other's in them."""
    [action] = usage.wait_for(1)
    host_spans = {span.name: span for span in host.wait_for(2)}
    assert action.name == "list_projects"
    assert action.resource["service.name"] == "tool"
    assert action.parent_span_id is None
    assert "host" not in repr(usage.spans)
    assert set(host_spans) == {"host-request", "inside-action"}
    request, inside = host_spans["host-request"], host_spans["inside-action"]
    assert inside.parent_span_id == request.span_id
    assert action.trace_id != request.trace_id
    assert request.resource["service.name"] == "the-host"
    assert "usage" not in repr(host.spans)
    assert all("traceparent" not in headers for headers in usage.headers)


@both_protocols
def test_two_otlp_exporters_in_one_process(
    receiver_type: type[OtlpReceiver], environment: dict[str, str]
) -> None:
    with receiver_type() as usage, receiver_type() as host:
        done = run_python(
            OWN_PROVIDER + HOST_SPANS,
            {**environment, **usage_settings(usage)},
            host.traces_endpoint,
            host.protocol,
        )
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
        check(usage, host)


@both_protocols
def test_two_otlp_exporters_under_opentelemetry_instrument(
    receiver_type: type[OtlpReceiver], environment: dict[str, str], tmp_path: Path
) -> None:
    """The host's is configured by name, as an entry point of its own on PYTHONPATH."""
    (tmp_path / "host_exporter.py").write_text("")
    information = tmp_path / "host_exporter-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: host-exporter\nVersion: 1\n"
    )
    (information / "entry_points.txt").write_text(
        "[opentelemetry_traces_exporter]\nof_the_host = host_exporter:HostExporter\n"
    )
    script = tmp_path / "host.py"
    script.write_text(HOST_SPANS)
    instrument = Path(sys.executable).parent / "opentelemetry-instrument"
    with receiver_type() as usage, receiver_type() as host:
        module = "grpc" if host.protocol == "grpc" else "http"
        (tmp_path / "host_exporter.py").write_text(
            CONFIGURED.format(module=module, endpoint=host.traces_endpoint)
        )
        done = subprocess.run(
            [str(instrument), sys.executable, str(script)],
            env={
                **environment,
                **usage_settings(usage),
                "OTEL_TRACES_EXPORTER": "of_the_host",
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "none",
                "PYTHONPATH": str(tmp_path),
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
        check(usage, host)
