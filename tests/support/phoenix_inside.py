"""Run in a network namespace of its own: arize-phoenix, and a tool that sends to it; see there.

    unshare -rn python phoenix_inside.py PHOENIX FOLDER

Prints what Phoenix tells of the spans it got, as JSON.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from hosts import TOOL, clean_environment, run_python

HTTP_PORT, GRPC_PORT = 6006, 4317  # the namespace is ours alone
START_S = 180.0

SCRIPT = TOOL + (
    """
import sys
try:
    with telemetry.action("list_projects", project_count=int(sys.argv[1])):
        raise KeyError("a secret")
except KeyError:
    pass
assert telemetry.flush(30.0)
"""
)


def main(phoenix: str, folder: Path) -> None:
    """Start Phoenix, send one action by each protocol, print what it has."""
    loopback_up()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DO_NOT_TRACK": "1",
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(HTTP_PORT),
        "PHOENIX_GRPC_PORT": str(GRPC_PORT),
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_SQL_DATABASE_URL": f"sqlite:///{folder}/phoenix.db",
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        "PHOENIX_ENABLE_MCP_SERVER": "false",
    }
    with (folder / "phoenix.log").open("wb") as log:
        server = subprocess.Popen(
            [phoenix, "serve"], env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        wait_for("/healthz", START_S, server)
        for count, (protocol, port) in enumerate(
            [("grpc", GRPC_PORT), ("http/protobuf", HTTP_PORT)]
        ):
            settings = {
                "USAGE_TELEMETRY_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            }
            done = run_python(SCRIPT, clean_environment(folder, **settings), str(count))
            assert (done.stdout, done.stderr) == ("", "")
        print(json.dumps(spans(2)))
    except BaseException:
        print((folder / "phoenix.log").read_text()[-2000:], file=sys.stderr)
        raise
    finally:
        server.terminate()
        server.wait(30)


def loopback_up() -> None:
    """A new namespace has its loopback interface down: SIOCSIFFLAGS, netdevice(7)."""
    up_and_running = 0x41
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", up_and_running))


def wait_for(path: str, timeout_s: float, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{HTTP_PORT}{path}", timeout=5).close()
            return
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)


def spans(count: int) -> list[dict[str, Any]]:
    """The spans of the default project, once there are so many."""
    url = f"http://127.0.0.1:{HTTP_PORT}/v1/projects/default/spans?limit=10"
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]
        except OSError:  # 404 until the first span has made the project
            found = []
        if len(found) >= count or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
