"""Runs the process under test against an endpoint, and counts what became of its events."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misbehaving import Endpoint, healthy

HOST = Path(__file__).with_name("host.py")


@dataclass
class Run:
    """One process, from start to end."""

    stderr: bytes
    exit_s: float
    code: int
    said: dict[str, Any]


@dataclass
class Result:
    """What a row of the table shows."""

    recorded: int = 0
    accepted: list[str] = field(default_factory=list)
    waiting: int = 0
    given_up: int = 0
    stderr: bytes = b""
    delays_s: list[float] = field(default_factory=list)
    requests_seen: int = 0
    extra: str = ""

    @property
    def once(self) -> int:
        """Events that were accepted exactly once."""
        return len(set(self.accepted)) - self.twice

    @property
    def twice(self) -> int:
        """Events that were answered with 2xx more than once."""
        return len(self.accepted) - len(set(self.accepted))

    @property
    def lost(self) -> int:
        """Events that were recorded, never accepted, and do not wait either."""
        return self.recorded - len(set(self.accepted)) - self.waiting

    @property
    def delay_s(self) -> float:
        """How much longer the exit takes than without telemetry: the median."""
        return statistics.median(self.delays_s) if self.delays_s else 0.0


class Lab:
    """A home of its own, and processes that live in it.

    Args:
        folder: Empty; below it everything is kept.
        python: The interpreter of the processes.
    """

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.python = python
        self.environment: dict[str, str] = {}

    @property
    def state(self) -> Path:
        """Where the tool's outbox lies."""
        return self.home / "state" / "faulty"

    @property
    def config(self) -> Path:
        """Where the tool's user id lies."""
        return self.home / ".config" / "usage-telemetry" / "faulty"

    def start(self, task: dict[str, Any]) -> subprocess.Popen[bytes]:
        """Start the process under test."""
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "USAGE_TELEMETRY_HOME": str(self.home / "state"),
            "USAGE_TELEMETRY": "on",
            "PYTHONPATH": os.pathsep.join(sys.path),
            **self.environment,
        }
        return subprocess.Popen(
            [self.python, str(HOST), json.dumps(task)],
            env=environment,
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(
        self,
        task: dict[str, Any],
        until: Callable[[], object] = lambda: None,
        end: Callable[[subprocess.Popen[bytes]], None] | None = None,
    ) -> Run:
        """Run it to its end.

        Args:
            task: See `host.py`.
            until: Called when it has recorded; returns when it may leave.
            end: Ends it from outside, in place of letting it leave by itself.
        """
        process = self.start(task)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        said: dict[str, Any] = {}
        try:
            while (line := process.stdout.readline().strip()) != b"ready":
                assert line, process.stderr.read().decode()
            until()
            if end is not None:
                began = time.monotonic()
                end(process)
            else:
                process.stdin.write(b"\n")
                process.stdin.flush()
                while (line := process.stdout.readline().strip()) != b"leaving":
                    assert line, process.stderr.read().decode()
                    said = json.loads(line)
                began = time.monotonic()
            process.wait(120)
            exit_s = time.monotonic() - began
            stderr = process.stderr.read()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                pipe.close()
        return Run(stderr, exit_s, process.returncode, said)

    def deliver_the_rest(self, endpoint: Endpoint, result: Result, task: dict[str, Any]) -> Run:
        """A second process of the same user, with a healthy endpoint."""
        endpoint.behave = healthy
        run = self.run({"events": 1, "flush": 20, **task})
        result.recorded += 1
        result.stderr += run.stderr
        return run
