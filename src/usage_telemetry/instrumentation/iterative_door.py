"""The one door that all events of the library iterative-telemetry leave through, and who stands
there: its method `send`, which starts one Python process for each event."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from usage_telemetry.instrumentation.import_hooks import Hook, ImportHooks, wrap

logger = logging.getLogger("usage_telemetry")


Payload = Mapping[str, Any]
"""What a tool hands to iterative-telemetry: `interface`, `action`, `error` (the name of an
exception's class, or None) and `extra`, an object."""

Handler = Callable[[Any, Payload], bool]
"""Gets the tool's IterativeTelemetryLogger and the event; True: it is taken care of."""

_handlers: tuple[Handler, ...] = ()


def stand_at_door(handler: Handler, *, for_any_tool: bool = False) -> None:
    """Let `handler` see each event before it is sent.

    Args:
        handler: Gets each event until one says that it is taken care of.
        for_any_tool: Ask it after those who stand there for one tool.
    """
    global _handlers
    if handler not in _handlers:
        _handlers = (*_handlers, handler) if for_any_tool else (handler, *_handlers)
    _hooks.install()


def leave_door(handler: Handler) -> None:
    """Undo `stand_at_door`; with nobody there, events go their old way."""
    global _handlers
    _handlers = tuple(one for one in _handlers if one != handler)
    if not _handlers:
        _hooks.remove()


def _send(
    send: Callable[..., Any], sender: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    try:
        payload = args[0] if args else kwargs["payload"]
        for handler in _handlers:
            if handler(sender, payload):
                return None
    except Exception as error:  # rather no event than a subprocess that nobody expects
        logger.debug("event of iterative-telemetry: %s: %s", type(error).__name__, error)
        return None
    return send(*args, **kwargs)


_hooks = ImportHooks([Hook("iterative_telemetry", wrap("IterativeTelemetryLogger.send", _send))])
