"""Hooks into Evidently's monitoring UI: where its app is made, what its telemetry is told, which
snapshot a request looks at. Set when the modules are imported, by whomever and whenever."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from usage_telemetry.catalog import CUSTOM
from usage_telemetry.instrumentation.asgi import UsageMiddleware, current_request
from usage_telemetry.instrumentation.evidently_catalog import CATALOG, own_names
from usage_telemetry.instrumentation.evidently_routes import routes_of
from usage_telemetry.instrumentation.import_hooks import Hook, ImportHooks, Undo, wrap
from usage_telemetry.instrumentation.iterative_door import Payload, leave_door, stand_at_door
from usage_telemetry.settings import Settings
from usage_telemetry.telemetry import Telemetry, error_name

logger = logging.getLogger("usage_telemetry")

TOOL = "evidently"
INTERFACE = "service_backend"

STARTUP = "startup"

_host_interface = False
_telemetry: Telemetry | None = None
_app_is_ours = False
_component: Any = None  # of the configuration, from 0.4.11 to 0.4.15


def install(*, host_interface: bool = False) -> None:
    """Instrument every Evidently UI that this process starts from now on.

    Args:
        host_interface: Keep the interface that Evidently itself gives, in place of the
            documented ``service_backend``.
    """
    global _host_interface
    _host_interface = host_interface
    stand_at_door(_on_event)
    _hooks.install()


def remove() -> None:
    """Undo `install`: UIs that are started from now on are as Evidently made them."""
    global _telemetry, _app_is_ours, _component
    _hooks.remove()
    leave_door(_on_event)
    _telemetry = _component = None
    _app_is_ours = False


# -- the app -----------------------------------------------------------------------------------


class InstrumentedApp(UsageMiddleware):
    """The app that Evidently made, with the middleware around it; its attributes shine through."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.app, name)


def _create_app(
    create_app: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    app = create_app(*args, **kwargs)
    try:
        config = args[0] if args else kwargs["config"]
        return _instrumented(app, config)
    except Exception as error:  # the UI starts, whatever has changed inside it
        logger.debug("Evidently's app is not as we know it: %s: %s", type(error).__name__, error)
        return app


def _instrumented(app: Any, config: Any) -> InstrumentedApp:
    component = config.telemetry
    telemetry = _begin(
        tool=component.tool_name,
        interface=component.service_name,
        endpoint=component.url,
        token=component.token,
        enabled=bool(component.enabled),
    )
    hooks = getattr(app, "after_exception", None)
    if isinstance(hooks, list):
        hooks.append(_on_exception)
    return InstrumentedApp(app, telemetry, routes_of(telemetry.version), startup=STARTUP)


async def _on_exception(exception: Exception, _: Any) -> None:
    """Litestar makes an answer of every exception; this is the last that is seen of its class."""
    request = current_request.get()
    if request is not None:
        request.failure = error_name(exception)


def _begin(
    *, tool: str, interface: str, endpoint: str, token: str, enabled: bool | Callable[[], bool]
) -> Telemetry:
    """The telemetry of the UI that is being made."""
    global _telemetry, _app_is_ours
    import evidently

    keeps_interface = _host_interface or Settings.from_environment().host_interface
    _telemetry = Telemetry(
        tool=tool,
        version=evidently.__version__,
        interface=interface if keeps_interface else INTERFACE,
        catalog=CATALOG,
        endpoint=endpoint,
        token=token,
        enabled=enabled,
    )
    _app_is_ours = True
    if not _telemetry.is_off:
        own_names()  # reads source files: now, rather than while somebody waits for a page
    return _telemetry


def _patch_app_module(module: Any) -> Undo:
    """`evidently.ui.app`: FastAPI and one app for the module up to 0.4.15, `create_app` since."""
    if hasattr(module, "create_app"):
        return wrap("create_app", _create_app)(module)
    from evidently import telemetry as host

    sender = host.event_logger
    app = module.app
    telemetry = _begin(
        tool=sender.tool_name,
        interface=getattr(module, "SERVICE_INTERFACE", "service"),
        endpoint=sender.url,
        token=sender.token,
        enabled=lambda: _component is None or bool(_component.enabled),
    )
    app.add_middleware(
        UsageMiddleware,
        telemetry=telemetry,
        routes=routes_of(telemetry.version),
        startup=STARTUP,
    )
    ours = app.user_middleware[0]
    undo_run = wrap("run", _run)(module) if hasattr(module, "run") else None

    def undo() -> None:
        app.user_middleware = [one for one in app.user_middleware if one is not ours]
        app.middleware_stack = None  # Starlette builds it anew with the next request
        if undo_run is not None:
            undo_run()

    return undo


def _run(run: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """From 0.4.11 to 0.4.15: only here the telemetry component of the configuration is known."""
    global _component
    _component = getattr(args[0] if args else kwargs.get("config"), "telemetry", None)
    if _component is not None and _telemetry is not None:
        _telemetry.endpoint = _component.url
        _telemetry.token = _component.token
    return run(*args, **kwargs)


# -- what the host itself has to say -------------------------------------------------------------


def _on_event(sender: Any, payload: Payload) -> bool:
    """Evidently's own event: its extras are kept, its subprocess is not started."""
    if sender.tool_name != TOOL:
        return False
    request = current_request.get()
    if request is not None:
        request.note(str(payload.get("action")), payload.get("extra") or {})
    elif not _app_is_ours:  # else the middleware tells what happened, its start included
        _record_alone(sender, payload)
    return True


def _record_alone(sender: Any, payload: Payload) -> None:
    """An event outside of any request we see: the app was made where we do not know it."""
    global _telemetry
    if _telemetry is None:
        _telemetry = Telemetry(
            tool=TOOL,
            version=sender.tool_version,
            interface=INTERFACE,
            catalog=CATALOG,
            endpoint=sender.url,
            token=sender.token,
        )
    now_ns = time.time_ns()
    _telemetry.submit(
        str(payload.get("action")),
        payload.get("extra") or {},
        start_ns=now_ns,
        end_ns=now_ns,
        error=payload.get("error"),
    )


# -- class names, where the host has only hashes -------------------------------------------------


async def _load_snapshot(
    load_snapshot: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    snapshot = await load_snapshot(*args, **kwargs)
    request = current_request.get()
    if request is not None:
        try:
            request.known.update(snapshot_extras(snapshot))
        except Exception as error:  # the snapshot of a release to come
            logger.debug("snapshot: %s", type(error).__name__)  # its message may hold user data
    return snapshot


def snapshot_extras(snapshot: Any) -> Mapping[str, object]:
    """Class names in a snapshot, for releases whose own events hold hashes of the metrics and
    nothing of the tests."""
    results = [snapshot.metric_results[metric] for metric in snapshot.top_level_metrics]
    return {
        "metrics": [_metric_name(result) for result in results],
        "tests": [_test_name(test) for result in results for test in result.tests],
    }


def _metric_name(result: Any) -> str:
    """The parameters hold names of columns as well: the type is all that is taken of them."""
    location = result.metric_value_location
    return _class_name(location.metric.params.get("type")) if location else CUSTOM


def _test_name(test: Any) -> str:
    """By the object: the configuration beside it has no type in some of them."""
    bound = getattr(test, "bound_test", None)
    if bound is None:
        return _class_name(test.test_config.get("type"))
    kind = type(bound.test)
    return kind.__name__ if kind.__module__.startswith("evidently.") else CUSTOM


def _class_name(alias: object) -> str:
    """`evidently:metric_v2:RowCount` or `package.module.RowCount` -> `RowCount`."""
    return str(alias).replace(":", ".").rpartition(".")[2]


_hooks = ImportHooks(
    [
        # since 0.7.1
        Hook("evidently.ui.service.app", wrap("create_app", _create_app)),
        Hook(
            "evidently.ui.service.managers.projects",
            wrap("ProjectManager.load_snapshot", _load_snapshot),
        ),
        # up to 0.6, and moved in 0.7.0 alone
        Hook("evidently.ui.app", _patch_app_module),
        Hook("evidently.legacy.ui.app", wrap("create_app", _create_app)),
    ]
)
