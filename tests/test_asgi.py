"""UsageMiddleware around real frameworks under a real server: which request is which event."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fastapi
import litestar
import litestar.exceptions
import litestar.response
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, Router

from usage_telemetry import Action, Catalog, Count, Telemetry
from usage_telemetry.instrumentation.asgi import UsageMiddleware, current_request
from usage_telemetry.testing import Captured, capture

CATALOG = Catalog(
    [
        Action("started", "The service started."),
        Action("list_items", "The list was opened.", item_count=Count("Items.")),
        Action("get_item", "An item was opened."),
        Action("add_item", "An item was added."),
        Action("download", "A file was downloaded."),
        Action("inner", "A mounted application was used."),
    ]
)
ROUTES = {
    ("GET", "/items"): "list_items",
    ("GET", "/items/{name}"): "get_item",
    ("POST", "/items"): "add_item",
    ("GET", "/download"): "download",
    ("GET", "/inner/things/{number}"): "inner",
}
CHUNK = b"x" * 65536


def note(action: str, **extras: object) -> None:
    request = current_request.get()
    assert request is not None
    request.note(action, extras)


async def endless() -> AsyncIterator[bytes]:
    for _ in range(10_000):
        yield CHUNK


async def three_chunks() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"chunk"


async def breaks_off() -> AsyncIterator[bytes]:
    yield b"chunk"
    raise OSError("the disk of the user")


STREAMS: dict[str, Callable[[], AsyncIterator[bytes]]] = {
    "endless": endless,
    "breaks": breaks_off,
}


def stream(kind: str) -> AsyncIterator[bytes]:
    return STREAMS.get(kind, three_chunks)()


# -- the same service in each framework: items, a download, a mounted application


def starlette_app() -> Any:
    async def list_items(request: Request) -> Response:
        note("list_items", item_count=2)
        return JSONResponse([1, 2])

    async def get_item(request: Request) -> Response:
        name = request.path_params["name"]
        if name == "missing":
            raise HTTPException(404)
        if name == "broken":
            raise ValueError("a secret of the user")
        if name == "unavailable":
            return Response(status_code=503)
        return JSONResponse(name)

    async def add_item(request: Request) -> Response:
        return Response(status_code=201)

    async def download(request: Request) -> Response:
        return StreamingResponse(stream(request.query_params.get("kind", "")))

    async def thing(request: Request) -> Response:
        return JSONResponse(request.path_params["number"])

    return Starlette(
        routes=[
            Route("/items", list_items),
            Route("/items", add_item, methods=["POST"]),
            Route("/items/{name}", get_item),
            Route("/download", download),
            Route("/unlisted", list_things),
            Mount("/inner", Router([Route("/things/{number:int}", thing)])),
        ]
    )


async def list_things(request: Request) -> Response:
    return JSONResponse([])


def fastapi_app() -> Any:
    app, router, inner = fastapi.FastAPI(), fastapi.APIRouter(prefix="/items"), fastapi.FastAPI()

    @router.get("")
    async def list_items() -> list[int]:
        note("list_items", item_count=2)
        return [1, 2]

    @router.post("", status_code=201)
    def add_item() -> None: ...

    @router.get("/{name}")
    def get_item(name: str) -> str:
        if name == "missing":
            raise fastapi.HTTPException(404)
        if name == "broken":
            raise ValueError("a secret of the user")
        if name == "unavailable":
            raise fastapi.HTTPException(503)
        return name

    @app.get("/download")
    async def download(kind: str = "") -> StreamingResponse:
        return StreamingResponse(stream(kind))

    @app.get("/unlisted")
    async def unlisted() -> list[int]:
        return []

    @inner.get("/things/{number}")
    async def thing(number: int) -> int:
        return number

    app.include_router(router)
    app.mount("/inner", inner)
    return app


def litestar_app() -> Any:
    @litestar.get("/items")
    async def list_items() -> list[int]:
        note("list_items", item_count=2)
        return [1, 2]

    @litestar.post("/items")
    async def add_item() -> None: ...

    @litestar.get("/items/{name:str}")
    async def get_item(name: str) -> str:
        if name == "missing":
            raise litestar.exceptions.NotFoundException
        if name == "broken":
            raise ValueError("a secret of the user")
        if name == "unavailable":
            raise litestar.exceptions.ServiceUnavailableException
        return name

    @litestar.get("/download")
    async def download(kind: str = "") -> litestar.response.Stream:
        return litestar.response.Stream(stream(kind))

    @litestar.get("/unlisted")
    async def unlisted() -> list[int]:
        return []

    @litestar.get("/things/{number:int}")
    async def thing(number: int) -> int:
        return number

    inner = litestar.Router("/inner", route_handlers=[thing])
    return litestar.Litestar([list_items, add_item, get_item, download, unlisted, inner])


# -- a real server


@contextmanager
def serving(app: Any) -> Iterator[int]:
    """Serve on loopback, with lifespan; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


class Service:
    """A running service, asked over real connections, and what it recorded."""

    def __init__(self, port: int, captured: Captured) -> None:
        self._port = port
        self._captured = captured

    def ask(self, path: str, method: str = "GET") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except http.client.IncompleteRead:
            return 200
        finally:
            connection.close()

    def hang_up_amid(self, path: str) -> None:
        with socket.create_connection(("127.0.0.1", self._port), timeout=20) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(1024)

    def events(self, count: int) -> list[tuple[str, str | None]]:
        """Action and error of each event, once there are so many and no more come."""
        deadline = time.monotonic() + 10
        while len(self._captured.events) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        return [(event["action"], event["error"]) for event in self._captured.events]


FRAMEWORKS = {"starlette": starlette_app, "fastapi": fastapi_app, "litestar": litestar_app}


@pytest.fixture(params=FRAMEWORKS)
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    telemetry = Telemetry("tool", "1", "service_backend", CATALOG)
    with capture() as captured:
        app = UsageMiddleware(FRAMEWORKS[request.param](), telemetry, ROUTES)
        with serving(app) as port:
            yield Service(port, captured)


def test_a_route_is_its_action_whatever_its_parameters(service: Service) -> None:
    assert [service.ask("/items"), service.ask("/items/a"), service.ask("/items/b?x=y")] == [
        200
    ] * 3
    assert service.ask("/items", "POST") == 201

    assert service.events(4) == [
        ("list_items", None),
        ("get_item", None),
        ("get_item", None),
        ("add_item", None),
    ]


def test_the_handler_tells_extras(service: Service) -> None:
    service.ask("/items")
    service.events(1)
    [event] = service._captured.events
    assert event["extra"] == {"item_count": 2}


def test_a_mounted_application_is_told_by_its_whole_template(service: Service) -> None:
    assert service.ask("/inner/things/7") == 200
    assert service.events(1) == [("inner", None)]


def test_what_is_no_action_is_no_event(service: Service) -> None:
    assert service.ask("/unlisted") == 200
    assert service.ask("/nowhere") == 404
    assert service.ask("/items/missing") == 404
    assert service.ask("/items", "DELETE") == 405
    service.ask("/items", "HEAD")
    assert service.ask("/inner/nowhere") == 404

    service.ask("/items")
    assert service.events(1) == [("list_items", None)]


def test_failures_of_the_server_are_told_by_class_alone(service: Service) -> None:
    assert service.ask("/items/broken") == 500
    assert service.ask("/items/unavailable") == 503

    broken, unavailable = service.events(2)
    assert broken in [("get_item", "ValueError"), ("get_item", "HTTPException")]
    assert unavailable == ("get_item", "HTTPException")
    assert "secret" not in repr(service._captured.events)


def test_a_stream_is_one_event(service: Service) -> None:
    assert service.ask("/download") == 200
    assert service.events(1) == [("download", None)]


def test_an_aborted_download_is_one_event_without_error(service: Service) -> None:
    service.hang_up_amid("/download?kind=endless")
    assert service.events(1) == [("download", None)]


def test_a_stream_that_breaks_is_one_event_with_its_error(service: Service) -> None:
    service.ask("/download?kind=breaks")
    [(action, error)] = service.events(1)
    assert action == "download"
    assert error in ("OSError", "ExceptionGroup", "LitestarException")  # what leaves the app


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_lifespan_records_the_start_once(
    framework: str, capsys: pytest.CaptureFixture[str], tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("USAGE_TELEMETRY_HOME", str(tmp_path))
    telemetry = Telemetry("tool", "1", "service_backend", CATALOG)
    with capture() as captured:
        app = UsageMiddleware(FRAMEWORKS[framework](), telemetry, ROUTES, startup="started")
        with serving(app) as port:
            Service(port, captured).ask("/items")

    assert [event["action"] for event in captured.events] == ["started", "list_items"]


def test_one_handler_on_two_routes_is_two_actions() -> None:
    app = Starlette(routes=[Route("/items/{name}", list_things), Route("/download", list_things)])
    telemetry = Telemetry("tool", "1", "service_backend", CATALOG)
    with capture() as captured, serving(UsageMiddleware(app, telemetry, ROUTES)) as port:
        service = Service(port, captured)
        service.ask("/download")
        service.ask("/items/a")
        assert service.events(2) == [("download", None), ("get_item", None)]


def test_what_lies_in_front_of_the_application_is_no_part_of_its_templates() -> None:
    telemetry = Telemetry("tool", "1", "service_backend", CATALOG)
    with capture() as captured:
        wrapped = UsageMiddleware(starlette_app(), telemetry, ROUTES)
        with serving(Starlette(routes=[Mount("/behind/a/proxy", wrapped)])) as port:
            service = Service(port, captured)
            assert service.ask("/behind/a/proxy/items/a") == 200
            assert service.ask("/behind/a/proxy/inner/things/7") == 200
            assert service.events(2) == [("get_item", None), ("inner", None)]
