"""Uses Evidently's UI as a browser would, with the standard library alone.

python browse.py http://127.0.0.1:8000
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple


class Visit(NamedTuple):
    """One request, and how it was answered."""

    method: str
    path: str
    status: int
    body: bytes


class Browser:
    """Talks to one UI; proxies of the machine are left out of it."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def visit(self, path: str, method: str = "GET", body: object = None) -> Visit:
        """One request; an answer of any status is a visit."""
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"} if body is not None else {},
        )
        try:
            with self._opener.open(request, timeout=30) as answer:
                return Visit(method, path, answer.status, answer.read())
        except urllib.error.HTTPError as error:
            return Visit(method, path, error.code, error.read())

    def wait(self, timeout_s: float = 120.0) -> None:
        """Wait until the UI answers.

        Raises:
            TimeoutError: It did not.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                self.visit("/api/version")
                return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError(f"{self._url} did not answer within {timeout_s:.0f} s")


def browse(browser: Browser) -> Iterator[Visit]:
    """Open the page, the project, its dashboard, its report; download it; add a project."""
    yield browser.visit("/")
    projects = browser.visit("/api/projects")
    yield projects
    project = _first_id(projects)
    yield browser.visit(f"/projects/{project}")
    yield browser.visit(f"/api/projects/{project}/info")
    yield browser.visit(f"/api/v2/dashboards/{project}")
    reports = browser.visit(f"/api/projects/{project}/reports")
    yield reports
    snapshot = f"/api/projects/{project}/{_first_id(reports)}"
    yield browser.visit(f"{snapshot}/data")
    yield browser.visit(f"{snapshot}/download?report_format=html")
    yield browser.visit("/api/projects", "POST", {"name": "one more"})


def _first_id(visit: Visit) -> str:
    return str(json.loads(visit.body)[0]["id"])


if __name__ == "__main__":
    ui = Browser(sys.argv[1])
    ui.wait()
    for step in browse(ui):
        print(step.status, step.method, step.path, flush=True)
