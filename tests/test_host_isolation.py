"""A host that uses OpenTelemetry itself sees nothing of ours, and nothing of its own reaches us."""

from __future__ import annotations

import json

from hosts import TOOL, run_python

from usage_telemetry.listen import JitsuEndpoint

HOST = (
    """
import json, logging, random, sys

records = []
class Keep(logging.Handler):
    def emit(self, record):
        records.append((record.name, record.levelname))
logging.basicConfig(level=logging.DEBUG, handlers=[Keep()])

import httpx
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

host_spans = InMemorySpanExporter()
provider = TracerProvider(resource=Resource.create({"host.secret": "resource-of-the-host"}))
provider.add_span_processor(SimpleSpanProcessor(host_spans))
trace.set_tracer_provider(provider)
HTTPXClientInstrumentor().instrument()
tracer = trace.get_tracer("host")
"""
    + TOOL
    + """
with tracer.start_as_current_span("host-request"):
    current = trace.get_current_span()
    with telemetry.action("list_projects", project_count=2):
        assert trace.get_current_span() is current
        with tracer.start_as_current_span("inside-action"):
            pass
random.seed(42)
telemetry.record("startup")
assert telemetry.flush(timeout=20.0)
assert random.getrandbits(64) == random.Random(42).getrandbits(64), "random state was moved"
httpx.get(sys.argv[1])
telemetry.shutdown()
spans = host_spans.get_finished_spans()
print(json.dumps({
    "spans": [span.name for span in spans],
    "parent": [span.parent.span_id == current.get_span_context().span_id
               for span in spans if span.name == "inside-action"],
    "loggers": sorted({name for name, _ in records}),
    "above_debug": [r for r in records if r[0].startswith("usage") and r[1] != "DEBUG"],
    "httpx_lines": sum(name == "httpx" for name, _ in records),
}))
"""
)

SETTINGS_OF_THE_HOST = {
    "OTEL_SERVICE_NAME": "name-of-the-host",
    "OTEL_RESOURCE_ATTRIBUTES": "host.attribute=leak,service.version=9.9.9",
    "OTEL_TRACES_SAMPLER": "always_off",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1",
    "OTEL_BSP_SCHEDULE_DELAY": "600000",
    "OTEL_BSP_MAX_QUEUE_SIZE": "1",
}


def test_neither_sees_anything_of_the_other(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    sampled = {**SETTINGS_OF_THE_HOST, "OTEL_TRACES_SAMPLER": "always_on"}

    host = run_python(HOST, {**environment, **sampled}, f"{endpoint.url}/of-the-host")

    assert host.stderr == ""
    seen = json.loads(host.stdout)
    assert seen["spans"] == ["inside-action", "host-request", "GET"]
    assert seen["parent"] == [True]
    assert seen["httpx_lines"] == 1
    assert seen["above_debug"] == []
    event, started = endpoint.events
    assert (event["action"], started["action"]) == ("list_projects", "startup")
    assert event["tool_name"] == "tool"
    assert event["tool_version"] == "1.2.3"
    assert event["extra"] == {"project_count": 2}
    assert "leak" not in json.dumps(event)
    assert "name-of-the-host" not in json.dumps(event)
    assert "resource-of-the-host" not in json.dumps(event)


def test_sampler_and_limits_of_the_host_do_not_reach_events(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    script = TOOL + 'telemetry.record("list_projects", project_count=7); telemetry.flush(20.0)'

    host = run_python(script, {**environment, **SETTINGS_OF_THE_HOST})

    assert (host.stdout, host.stderr) == ("", "")
    [event] = endpoint.events
    assert event["action"] == "list_projects"
    assert event["extra"] == {"project_count": 7}
    assert event["interface"] == "service_backend"


def test_otel_sdk_disabled_switches_usage_off_too(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    script = TOOL + 'telemetry.record("startup"); telemetry.flush(5.0)'

    run_python(script, {**environment, "OTEL_SDK_DISABLED": "true", "USAGE_TELEMETRY": "on"})

    assert endpoint.received == 0
