"""What belongs to a service happens once, however many workers serve it."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest
from browse import Browser
from demo import free_ports
from hosts import start_command

from usage_telemetry.listen import JitsuEndpoint

SUPPORT = Path(__file__).parent / "support"
WORKERS = 3


@pytest.mark.parametrize("opted_out", [False, True], ids=["enabled", "opted out"])
def test_start_and_notice_are_once_a_service_with_several_workers(
    opted_out: bool, environment: dict[str, str], endpoint: JitsuEndpoint, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "tiny_service:app", "--app-dir", str(SUPPORT)]
    command += ["--workers", str(WORKERS), "--port", str(port)]
    settings = {**environment, **({"DO_NOT_TRACK": ""} if opted_out else {})}
    log = tmp_path / "log"

    server = start_command(command, settings, log)
    try:
        wait_for_text(log, "Application startup complete", times=WORKERS)
        visit = Browser(f"http://127.0.0.1:{port}").visit("/")
        if not opted_out:
            endpoint.wait_for_events(2, timeout_s=60)
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    finally:
        server.kill()

    assert visit.status == 200
    actions = [event["action"] for event in endpoint.events]
    assert actions.count("startup") == (0 if opted_out else 1)
    assert actions.count("index") == (0 if opted_out else 1)
    assert log.read_text().count("usage reporting is") == 1


def test_the_next_start_of_the_service_is_a_start_again(
    environment: dict[str, str], endpoint: JitsuEndpoint, tmp_path: Path
) -> None:
    for number in (1, 2):
        [port] = free_ports(1)
        command = [sys.executable, "-m", "uvicorn", "tiny_service:app", "--app-dir", str(SUPPORT)]
        log = tmp_path / f"log{number}"
        server = start_command([*command, "--port", str(port)], environment, log)
        try:
            wait_for_text(log, "Application startup complete", times=1)
            endpoint.wait_for_events(number, timeout_s=60)
            server.send_signal(signal.SIGTERM)
            server.wait(30)
        finally:
            server.kill()
        assert log.read_text().count("usage reporting is enabled") == 1

    assert [event["action"] for event in endpoint.events] == ["startup", "startup"]


def wait_for_text(log: Path, text: str, times: int, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while log.read_text().count(text) < times:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
