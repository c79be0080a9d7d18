"""A small ASGI service with usage telemetry, for servers that run several workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from usage_telemetry import Action, Catalog, Telemetry
from usage_telemetry.instrumentation.asgi import UsageMiddleware

Message = MutableMapping[str, Any]

telemetry = Telemetry(
    "tiny",
    "1.0",
    "service_backend",
    Catalog([Action("startup", "The service started."), Action("index", "The page.")]),
)


async def service(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer every request with two bytes, and say which route that was."""
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    scope["path_template"] = scope["path"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


app = UsageMiddleware(service, telemetry, {("GET", "/"): "index"}, startup="startup")
