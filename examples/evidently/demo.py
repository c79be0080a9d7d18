"""The real Evidently UI, unchanged, and the usage events it sends, on this machine alone.

    python3 examples/evidently/demo.py
    DO_NOT_TRACK=1 python3 examples/evidently/demo.py

Sets up what is needed in .venv (about 1 GB the first time), starts a local Jitsu endpoint and
Evidently's UI with a small workspace, uses the UI as a browser would, shows the events that
arrive, and stops. Nothing is sent anywhere else; all files are kept in a temporary folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def main() -> int:
    """Set up, then go on inside the environment."""
    sys.path.insert(0, str(ROOT / ".ci"))
    from environment import prepare

    python = prepare(["evidently"])
    return subprocess.run([str(python), str(Path(__file__).resolve()), "inside"]).returncode


def inside() -> int:
    """Run the demonstration; 0 if what had to arrive arrived."""
    from browse import Browser, browse

    opted_out = "DO_NOT_TRACK" in os.environ
    with tempfile.TemporaryDirectory(prefix="usage-telemetry-demo-") as folder:
        home = Path(folder)
        endpoint_port, ui_port = free_ports(2)
        environment = demo_environment(home, endpoint_port)
        arrived = home / "events.jsonl"

        say("A local Jitsu endpoint:")
        endpoint = start(
            ["usage-telemetry", "listen", "--port", str(endpoint_port), "--output", str(arrived)],
            environment,
        )
        wait_for_port(endpoint_port, endpoint)
        say("A small workspace for Evidently ...")
        subprocess.run(
            [sys.executable, str(HERE / "workspace.py"), str(home / "workspace")],
            env={**environment, "DO_NOT_TRACK": "1"},
            check=True,
            capture_output=True,
        )
        command = ["usage-telemetry", "run", "--", "evidently", "ui"]
        command += ["--workspace", str(home / "workspace"), "--port", str(ui_port)]
        say("Evidently's UI, unchanged: " + " ".join(command[:5]))
        with (home / "evidently.log").open("wb") as log:
            ui = start(command, environment, log)
        try:
            browser = Browser(f"http://127.0.0.1:{ui_port}")
            browser.wait()
            say("What a browser asks for, and the events that arrive:")
            for visit in browse(browser):
                print(f"  {visit.status} {visit.method} {shortened(visit.path)}", flush=True)
                time.sleep(0.4)  # so that events appear beside what caused them
        except Exception:
            print((home / "evidently.log").read_text(errors="replace"))
            raise
        finally:
            stop(ui)
            time.sleep(0.5)
            stop(endpoint)
        notice = notice_in((home / "evidently.log").read_text(errors="replace"))
        return report(arrived, notice, opted_out)


def report(arrived: Path, notice: str, opted_out: bool) -> int:
    """Say what happened; 0 if it is what has to happen."""
    lines = arrived.read_text().splitlines() if arrived.exists() else []
    events = [json.loads(line) for line in lines]
    say(f"Evidently's terminal said: {notice}")
    if opted_out:
        say(f"With DO_NOT_TRACK present, {len(events)} events arrived.")
        return 0 if not events else 1
    say(f"{len(events)} events arrived. One of them, whole:")
    if events:
        print(json.dumps(events[-1], indent=2))
    return 0 if {"startup", "index", "get_snapshot_data"} <= {e["action"] for e in events} else 1


def demo_environment(home: Path, endpoint_port: int) -> dict[str, str]:
    """The caller's environment, with every folder and endpoint replaced by one of the demo's."""
    settings = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
        "OTEL_EXPORTER_JITSU_ENDPOINT": f"http://127.0.0.1:{endpoint_port}/api/v1/s2s/event",
        "OTEL_EXPORTER_JITSU_TOKEN": "demo",
        "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ.get("PATH", ""),
        "NO_PROXY": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }
    # In CI telemetry is off unless it is asked for; here it is. DO_NOT_TRACK stands above it.
    return {**os.environ, **settings, "USAGE_TELEMETRY": "on"}


def start(
    command: Sequence[str], environment: Mapping[str, str], output: object = None
) -> subprocess.Popen[bytes]:
    """Start a program of this environment."""
    executable = shutil.which(command[0], path=environment["PATH"])
    if executable is None:
        raise SystemExit(f"{command[0]} is not installed")
    return subprocess.Popen(
        [executable, *command[1:]], env=dict(environment), stdout=output, stderr=output
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does; harder if need be."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the process listens there.

    Raises:
        SystemExit: It ended, or did not listen within 30 s.
    """
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("the local endpoint did not start")


def notice_in(log: str) -> str:
    """The line about usage reporting in a server's output."""
    return next((line for line in log.splitlines() if "usage reporting is" in line), "nothing")


def shortened(path: str) -> str:
    """A path with its ids cut short, to fit a line."""
    return "/".join(part[:8] + "..." if len(part) > 30 else part for part in path.split("/"))


def say(text: str) -> None:
    """A line of progress."""
    print(f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text, flush=True)


if __name__ == "__main__":
    sys.exit(inside() if sys.argv[1:] == ["inside"] else main())
