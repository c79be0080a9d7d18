"""Forks wait for sections, and sections are not starved by forks."""

from __future__ import annotations

import os
import threading
import time

import pytest
from opentelemetry.exporter.jitsu import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


def fork(check: str = "True") -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0 if eval(check, {"forks": forks}) else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_fork_waits_for_a_section_and_the_child_knows_of_none() -> None:
    inside, done = threading.Event(), threading.Event()

    def work() -> None:
        with forks.whole(), forks.whole():
            inside.set()
            time.sleep(0.2)
            done.set()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    fork("forks._sections == forks._forking == forks._waiting == 0")
    assert done.is_set()
    thread.join()


def test_a_section_that_forks_does_not_wait_for_itself() -> None:
    began = time.monotonic()
    with forks.whole():
        fork()
    assert time.monotonic() - began < forks.FORK_WAIT_S


def test_forks_in_quick_succession_do_not_starve_a_section() -> None:
    longest_s = 0.0
    stop = threading.Event()

    def work() -> None:
        nonlocal longest_s
        while not stop.is_set():
            began = time.monotonic()
            with forks.whole():
                longest_s = max(longest_s, time.monotonic() - began)

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(40):
        fork()
    stop.set()
    thread.join()
    assert longest_s < forks.FORK_WAIT_S


def test_an_owner_that_fails_stops_no_fork() -> None:
    class Broken(forks.BeginsAnew):
        def end_idle_threads(self, timeout_s: float) -> None:
            raise RuntimeError

        resume = None  # type: ignore[assignment]

    broken = Broken()
    forks.register(broken)
    fork()
