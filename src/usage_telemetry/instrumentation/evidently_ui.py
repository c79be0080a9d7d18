"""Hooks into Evidently's monitoring UI: where its app is made, what its telemetry is told, which
snapshot a request looks at. Set when the modules are imported, by whomever and whenever."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from usage_telemetry.instrumentation.asgi import UsageMiddleware, current_request
from usage_telemetry.instrumentation.evidently_catalog import CATALOG, own_names
from usage_telemetry.instrumentation.evidently_routes import routes_of
from usage_telemetry.instrumentation.import_hooks import Hook, ImportHooks
from usage_telemetry.instrumentation.iterative_door import HostEvent, leave_door, stand_at_door
from usage_telemetry.telemetry import Telemetry

logger = logging.getLogger("usage_telemetry")

TOOL = "evidently"
INTERFACE = "service_backend"

_host_interface = False
_telemetry: Telemetry | None = None


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
    global _telemetry
    _hooks.remove()
    leave_door(_on_event)
    _telemetry = None


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
    global _telemetry
    import evidently

    component = config.telemetry
    _telemetry = telemetry = Telemetry(
        tool=component.tool_name,
        version=evidently.__version__,
        interface=component.service_name if _host_interface else INTERFACE,
        catalog=CATALOG,
        endpoint=component.url,
        token=component.token,
        enabled=bool(component.enabled),
    )
    if not telemetry.is_off:
        own_names()  # reads source files: now, rather than while somebody waits for a page
    return InstrumentedApp(app, telemetry, routes_of(evidently.__version__), startup="startup")


# -- what the host itself has to say -------------------------------------------------------------


def _on_event(sender: Any, event: HostEvent) -> bool:
    """Evidently's own event: its extras are kept, its subprocess is not started."""
    if sender.tool_name != TOOL:
        return False
    request = current_request.get()
    if request is not None:
        request.note(event.action, event.extras)
    else:
        _record_alone(sender, event)
    return True


def _record_alone(sender: Any, event: HostEvent) -> None:
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
    _telemetry.submit(event.action, event.extras, start_ns=now_ns, end_ns=now_ns, error=event.error)


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
            logger.debug("snapshot: %s: %s", type(error).__name__, error)
    return snapshot


def snapshot_extras(snapshot: Any) -> Mapping[str, object]:
    """Class names of a snapshot's metrics, for releases whose own events hold only hashes."""
    results = snapshot.metric_results
    return {
        "metrics": [
            _class_name(results[metric].metric_value_location.metric.params.get("type"))
            for metric in snapshot.top_level_metrics
        ]
    }


def _class_name(alias: object) -> str:
    """`evidently:metric_v2:RowCount` or `package.module.RowCount` -> `RowCount`."""
    return str(alias).replace(":", ".").rpartition(".")[2]


_hooks = ImportHooks(
    [
        # since 0.7
        Hook("evidently.ui.service.app", "create_app", _create_app),
        Hook(
            "evidently.ui.service.managers.projects",
            "ProjectManager.load_snapshot",
            _load_snapshot,
        ),
        # from 0.4.11 to 0.6
        Hook("evidently.ui.app", "create_app", _create_app),
        Hook("evidently.ui.managers.projects", "ProjectManager.load_snapshot", _load_snapshot),
    ]
)
