"""Every request that a release's page and client can make, and some that are no action."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from browse import Browser, Visit

PROJECTS = "/api/projects"
NOBODY = "00000000-0000-0000-0000-000000000000"
NAME = "zqtelltale added"


class Step(NamedTuple):
    """A request, and the action that it is if it succeeds; None: no action in any case."""

    action: str | None
    visit: Visit

    @property
    def succeeded(self) -> bool:
        return 200 <= self.visit.status < 400

    def json(self) -> Any:
        """The answer; a JSON text within JSON is read too. None where it is something else."""
        try:
            value = json.loads(self.visit.body)
            return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value
        except ValueError:
            return None


class EveryRequest:
    """Uses a UI in every way there is.

    Args:
        browser: Talks to the UI.
        workspace: As telltale_workspace.py made it.
        legacy: The API of releases up to 0.7.0.
    """

    def __init__(self, browser: Browser, workspace: Path, *, legacy: bool) -> None:
        self._browser = browser
        self._legacy = legacy
        self._id = json.loads(workspace.with_name(workspace.name + ".json").read_text())["project"]
        self._snapshot = json.loads(
            workspace.with_name(workspace.name + ".snapshot.json").read_text()
        )
        self._project = f"{PROJECTS}/{self._id}"

    def __iter__(self) -> Iterator[Step]:
        yield from self._page()
        yield from self._no_action()
        yield from self._look_around()
        yield from self._snapshots()
        yield from self._change()

    def _do(self, action: str | None, path: str, method: str = "GET", body: object = None) -> Step:
        return Step(action, self._browser.visit(path, method, body))

    def _page(self) -> Iterator[Step]:
        page = self._do("index", "/")
        yield page
        yield self._do("index", f"/projects/{self._id}")
        yield self._do("index", f"/projects/{self._id}/reports/some-page")
        yield self._do("index", "/projects")
        files = re.findall(r'(?:src|href)="\.?(/[^"]+)"', page.visit.body.decode())
        for path in [*files[:4], "/favicon.ico", "/manifest.json", "/robots.txt", "/index.html"]:
            yield self._do(None, path)

    def _no_action(self) -> Iterator[Step]:
        for path in ("/no-such-file.js", "/api/version", "/schema", "/docs", "/api/nowhere"):
            yield self._do(None, path)
        for path in ("/", PROJECTS, f"{self._project}/info"):
            yield self._do(None, path, "HEAD")
        yield self._do(None, PROJECTS, "DELETE")  # 405
        yield self._do(None, f"{PROJECTS}/{NOBODY}/info")  # 404
        yield self._do(None, f"{PROJECTS}/not-an-id/info")  # 400 or 422
        yield self._do("get_snapshot_data", f"{self._project}/{NOBODY}/data")

    def _look_around(self) -> Iterator[Step]:
        yield self._do("list_projects", PROJECTS)
        yield self._do("get_project_info", f"{self._project}/info")
        yield self._do("search_projects", f"{PROJECTS}/search/zqtelltale%20project")
        yield self._do("list_snapshots", f"{self._project}/snapshots")
        yield self._do("reload_project_snapshots", f"{self._project}/reload")
        if self._legacy:
            yield self._do("project_dashboard", f"{self._project}/dashboard")
        else:
            yield self._do("list_projects", "/api/v2/projects")
            dashboard = self._do("project_dashboard", f"/api/v2/dashboards/{self._id}")
            yield dashboard
            yield self._do(
                "save_project_dashboard",
                f"/api/v2/dashboards/{self._id}",
                "POST",
                dashboard.json(),
            )
        yield self._do("list_project_dashboard_panels", f"{self._project}/dashboard/panels")

    def _snapshots(self) -> Iterator[Step]:
        reports = self._do("list_reports", f"{self._project}/reports")
        yield reports
        suites = self._do("list_test_suites", f"{self._project}/test_suites")
        yield suites
        for snapshot in [*reports.json(), *(suites.json() if suites.succeeded else ())]:
            yield from self._one_snapshot(f"{self._project}/{snapshot['id']}")

    def _one_snapshot(self, snapshot: str) -> Iterator[Step]:
        shown = self._do("get_snapshot_data", f"{snapshot}/data")
        yield shown
        yield self._do("get_snapshot_metadata", f"{snapshot}/metadata")
        graphs = re.findall(r'"additionalGraphs": \[\{.*?"id": "([^"]+)"', json.dumps(shown.json()))
        for graph in graphs[:1]:
            path = graph.replace(" ", "%20")
            yield self._do("get_snapshot_graph_data", f"{snapshot}/graphs_data/{path}")
        yield self._do(None, f"{snapshot}/graphs_data/no-such-graph")  # 404
        for form in ("html", "json"):
            yield self._do("get_snapshot_download", f"{snapshot}/download?report_format={form}")
        yield self._do(None, f"{snapshot}/download?report_format=zqtelltale")  # 400

    def _change(self) -> Iterator[Step]:
        info = self._do("get_project_info", f"{self._project}/info")
        yield info
        yield self._do("update_project_info", f"{self._project}/info", "POST", info.json())
        new: dict[str, object] = {"name": NAME}
        if self._legacy:
            new["dashboard"] = {"name": NAME, "panels": []}
        added = self._do("add_project", PROJECTS, "POST", new)
        yield added
        # Some releases answer with the project, others with its id.
        project = added.json()["id"] if isinstance(added.json(), dict) else added.json()
        if self._legacy:
            path, snapshot = f"{PROJECTS}/{project}/snapshots", self._snapshot["id"]
            yield self._do("add_snapshot", path, "POST", self._snapshot)
        else:
            path = f"/api/v2/projects/{self._id}"
            yield self._do("update_project_info", path, "PATCH", info.json())
            step = self._do("add_snapshot", f"/api/v2/snapshots/{project}", "POST", self._snapshot)
            yield step
            snapshot = step.json()["snapshot_id"]
        yield self._do("list_reports", f"{PROJECTS}/{project}/reports")
        yield self._do("delete_snapshot", f"{PROJECTS}/{project}/{snapshot}", "DELETE")
        yield self._do("delete_project", f"{PROJECTS}/{project}", "DELETE")
        if not self._legacy:
            another = self._do("add_project", "/api/v2/projects", "POST", new)
            yield another
            made = another.json()
            project = made["id"] if isinstance(made, dict) else made
            yield self._do("delete_project", f"/api/v2/projects/{project}", "DELETE")
