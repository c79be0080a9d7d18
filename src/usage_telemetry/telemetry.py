"""Telemetry: the one object a tool holds, to record what its users do."""

from __future__ import annotations

import functools
import logging
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeVar

from usage_telemetry.catalog import Catalog, UndeclaredError, Value
from usage_telemetry.consent import Decision, decide, switch_path
from usage_telemetry.record import Record
from usage_telemetry.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.sdk.trace.export import SpanExporter

logger = logging.getLogger("usage_telemetry")

F = TypeVar("F", bound=Callable[..., Any])

_captures: tuple[Capture, ...] = ()
"""Tests that look on at present (`usage_telemetry.testing`); they get records instead of the
sinks, whoever switched telemetry off."""

_CLASS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


class Sink(Protocol):
    """Where records go: a pipeline, or a capture in a test."""

    def submit(self, record: Record) -> None: ...
    def flush(self, timeout_s: float) -> bool: ...
    def settle(self, timeout_s: float = ...) -> None: ...
    def shutdown(self, timeout_s: float = ...) -> None: ...
    def stats(self) -> dict[str, int]: ...


class Capture(Protocol):
    """A test that looks on."""

    def take(self, telemetry: Telemetry, record: Record) -> None: ...


class Telemetry:
    """Records actions of one tool; does nothing at all where somebody opted out.

    No method raises for a reason of its own, writes to stdout or stderr (but for `notice`), or
    waits for disk or network, except `flush` and `shutdown`, which wait as long as they say.

    Args:
        tool: Name of the tool.
        version: Its version.
        interface: Which part of it records, such as ``service_backend`` or ``cli``.
        catalog: What it may record.
        endpoint: Its Jitsu endpoint; None: events go nowhere, unless the environment says where.
        token: Write key for the endpoint.
        group_id: Identifies a group of users, as documented in the event; None: no group.
        enabled: The tool's own switch, or a function that is asked at each action; an
            exception in it means off. It can switch off, never on.
        strict: Raise `UndeclaredError` and `TypeError` for what the catalog does not declare,
            instead of dropping and counting it. For the tool's developers.
    """

    def __init__(
        self,
        tool: str,
        version: str,
        interface: str,
        catalog: Catalog,
        endpoint: str | None = None,
        token: str | None = None,
        *,
        group_id: str | None = None,
        enabled: bool | Callable[[], bool] = True,
        strict: bool = False,
    ) -> None:
        self.tool = tool
        self.version = version
        self.interface = interface
        self.catalog = catalog
        self.endpoint = endpoint
        self.token = token
        self.group_id = group_id
        self._strict = strict
        self.settings = Settings.from_environment()
        self._switch = enabled
        self._counts: Counter[str] = Counter()
        self._sinks: tuple[Sink, ...] | None = None
        self._opening = threading.Lock()
        # The file of `usage-telemetry off` is looked at off the caller's thread, later.
        early = decide(
            self.settings,
            switched_off=lambda: False,
            host_switch=None if callable(enabled) else enabled,
        )
        self._off = not early.enabled or self.settings.exporters == ("none",)
        self._must_discard = early.opted_out_by_user
        if not self._off:
            from usage_telemetry import leaving

            leaving.watch()

    @property
    def is_off(self) -> bool:
        """Nothing can be recorded in this process, as far as the environment tells."""
        return self._off and not _captures

    @property
    def strict(self) -> bool:
        """What the catalog does not declare raises, instead of being dropped and counted."""
        return self._strict or bool(_captures)

    # -- recording -----------------------------------------------------------------------------

    def record(self, action: str, /, **extras: object) -> None:
        """Record that something happened just now.

        Args:
            action: Name of a declared action.
            **extras: Declared extras of it.

        Raises:
            UndeclaredError, TypeError: Only if `strict`.
        """
        if self._off and not _captures:
            if self._must_discard:
                self._discard()
            return
        now_ns = time.time_ns()
        self.submit(action, extras, start_ns=now_ns, end_ns=now_ns)

    def action(self, action: str, /, **extras: object) -> ActiveAction:
        """A timed action, as a context manager or a decorator of a function, sync or async.

        An exception that leaves it is recorded by its class name and goes on its way.

        Args:
            action: Name of a declared action.
            **extras: Declared extras of it; more can be `set` while it runs.
        """
        return ActiveAction(self, action, extras)

    def submit(
        self,
        action: str,
        extras: Mapping[str, object],
        *,
        start_ns: int,
        end_ns: int,
        error: str | None = None,
        interface: str | None = None,
    ) -> None:
        """Record an action of which everything is known already; what instrumentations call.

        Args:
            action: Name of a declared action.
            extras: Declared extras of it.
            start_ns, end_ns: When it began and ended, nanoseconds since the epoch.
            error: Class name of the exception that it ended with; None: it went well.
            interface: In place of the telemetry's own.

        Raises:
            UndeclaredError, TypeError: Only if `strict`.
        """
        if self._off and not _captures:
            return
        if self._switch is not True and not self._switched_on():
            return
        try:
            values = self._validate(action, extras)
        except (UndeclaredError, TypeError) as problem:
            if self.strict:
                raise
            self._drop(problem)
            return
        try:
            if error is not None:
                error = _class_name(error)
            record = Record(action, interface or self.interface, values, error, start_ns, end_ns)
            sinks = () if _captures else self._sinks or self._open()
            self._counts["recorded"] += 1
            for capture in _captures:
                capture.take(self, record)
            for sink in sinks:
                sink.submit(record)
        except Exception as problem:  # whatever it is, it is not the host's concern
            logger.debug("record: %s: %s", type(problem).__name__, problem)

    def _validate(self, action: str, extras: Mapping[str, object]) -> dict[str, Value]:
        declared = self.catalog[action]
        values: dict[str, Value] = {}
        for key, value in extras.items():
            try:
                values[key] = declared.validate(key, value)
            except (UndeclaredError, TypeError) as problem:
                if self.strict:
                    raise
                self._drop(problem)
            except Exception as problem:  # a hostile value, a vocabulary that cannot be had
                self._drop(problem)
        return values

    def _drop(self, problem: Exception) -> None:
        kind = "undeclared" if isinstance(problem, UndeclaredError) else "invalid"
        self._counts[f"dropped:{kind}"] += 1
        logger.debug("dropped: %s", problem)

    def _switched_on(self) -> bool:
        if not callable(self._switch):
            return self._switch
        try:
            return bool(self._switch())
        except Exception as problem:
            logger.debug("the tool's switch failed, which means off: %s", problem)
            return False

    # -- delivering ----------------------------------------------------------------------------

    def flush(self, timeout: float = 5.0) -> bool:
        """Deliver what was recorded, waiting at most `timeout` seconds.

        Returns:
            True if nothing waits any more.
        """
        deadline = time.monotonic() + timeout
        delivered = [
            sink.flush(max(0.0, deadline - time.monotonic())) for sink in self._sinks or ()
        ]
        return all(delivered)

    def settle(self) -> None:
        """Bring what was recorded to safety in a fraction of a second; recording goes on."""
        for sink in self._sinks or ():
            sink.settle()

    def shutdown(self) -> None:
        """Stop within 0.3 s; what could not be delivered is kept for the next process."""
        for sink in self._sinks or ():
            sink.shutdown()

    def stats(self) -> dict[str, int]:
        """Counters since this object was made.

        ``recorded``, ``dropped:undeclared``, ``dropped:invalid``, ``dropped:queue_full``, and of
        the exporter: ``queued``, ``sent``, ``requests``, ``retried``, ``given_up:<reason>``.
        """
        total = Counter(self._counts)
        for sink in self._sinks or ():
            total.update(sink.stats())
        return {"recorded": 0, **total}

    # -- who decides ---------------------------------------------------------------------------

    @property
    def decision(self) -> Decision:
        """Whether anything is recorded, who decided, and the whole chain; reads the user's file."""
        return decide(
            self.settings,
            switched_off=self._is_switched_off,
            host_switch=self._switched_on() if callable(self._switch) else self._switch,
        )

    def notice(self, stream: TextIO | None = None) -> None:
        """Tell the user, once per service start, whether usage is reported and how to stop it.

        Args:
            stream: Where to write the line; default: stderr.
        """
        from usage_telemetry import service

        decision = self.decision
        if decision.enabled:
            first = service.claim(self._state_folder() / "runs", f"notice {self.tool}")
        else:
            first = service.is_first_worker()  # opted out: no file may tell the workers apart
        if not decision.enabled and self._must_discard:
            self._discard()
        if first:
            try:
                print(decision.notice, file=stream or sys.stderr, flush=True)
            except (OSError, ValueError) as problem:  # a closed or full terminal
                logger.debug("notice: %s", problem)

    def record_once_per_service(self, action: str) -> None:
        """Record an action that belongs to the service, not to each of its worker processes."""
        if self._off and not _captures:
            return
        from usage_telemetry import service

        if _captures or service.claim(self._state_folder() / "runs", f"{action} {self.tool}"):
            self.record(action)

    def _is_switched_off(self) -> bool:
        from usage_telemetry.folders import config_dir

        try:
            return switch_path(config_dir()).exists()
        except OSError as problem:  # a home that may not be looked into: nobody knows, so off
            logger.debug("the user's switch cannot be read: %s", problem)
            return True

    def _allowed(self) -> bool:
        """Asked again before each batch: `usage-telemetry off` takes effect at once."""
        return self.settings.switch is True or not self._is_switched_off()

    def _discard(self) -> None:
        """A person opted out: what waits from earlier runs is never sent."""
        self._must_discard = False
        try:
            folder = self._state_folder()
            if folder.exists():
                from usage_telemetry.waiting import discard_waiting

                discard_waiting(folder)
        except Exception as problem:
            logger.debug("discard: %s", problem)

    # -- sinks ---------------------------------------------------------------------------------

    def _state_folder(self) -> Path:
        from usage_telemetry.folders import state_dir, tool_folder

        return tool_folder(state_dir(self.settings), self.tool)

    def _open(self) -> tuple[Sink, ...]:
        from opentelemetry.exporter.jitsu import forks

        # One thread opens, and no fork happens amid its imports: a child could never finish them.
        with forks.whole(), self._opening:
            if self._sinks is None:
                names = (*self.settings.exporters, *(("debug",) if self.settings.debug else ()))
                self._sinks = tuple(self._make_pipeline(name) for name in names)
            return self._sinks

    def _make_pipeline(self, name: str) -> Sink:
        from usage_telemetry.pipeline import Pipeline

        return Pipeline(
            make_exporter=lambda: self._make_exporter(name),
            make_resource=self._resource,
            spool_folder=lambda: self._state_folder() / "spool" / name,
            allowed=self._allowed,
        )

    def _make_exporter(self, name: str) -> SpanExporter:
        from usage_telemetry.exporters import Target, build

        return build(name, self.settings, Target(self.endpoint, self.token, self._allowed))

    def _resource(self) -> dict[str, str]:
        from usage_telemetry.environment import resource_attributes
        from usage_telemetry.folders import config_dir
        from usage_telemetry.identity import user_id, user_id_path

        return resource_attributes(
            tool=self.tool,
            version=self.version,
            user_id=user_id(user_id_path(config_dir(), self.tool)),
            group_id=self.group_id,
        )


class ActiveAction:
    """An action under way; see `Telemetry.action`."""

    def __init__(self, telemetry: Telemetry, name: str, extras: Mapping[str, object]) -> None:
        self._telemetry = telemetry
        self._name = name
        self._extras = dict(extras)
        self._start_ns = 0

    def set(self, **extras: object) -> None:
        """Add declared extras, or replace them."""
        self._extras.update(extras)

    def __enter__(self) -> ActiveAction:
        self._start_ns = time.time_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._telemetry.submit(
            self._name,
            self._extras,
            start_ns=self._start_ns,
            end_ns=time.time_ns(),
            error=error_name(exception),
        )

    def __call__(self, function: F) -> F:
        """Record each call of `function`."""
        import inspect  # costly, and loaded already in most hosts that decorate

        wrapped: Callable[..., Any]
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapped_async(*args: Any, **kwargs: Any) -> Any:
                with self._again():
                    return await function(*args, **kwargs)

            wrapped = wrapped_async
        else:

            @functools.wraps(function)
            def wrapped_sync(*args: Any, **kwargs: Any) -> Any:
                with self._again():
                    return function(*args, **kwargs)

            wrapped = wrapped_sync
        return wrapped  # type: ignore[return-value]

    def _again(self) -> ActiveAction:
        return ActiveAction(self._telemetry, self._name, self._extras)


def error_name(exception: BaseException | None) -> str | None:
    """What an event says of an exception: its class's name, nothing of its message."""
    if exception is None or (isinstance(exception, SystemExit) and not exception.code):
        return None
    return type(exception).__name__


def _class_name(error: str) -> str:
    """A class can bear any text as its name; only what looks like one is told."""
    return error if isinstance(error, str) and _CLASS_NAME.fullmatch(error) else "Exception"
