"""Pure-ASGI middleware: what a server did with a request -> an action, or nothing.

An action is told by the route template that the framework matched, the method and the answer;
the URL itself is never looked at. Litestar, Starlette and FastAPI leave the template in the scope.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from usage_telemetry.telemetry import Telemetry, error_name

logger = logging.getLogger("usage_telemetry")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

UNKNOWN_ERROR = "HTTPException"
"""What an event says of a 5xx whose exception the framework has turned into an answer."""


class Request:
    """A request being served, and what instrumentations learn about it.

    Attributes:
        noted: Action -> extras, as the host itself tells them.
        known: Extras that an instrumentation found out, above what the host tells.
        failure: Class name of the exception that the framework turned into an answer.
    """

    __slots__ = ("failure", "known", "noted")

    def __init__(self) -> None:
        self.failure: str | None = None
        self.noted: dict[str, Mapping[str, object]] = {}
        self.known: dict[str, object] = {}

    def note(self, action: str, extras: Mapping[str, object]) -> None:
        """Extras for `action`, should the request turn out to be one."""
        earlier = self.noted.get(action)
        self.noted[action] = {**earlier, **extras} if earlier else extras


current_request: ContextVar[Request | None] = ContextVar("usage_request", default=None)
"""The request that the calling code serves; None outside of one."""


class UsageMiddleware:
    """Records one action for each request that did something a catalog knows.

    2xx and 3xx: one event without error. 5xx or an unhandled exception: one event with the class
    name of the exception, or ``HTTPException`` where only the status is known. 4xx, HEAD, static
    files and routes that are not listed: none. A stream is one event, also if it is broken off.

    Args:
        app: The ASGI application.
        telemetry: Where actions are recorded.
        routes: (method, route template) -> name of a declared action.
        startup: Action recorded when the service has started, once per service, with the notice
            before it; None: neither.
    """

    def __init__(
        self,
        app: App,
        telemetry: Telemetry,
        routes: Mapping[tuple[str, str], str],
        *,
        startup: str | None = None,
    ) -> None:
        self.app = app
        self._telemetry = telemetry
        self._routes = {
            (method.upper(), _normal(template)): action
            for (method, template), action in routes.items()
        }
        self._methods = frozenset(method for method, _ in self._routes)
        self._startup = startup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self.app(scope, receive, self._watch_lifespan(send))
            return
        if kind != "http" or scope["method"] not in self._methods or self._telemetry.is_off:
            await self.app(scope, receive, send)
            return

        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        mount = scope.get("root_path", "")
        request = Request()
        token = current_request.set(request)
        exception: BaseException | None = None
        start_ns = time.time_ns()
        try:
            await self.app(scope, receive, watch)
        except BaseException as problem:
            exception = problem
            raise
        finally:
            end_ns = time.time_ns()
            current_request.reset(token)
            try:
                self._record(scope, mount, request, status, exception, start_ns, end_ns)
            except Exception as problem:  # strict mode raises for the host's developers to see
                if self._telemetry.strict:
                    raise
                logger.debug("request: %s: %s", type(problem).__name__, problem)

    def _record(
        self,
        scope: Scope,
        mount: str,
        request: Request,
        status: int,
        exception: BaseException | None,
        start_ns: int,
        end_ns: int,
    ) -> None:
        template = route_template(scope, mount)
        action = self._routes.get((scope["method"], template)) if template else None
        if action is None and not request.noted:
            return
        if isinstance(exception, Exception):
            error = error_name(exception)
        elif status >= 500:
            error = request.failure or UNKNOWN_ERROR
        elif 200 <= status < 400:
            error = None
        else:
            return
        # What the host says of a route that nobody listed is taken at its word.
        for name in [action] if action else request.noted:
            extras = request.noted.get(name, {})
            if request.known:
                declared = self._telemetry.catalog[name].extras
                known = {key: value for key, value in request.known.items() if key in declared}
                extras = {**extras, **known}
            self._telemetry.submit(name, extras, start_ns=start_ns, end_ns=end_ns, error=error)

    def _watch_lifespan(self, send: Send) -> Send:
        async def watch(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete" and self._startup is not None:
                self._telemetry.notice()
                self._telemetry.record_once_per_service(self._startup)
            elif message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                # Servers end by the signal that stopped them, without running atexit.
                self._telemetry.settle()
            await send(message)

        return watch


def route_template(scope: Scope, mount: str = "") -> str | None:
    """The route that the framework matched, as it was declared; None: it matched none.

    Args:
        scope: The ASGI scope, after the application ran.
        mount: ``root_path`` before the application ran: what lies in front of it.
    """
    template = scope.get("path_template")
    if template is None:
        path = _starlette_path(scope)
        if path is None:
            return None
        template = scope.get("root_path", "")[len(mount) :] + path
    # Empty: a folder of files, as some releases of Litestar serve it; the page is "/".
    return _normal(template) if template else None


def _starlette_path(scope: Scope) -> str | None:
    route = scope.get("route")
    if route is None:  # Starlette itself leaves the endpoint, FastAPI the route
        endpoint, router = scope.get("endpoint"), scope.get("router")
        if endpoint is None or router is None:
            return None
        route = _route_of(router, endpoint)
    return getattr(route, "path", None)


def _route_of(router: Any, endpoint: Any) -> Any:
    for route in getattr(router, "routes", ()):
        if getattr(route, "endpoint", None) is endpoint:
            return route
        found = _route_of(route, endpoint)
        if found is not None:
            return found
    return None


@lru_cache(maxsize=1024)
def _normal(template: str) -> str:
    """`/` at the end does not tell routes apart, nor does the type of a parameter."""
    if ":" in template:
        template = "/".join(
            part.split(":", 1)[0] + "}" if part.startswith("{") and ":" in part else part
            for part in template.split("/")
        )
    return template.rstrip("/") or "/"
