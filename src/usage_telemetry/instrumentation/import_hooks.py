"""Wrappers around a host's functions, set when its modules are imported, and taken off again."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import wrapt

logger = logging.getLogger("usage_telemetry")

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]


class Hook(NamedTuple):
    """A function of the host's, and what to put around it (see wrapt)."""

    module: str
    path: str
    wrapper: Wrapper


class ImportHooks:
    """Sets wrappers in modules that are imported already, and in others when they are.

    No module is imported for it, so the order of imports does not matter. Setting twice is
    setting once; a function that is not there (a release to come has moved it) is left at that.

    Args:
        hooks: What to wrap.
    """

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = hooks
        self._on = False
        self._registered = False
        self._originals: dict[Hook, tuple[Any, str, Any]] = {}

    def install(self) -> None:
        """Set the wrappers."""
        self._on = True
        for hook in self._hooks:
            if not self._registered:
                wrapt.register_post_import_hook(self._when_imported(hook), hook.module)
            elif hook.module in sys.modules:
                self._wrap(hook, sys.modules[hook.module])
        self._registered = True

    def remove(self) -> None:
        """Take the wrappers off; the host's functions are as they were."""
        self._on = False
        for parent, attribute, original in self._originals.values():
            setattr(parent, attribute, original)
        self._originals.clear()

    def _when_imported(self, hook: Hook) -> Callable[[Any], None]:
        def patch(module: Any) -> None:
            if self._on:
                self._wrap(hook, module)

        return patch

    def _wrap(self, hook: Hook, module: Any) -> None:
        if hook in self._originals:
            return
        try:
            self._originals[hook] = wrapt.resolve_path(module, hook.path)
            wrapt.wrap_function_wrapper(module, hook.path, hook.wrapper)
        except Exception as error:  # the host starts and works, whatever has changed inside it
            self._originals.pop(hook, None)
            logger.debug("%s has no %s as we know it: %s", hook.module, hook.path, error)
