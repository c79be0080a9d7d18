"""Changes to a host's modules, made when it imports them, and undone again."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import wrapt

logger = logging.getLogger("usage_telemetry")

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]


Undo = Callable[[], None]


class Hook(NamedTuple):
    """A module of the host's, and what to change in it; `patch` returns how to undo it."""

    module: str
    patch: Callable[[Any], Undo]


def wrap(path: str, wrapper: Wrapper) -> Callable[[Any], Undo]:
    """A patch that puts `wrapper` around the function at `path` in a module (see wrapt)."""

    def patch(module: Any) -> Undo:
        parent, attribute, original = wrapt.resolve_path(module, path)
        wrapt.wrap_function_wrapper(module, path, wrapper)
        return lambda: setattr(parent, attribute, original)

    return patch


class ImportHooks:
    """Patches modules that are imported already, and others when they are.

    No module is imported for it, so the order of imports does not matter. Installing twice is
    installing once; what is not there (a release to come has moved it) is left at that.

    Args:
        hooks: What to patch.
    """

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = hooks
        self._on = False
        self._registered = False
        self._undo: dict[Hook, Undo] = {}

    def install(self) -> None:
        """Patch."""
        self._on = True
        for hook in self._hooks:
            if not self._registered:
                wrapt.register_post_import_hook(self._when_imported(hook), hook.module)
            elif hook.module in sys.modules:
                self._patch(hook, sys.modules[hook.module])
        self._registered = True

    def remove(self) -> None:
        """Undo it; the host's modules are as they were."""
        self._on = False
        for undo in self._undo.values():
            undo()
        self._undo.clear()

    def _when_imported(self, hook: Hook) -> Callable[[Any], None]:
        def imported(module: Any) -> None:
            if self._on:
                self._patch(hook, module)

        return imported

    def _patch(self, hook: Hook, module: Any) -> None:
        if hook in self._undo:
            return
        try:
            self._undo[hook] = hook.patch(module)
        except Exception as error:  # the host starts and works, whatever has changed inside it
            logger.debug("%s is not as we know it: %s", hook.module, error)
