"""GET /api/projects on the real Evidently UI: bare, with its own telemetry, with ours.

They run side by side and are asked in turns, each time in another order: first one request after
the other, for the time a user waits; then by several clients at once, for what the server can do. A
second bare UI shows how far two processes are apart that do the same.
"""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from benchmarks import table
from benchmarks.process import ROOT, environment, new_home
from benchmarks.sink import Sink

PATH = "/api/projects"
MODES = {
    "bare": "bare (`DO_NOT_TRACK`)",
    "again": "bare, another process",
    "own": "with its own telemetry",
    "ours": "with usage-telemetry",
}
LAUNCHES = 6
"""One process is faster than its twin by chance, for as long as it lives."""
TURNS = 10
REQUESTS = 200
REQUESTS_OF_OWN = 4
"""Its own telemetry starts a process for each request, which others must not feel."""
SETTLE_S = 0.3
CLIENTS = 4
SATURATED_S = 1.0
SATURATED_TURNS = 2
START_TIMEOUT_S = 120.0


class Ui:
    """A UI in a process of its own; a context manager."""

    def __init__(self, mode: str, workspace: str, url: str) -> None:
        self.mode = mode
        self._home = new_home()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        endpoint = f"{url}/api/v1/s2s/event"
        env = environment(
            self._home.name,
            OTEL_EXPORTER_JITSU_ENDPOINT=endpoint,
            OTEL_EXPORTER_JITSU_TOKEN="token",
            **({"DO_NOT_TRACK": "1"} if mode in ("bare", "again") else {}),
        )
        script = [sys.executable, "-m", "benchmarks.evidently_host"]
        self._process = subprocess.Popen(
            [*script, mode, workspace, str(self.port), endpoint],
            env=env,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Ui:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                    return self
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.2)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._home.cleanup()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def rest(self) -> None:
        """Wait until what the server does in the background, in processes too, is done."""
        import psutil

        time.sleep(SETTLE_S)
        server = psutil.Process(self._process.pid)
        while any(_runs(child) for child in server.children()):
            time.sleep(SETTLE_S)

    def cpu_s(self) -> float:
        """CPU of the server and of all that it has started and seen the end of."""
        import psutil

        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)


def _runs(process: Any) -> bool:
    import psutil

    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def ask(connection: http.client.HTTPConnection) -> float:
    """One request; how long it took, seconds."""
    begin = time.perf_counter()
    connection.request("GET", PATH)
    answer = connection.getresponse()
    answer.read()
    took_s = time.perf_counter() - begin
    if answer.status != 200:
        raise RuntimeError(f"GET {PATH}: {answer.status}")
    return took_s


def saturate(ui: Ui) -> tuple[float, float]:
    """Requests per second that several clients get, and CPU of a request, seconds."""
    end = time.perf_counter() + SATURATED_S
    served = 0
    lock = threading.Lock()

    def client() -> None:
        nonlocal served
        connection = ui.connect()
        while time.perf_counter() < end:
            ask(connection)
            with lock:
                served += 1
        connection.close()

    begin, cpu_s = time.perf_counter(), ui.cpu_s()
    with ThreadPoolExecutor(CLIENTS) as clients:
        for future in [clients.submit(client) for _ in range(CLIENTS)]:
            future.result()
    took_s = time.perf_counter() - begin
    ui.rest()
    return served / took_s, (ui.cpu_s() - cpu_s) / served


def main(launches: int = LAUNCHES, turns: int = TURNS) -> None:
    # Of each mode, turn by turn: the times of its requests; rates and CPU under load.
    took_s: dict[str, list[list[float]]] = {mode: [] for mode in MODES}
    saturated: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
    with new_home() as workspace, Sink() as sink:
        make = [sys.executable, str(ROOT / "examples" / "evidently" / "workspace.py"), workspace]
        env = environment(workspace, DO_NOT_TRACK="1")
        subprocess.run(make, env=env, check=True, stdout=subprocess.DEVNULL)
        for _ in range(launches):
            with ExitStack() as stack:
                uis = [stack.enter_context(Ui(mode, workspace, sink.url)) for mode in MODES]
                _ask_in_turns(uis, turns, took_s)
                for turn in range(SATURATED_TURNS):
                    for ui in _in_other_order(uis, turn):
                        saturated[ui.mode].append(saturate(ui))
    rows = []
    for mode, title in MODES.items():
        of_all = [sample for turn in took_s[mode] for sample in turn]
        over_bare = table.median(
            [
                table.median(of_turn) / table.median(bare)
                for of_turn, bare in zip(took_s[mode], took_s["bare"], strict=True)
            ]
        )
        rates, cpus = zip(*saturated[mode], strict=True)
        rows.append(
            [
                title,
                table.number(table.median(of_all) * 1000),
                "" if mode == "bare" else f"{(over_bare - 1) * 100:+.1f} %",
                table.number(table.percentile(of_all, 99) * 1000),
                table.number(table.median(rates)),
                table.number(table.median(cpus) * 1000),
            ]
        )
    header = [
        f"`GET {PATH}`",
        "p50, ms",
        "over bare, in the same turn",
        "p99, ms",
        f"requests a second, {CLIENTS} clients",
        "CPU of a request, ms",
    ]
    table.publish("evidently_ui", table.markdown(header, rows))


def _ask_in_turns(uis: list[Ui], turns: int, took_s: dict[str, list[list[float]]]) -> None:
    connections = {ui.mode: ui.connect() for ui in uis}
    for turn in range(turns + 1):
        for ui in _in_other_order(uis, turn):
            requests = REQUESTS_OF_OWN if ui.mode == "own" else REQUESTS
            samples = [ask(connections[ui.mode]) for _ in range(requests)]
            if turn:  # the first one warms caches up
                took_s[ui.mode].append(samples)
            ui.rest()


def _in_other_order(uis: list[Ui], turn: int) -> list[Ui]:
    """Everyone first in turn, and as often after the one as after the other."""
    start = turn // 2 % len(uis)
    order = uis[start:] + uis[:start]
    return order if turn % 2 else order[::-1]
