"""The real Evidently UI as a process of its own, for tests."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from browse import Browser
from demo import free_ports
from hosts import start_command

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "evidently"
RUN = ("usage-telemetry", "run", "--")
OPENTELEMETRY_INSTRUMENT = ("opentelemetry-instrument",)


@dataclass
class RunningUi:
    """A UI that answers requests."""

    browser: Browser
    log: Path
    process: subprocess.Popen[bytes]

    def stop(self) -> int:
        """End it as a service manager does; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def printed(self) -> str:
        """All that it wrote to stdout and stderr so far."""
        return self.log.read_text(errors="replace")


def make_workspace(folder: Path, environment: Mapping[str, str]) -> Path:
    """The example's small workspace."""
    subprocess.run(
        [sys.executable, str(EXAMPLE / "workspace.py"), str(folder)],
        env={**environment, "DO_NOT_TRACK": "1"},
        check=True,
        capture_output=True,
    )
    return folder


@contextmanager
def running_ui(
    launcher: tuple[str, ...], workspace: Path, environment: Mapping[str, str], log: Path
) -> Iterator[RunningUi]:
    """Start `evidently ui` through a launcher, wait until it answers, and end it in the end."""
    [port] = free_ports(1)
    command = [*launcher, "evidently", "ui", "--workspace", str(workspace), "--port", str(port)]
    executable = shutil.which(command[0], path=environment["PATH"])
    assert executable, command[0]
    process = start_command([executable, *command[1:]], environment, log)
    ui = RunningUi(Browser(f"http://127.0.0.1:{port}"), log, process)
    try:
        try:
            ui.browser.wait()
        except TimeoutError:
            raise AssertionError(ui.printed()) from None
        yield ui
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
