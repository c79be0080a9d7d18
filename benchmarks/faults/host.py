"""The process under test: a tool that records actions and ends in one way or another.

Started by `lab.py` with one JSON argument. It writes `ready` when it has recorded, waits for a
line on its standard input, writes `leaving` and ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

HOUR_NS = 3600 * 10**9


def main(task: dict[str, Any]) -> None:
    """Do what the task says."""
    if task.get("as_nobody"):
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    if task.get("file_limit"):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (task["file_limit"], task["file_limit"]))
    if task.get("clock_ahead"):
        _set_clock_ahead()
    if task.get("resolver"):
        _replace_resolver(task["resolver"])
    WAYS[task.get("way", "plain")](task)


def make(task: dict[str, Any]) -> Any:
    """The telemetry, or what stands for it in the process that is compared with."""
    if task.get("without"):
        return Without()
    from usage_telemetry import Action, Catalog, Count, Telemetry

    return Telemetry(
        tool="faulty",
        version="1.0",
        interface="cli",
        catalog=Catalog(
            [Action(name, "Something.", number=Count("Of it.")) for name in ("good", "bad")]
        ),
        endpoint=task["endpoint"],
        token="a-token",
    )


class Without:
    """No telemetry."""

    def record(self, action: str, **extras: object) -> None:
        """Do nothing."""

    def settle(self) -> None:
        """Do nothing."""

    def flush(self, timeout: float) -> bool:
        """Do nothing."""
        return True

    def stats(self) -> dict[str, int]:
        """Of nothing."""
        return {}


def say(word: str) -> None:
    """Tell the lab."""
    os.write(1, f"{word}\n".encode())


def record(telemetry: Any, task: dict[str, Any]) -> None:
    """As many actions as the task says."""
    bad = task.get("bad_at", -1)
    for number in range(task["events"]):
        telemetry.record("bad" if number == bad else "good", number=number)


def plain(task: dict[str, Any]) -> None:
    """Record, wait, end."""
    telemetry = make(task)
    record(telemetry, task)
    say("ready")
    sys.stdin.readline()
    if task.get("flush"):
        say(json.dumps({"flushed": telemetry.flush(task["flush"]), **telemetry.stats()}))
    say("leaving")
    if task.get("end") == "sys.exit":
        sys.exit(0)
    if task.get("end") == "exception":
        raise RuntimeError("the host's own")


def early(task: dict[str, Any]) -> None:
    """End while the SDK is still being imported."""
    say("ready")
    sys.stdin.readline()
    telemetry = make(task)
    say("leaving")
    record(telemetry, task)


def at_exit(task: dict[str, Any]) -> None:
    """Record in functions that run at exit, before and after telemetry's own."""
    import atexit

    holder: list[Any] = []
    atexit.register(lambda: record(holder[0], {"events": 1}))
    holder.append(make(task))
    atexit.register(lambda: record(holder[0], {**task, "events": task["events"] - 1}))
    say("ready")
    sys.stdin.readline()
    say("leaving")


def threads(task: dict[str, Any]) -> None:
    """Two thousand threads record at once."""
    telemetry = make(task)
    go = threading.Event()

    def work() -> None:
        go.wait()
        record(telemetry, {**task, "events": task["events"] // task["threads"]})

    crowd = [threading.Thread(target=work) for _ in range(task["threads"])]
    for thread in crowd:
        thread.start()
    go.set()
    for thread in crowd:
        thread.join()
    say("ready")
    sys.stdin.readline()
    say("leaving")


def forks(task: dict[str, Any]) -> None:
    """Fork again and again, amid everything; each child records and ends by itself."""
    telemetry = make(task)
    children = []
    each = task["events"] // (2 * task["children"])
    for _ in range(task["children"]):
        record(telemetry, {**task, "events": each // 2})
        pid = os.fork()
        if pid == 0:
            record(telemetry, {**task, "events": each})
            if task.get("child_waits"):
                time.sleep(task["child_waits"])
            return
        children.append(pid)
        record(telemetry, {**task, "events": each - each // 2})
    record(telemetry, {**task, "events": task["events"] - each * 2 * task["children"]})
    failed = [pid for pid in children if os.waitpid(pid, 0)[1] != 0]
    assert not failed, failed
    say("ready")
    sys.stdin.readline()
    say("leaving")


def workers(task: dict[str, Any]) -> None:
    """Eight processes of multiprocessing at once."""
    import multiprocessing

    context: Any = multiprocessing.get_context(task["method"])
    telemetry = make(task)
    each = task["events"] // (task["workers"] + 1)
    crowd = [
        context.Process(target=_work, args=({**task, "events": each},))
        for _ in range(task["workers"])
    ]
    record(telemetry, {**task, "events": task["events"] - each * task["workers"]})
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    assert all(process.exitcode == 0 for process in crowd)
    say("ready")
    sys.stdin.readline()
    say("leaving")


def _work(task: dict[str, Any]) -> None:
    record(make(task), task)


def server(task: dict[str, Any]) -> None:
    """A server under uvicorn, which ends by SIGTERM."""
    import uvicorn

    telemetry = make(task)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            return
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
                record(telemetry, task)
                say("ready")
            else:
                telemetry.settle()
                await send({"type": "lifespan.shutdown.complete"})
                return

    uvicorn.run(app, port=0, log_level="critical")


def million(task: dict[str, Any]) -> None:
    """Record without end, and tell how large the process became."""
    telemetry = make(task)
    record(telemetry, task)
    say("ready")
    sys.stdin.readline()
    # Not getrusage, whose maximum a process inherits from the one that started it.
    with open("/proc/self/status") as status:
        peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    say(json.dumps({"peak_mb": peak_kib / 1000, **telemetry.stats()}))
    say("leaving")


WAYS = {
    "plain": plain,
    "early": early,
    "at_exit": at_exit,
    "threads": threads,
    "forks": forks,
    "workers": workers,
    "server": server,
    "million": million,
}


def _set_clock_ahead() -> None:
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + HOUR_NS / 10**9
    time.time_ns = lambda: real_ns() + HOUR_NS


def _replace_resolver(how: str) -> None:
    """`hangs`: no answer for as long as anybody waits; an address: that of every name."""
    import socket

    real = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        if how == "hangs":
            time.sleep(60)
        return real(host if how == "hangs" else how, *args, **kwargs)

    socket.getaddrinfo = resolve


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
