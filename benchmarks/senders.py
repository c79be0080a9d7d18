"""One event, sent by each of the libraries under comparison: all record the same action.

Every library is imported in its own function, so that a process pays for the one it measures.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, NamedTuple

TOOL = "benchmark"
VERSION = "1.2.3"
ACTION = "list_projects"


class Sender(NamedTuple):
    """What a tool calls: `record` for each event, `flush` to have them all delivered."""

    record: Callable[[], object]
    flush: Callable[[], object]


def telemetry(url: str) -> Any:
    """A `usage_telemetry.Telemetry` for the sink at `url`."""
    from usage_telemetry import Action, Catalog, Count, Telemetry

    catalog = Catalog([Action(ACTION, "The list was opened.", project_count=Count("Projects."))])
    return Telemetry(TOOL, VERSION, "service_backend", catalog, f"{url}/api/v1/s2s/event", "token")


def usage_record(url: str) -> Sender:
    ours = telemetry(url)
    return Sender(lambda: ours.record(ACTION, project_count=3), lambda: ours.flush(60.0))


def usage_action(url: str) -> Sender:
    ours = telemetry(url)

    def record() -> None:
        with ours.action(ACTION, project_count=3):
            pass

    return Sender(record, lambda: ours.flush(60.0))


def nothing(url: str) -> Sender:
    return Sender(lambda: None, lambda: None)


def posthog(url: str) -> Sender:
    from posthog import Posthog

    client = Posthog("token", host=url, disable_geoip=True)
    event = {"project_count": 3, "tool_version": VERSION, "interface": "service_backend"}
    return Sender(
        lambda: client.capture(ACTION, distinct_id="user", properties=event), client.flush
    )


def segment(url: str) -> Sender:
    from segment.analytics.client import Client

    client = Client("token", host=url)
    event = {"project_count": 3, "tool_version": VERSION, "interface": "service_backend"}
    return Sender(lambda: client.track("user", ACTION, event), client.flush)


def iterative(url: str) -> Sender:
    from iterative_telemetry import IterativeTelemetryLogger

    logger = IterativeTelemetryLogger(
        TOOL, VERSION, enabled=True, url=f"{url}/api/v1/s2s/event", token="token"
    )
    return Sender(
        lambda: logger.send_event("service_backend", ACTION, project_count=3), lambda: None
    )


def sdk_discarding(url: str) -> Sender:
    """The floor under anything that makes an SDK span for each event."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Discarding(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    return _sdk(Discarding())


def otlp_http(url: str) -> Sender:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return _sdk(OTLPSpanExporter(f"{url}/v1/traces"))


def _sdk(exporter: Any) -> Sender:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource({"service.name": TOOL, "service.version": VERSION})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("usage")

    def record() -> None:
        attributes: dict[str, str | int] = {
            "usage.action": ACTION,
            "usage.interface": "service_backend",
            "usage.extra.project_count": 3,
        }
        tracer.start_span(ACTION, attributes=attributes).end()

    return Sender(record, lambda: provider.force_flush(60_000))


Message = MutableMapping[str, Any]


async def _asgi_app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """A framework that has matched a route and answers with nothing."""
    scope["path_template"] = scope["path"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _request(app: Callable[..., Any], path: str) -> Callable[[], None]:
    """A request served without a server: nothing in the app waits for anything."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        pass

    def record() -> None:
        scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
        with suppress(StopIteration):
            app(scope, receive, send).send(None)

    return record


def asgi_bare(url: str) -> Sender:
    return Sender(_request(_asgi_app, "/api/projects"), lambda: None)


def _middleware(url: str, path: str) -> Sender:
    from usage_telemetry.instrumentation.asgi import UsageMiddleware

    ours = telemetry(url)
    app = UsageMiddleware(_asgi_app, ours, {("GET", "/api/projects"): ACTION})
    return Sender(_request(app, path), lambda: ours.flush(60.0))


def asgi_matched(url: str) -> Sender:
    return _middleware(url, "/api/projects")


def asgi_unmatched(url: str) -> Sender:
    return _middleware(url, "/api/version")


SENDERS: dict[str, Callable[[str], Sender]] = {
    "nothing": nothing,
    "usage-telemetry record()": usage_record,
    "usage-telemetry action()": usage_action,
    "usage-telemetry record(), opted out": usage_record,
    "ASGI request, bare": asgi_bare,
    "ASGI request, middleware, no action": asgi_unmatched,
    "ASGI request, middleware, action recorded": asgi_matched,
    "ASGI request, middleware, opted out": asgi_matched,
    "OTel SDK span, exporter that discards": sdk_discarding,
    "OTel SDK span, OTLP/HTTP": otlp_http,
    "segment-analytics-python": segment,
    "posthog": posthog,
    "iterative-telemetry": iterative,
}
