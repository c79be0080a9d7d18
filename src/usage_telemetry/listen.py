"""A local Jitsu endpoint for development: keeps and shows what arrives.

It stands in for Jitsu classic v1.44.8: same path, same answers, same stored fields
(`listen_rules`), on loopback alone (`listen_http`). Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TextIO

from usage_telemetry.listen_http import PATH, LoopbackServer, loopback_address
from usage_telemetry.listen_rules import Event

__all__ = ["Event", "JitsuEndpoint", "open_lines", "serve", "summary_line"]

TIMEOUT_S = 30.0  # for one whole request, and for a connection's silence between two
KEPT_BY_SERVE = 10_000  # events in memory, so that `serve` can run for days
_POLL_S = 0.05  # how soon a stop is noticed


class JitsuEndpoint:
    """A Jitsu endpoint on loopback that serves from a daemon thread while its `with` block runs.

    Args:
        host: `localhost` or a loopback address.
        port: 0 lets the system choose.
        token: the only token that is accepted; None accepts any that is not empty.
        on_event: called with each stored event before it is acknowledged, one at a time, from a
            server thread. Its exception makes the answer a 500 and is raised by `close`.
        flavour: which server it stands in for; `classic` is the one it knows.
        timeout_s: for one whole request, and for a connection's silence between two.
        keep: how many events stay in `events`, the latest; None keeps all. A repeat of an event
            that is no longer kept counts as a new one.

    Raises:
        ValueError: `host` is not loopback, or `flavour` is unknown.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        on_event: Callable[[Event], None] | None = None,
        flavour: str = "classic",
        *,
        timeout_s: float = TIMEOUT_S,
        keep: int | None = None,
    ) -> None:
        if flavour != "classic":
            raise ValueError(f"flavour {flavour!r} is unknown: use 'classic'")
        loopback_address(host)
        self._host, self._port, self._token = host, port, token
        self._on_event, self._timeout_s, self._keep = on_event, timeout_s, keep
        self._server: LoopbackServer | None = None
        self._stored: dict[str, Event] = {}
        self._changed = threading.Condition()
        self.received = 0
        self.repeats = 0
        self.refused: dict[int, int] = {}

    @property
    def url(self) -> str:
        """Where events go; known from `start` on.

        Raises:
            RuntimeError: the endpoint is not started.
        """
        if self._server is None:
            raise RuntimeError("the endpoint is not started: use it in a `with` block")
        host = f"[{self._server.host}]" if ":" in self._server.host else self._server.host
        return f"http://{host}:{self._server.server_port}{PATH}"

    @property
    def events(self) -> list[Event]:
        """The stored events in the order of arrival, each id once, as the primary key has it."""
        with self._changed:
            return list(self._stored.values())

    def wait_for_events(self, count: int, timeout_s: float = 10.0) -> list[Event]:
        """The stored events, as soon as there are `count` of them.

        Raises:
            TimeoutError: there are fewer after `timeout_s` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._stored) >= count, timeout_s):
                raise TimeoutError(f"{len(self._stored)} of {count} events after {timeout_s} s")
            return list(self._stored.values())

    def start(self) -> None:
        """Listens from now on.

        Raises:
            OSError: the port cannot be had.
        """
        self._server = LoopbackServer(
            self._host,
            self._port,
            token=self._token,
            timeout_s=self._timeout_s,
            store=self._store,
            refused=self._refuse,
        )
        threading.Thread(
            target=self._server.serve_forever,
            args=(_POLL_S,),
            name="usage-telemetry-listen",
            daemon=True,
        ).start()

    @property
    def failure(self) -> BaseException | None:
        """The first exception of `on_event`, if there was one."""
        return self._server.failure if self._server else None

    def close(self) -> None:
        """Ends all connections and frees the port; `events` and the counts stay.

        Raises:
            Exception: the first that `on_event` raised.
        """
        if self._server is not None and not self._server.closing:
            self._server.close()
            if self._server.failure is not None:
                raise self._server.failure

    def __enter__(self) -> JitsuEndpoint:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.nullcontext() if error is None else contextlib.suppress(Exception):
            self.close()

    def _store(self, event: Event) -> None:
        event_id = event["eventn_ctx_event_id"]
        with self._changed:
            if event_id in self._stored:
                self.repeats += 1
            else:
                if self._on_event is not None:
                    self._on_event(event)
                self._stored[event_id] = event
                if self._keep is not None and len(self._stored) > self._keep:
                    del self._stored[next(iter(self._stored))]
            self.received += 1
            self._changed.notify_all()

    def _refuse(self, status: int) -> None:
        with self._changed:
            self.refused[status] = self.refused.get(status, 0) + 1


def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    show: Callable[[Event], None],
    token: str | None = None,
    jsonl: Path | None = None,
    ready: Callable[[JitsuEndpoint], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Takes events until `stop` is set or the user presses Ctrl-C.

    Args:
        host: `localhost` or a loopback address.
        port: 0 lets the system choose.
        show: called with each event as it arrives, in the calling thread; repeats are not shown.
        token: the only token that is accepted; None accepts any that is not empty.
        jsonl: a file to append each event to, one line of JSON, before it is acknowledged.
        ready: called once with the endpoint as soon as it listens; it has `url` and the counts.
        stop: ends the call when set.

    Raises:
        ValueError: `host` is not loopback.
        OSError: the port cannot be had, or the file is refused or cannot be written.
    """
    stop = stop or threading.Event()
    arrivals: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(open_lines(jsonl)) if jsonl else None

        def take(event: Event) -> None:
            if lines is not None:
                lines.write(json.dumps(event, sort_keys=True) + "\n")
                lines.flush()
            arrivals.put(event)

        endpoint = JitsuEndpoint(host, port, token, take, keep=KEPT_BY_SERVE)
        with contextlib.suppress(KeyboardInterrupt), endpoint:
            if ready is not None:
                ready(endpoint)
            while not stop.is_set() and endpoint.failure is None:
                with contextlib.suppress(queue.Empty):
                    show(arrivals.get(timeout=_POLL_S))
        while not arrivals.empty():  # acknowledged while the endpoint closed
            show(arrivals.get())


def open_lines(path: Path) -> TextIO:
    """A text file to append to: created for its owner alone, and never somebody else's.

    A file that exists keeps its mode: it is the user's own.

    Raises:
        OSError: the path is a symbolic link, is no regular file, belongs to another user, or
            cannot be opened.
    """
    if path.is_symlink():  # for systems without O_NOFOLLOW; the others look again, below
        raise OSError(errno.ELOOP, "is a symbolic link: refused", str(path))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):  # O_NONBLOCK: a pipe must not hold us
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file: refused", str(path))
        if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "belongs to another user: refused", str(path))
        return open(descriptor, "a", encoding="utf-8", newline="\n")
    except BaseException:
        os.close(descriptor)
        raise


def summary_line(event: Event) -> str:
    """One line for people: time (UTC), action, error or ok, extras, tool and version.

    Any event makes a line; a character that a terminal could act upon is shown as `?`.
    """
    moment = re.search(r"T(\d\d:\d\d:\d\d)", str(event.get("_timestamp")))
    extra = event.get("extra")
    extras = " ".join(
        f"{key}={_brief(value)}"
        for key, value in (extra.items() if isinstance(extra, dict) else ())
        if value not in ([], {}, None, "")
    )
    columns = [
        moment[1] if moment else "--:--:--",
        f"{_cut(str(event.get('action') or '?'), 60):<20}",
        _cut(str(event.get("error") or "ok"), 60),
        _cut(extras, 120),
        _cut(f"{event.get('tool_name') or '?'} {event.get('tool_version') or '?'}", 60),
    ]
    line = "  ".join(column for column in columns if column)
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _brief(value: object) -> str:
    if isinstance(value, list):
        more = f" +{len(value) - 2}" if len(value) > 2 else ""
        return f"[{','.join(_brief(item) for item in value[:2])}{more}]"
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return _cut(text, 40)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
