"""Which route of which Evidently release is which action."""

from __future__ import annotations

import re
from typing import NamedTuple


class Route(NamedTuple):
    """A route of some releases: what it is called there, and what it means."""

    since: tuple[int, int, int]
    before: tuple[int, int, int]
    method: str
    template: str
    action: str


_FIRST = (0, 4, 0)
_V2 = (0, 7, 1)
_ANY = (99, 0, 0)

# fmt: off
ROUTES = (
    # since        before    method     route template                                                     action
    Route(_FIRST,    _ANY,     "GET",     "/",                                                               "index"),
    Route(_FIRST,    (0, 4, 30), "GET",   "/projects",                                                       "index"),
    Route(_FIRST,    _ANY,     "GET",     "/projects/{path}",                                                "index"),
    Route(_FIRST,    _ANY,     "GET",     "/api/projects",                                                   "list_projects"),
    Route(_FIRST,    _ANY,     "POST",    "/api/projects",                                                   "add_project"),
    Route(_FIRST,    _ANY,     "GET",     "/api/projects/search/{project_name}",                             "search_projects"),
    Route(_FIRST,    _ANY,     "GET",     "/api/projects/{project_id}/info",                                 "get_project_info"),
    Route(_FIRST,    _ANY,     "POST",    "/api/projects/{project_id}/info",                                 "update_project_info"),
    Route(_FIRST,    _ANY,     "GET",     "/api/projects/{project_id}/reports",                              "list_reports"),
    Route(_FIRST,    _V2,      "GET",     "/api/projects/{project_id}/test_suites",                          "list_test_suites"),
    Route(_FIRST,    _ANY,     "GET",     "/api/projects/{project_id}/snapshots",                            "list_snapshots"),
    Route(_FIRST,    _V2,      "POST",    "/api/projects/{project_id}/snapshots",                            "add_snapshot"),
    Route(_FIRST,    (0, 7, 6), "GET",    "/api/projects/{project_id}/dashboard",                            "project_dashboard"),
    Route(_FIRST,    _V2,      "GET",     "/api/projects/{project_id}/dashboard/panels",                     "list_project_dashboard_panels"),
    Route(_FIRST,    _ANY,     "GET",     "/api/projects/{project_id}/reload",                               "reload_project_snapshots"),
    Route(_FIRST,    _ANY,     "DELETE",  "/api/projects/{project_id}",                                      "delete_project"),
    Route(_FIRST,    _ANY,     "DELETE",  "/api/projects/{project_id}/{snapshot_id}",                        "delete_snapshot"),
    Route(_FIRST,    _ANY,     "GET",     "/api/projects/{project_id}/{snapshot_id}/data",                   "get_snapshot_data"),
    Route(_FIRST,    _ANY,     "GET",     "/api/projects/{project_id}/{snapshot_id}/metadata",               "get_snapshot_metadata"),
    Route(_FIRST,    _ANY,     "GET",     "/api/projects/{project_id}/{snapshot_id}/download",               "get_snapshot_download"),
    Route(_FIRST,    _ANY,     "GET",     "/api/projects/{project_id}/{snapshot_id}/graphs_data/{graph_id}", "get_snapshot_graph_data"),
    Route(_V2,       _ANY,     "GET",     "/api/v2/projects",                                                "list_projects"),
    Route(_V2,       _ANY,     "POST",    "/api/v2/projects",                                                "add_project"),
    Route(_V2,       _ANY,     "PATCH",   "/api/v2/projects/{project_id}",                                   "update_project_info"),
    Route(_V2,       _ANY,     "DELETE",  "/api/v2/projects/{project_id}",                                   "delete_project"),
    Route(_V2,       _ANY,     "GET",     "/api/v2/dashboards/{project_id}",                                 "project_dashboard"),
    Route(_V2,       _ANY,     "POST",    "/api/v2/dashboards/{project_id}",                                 "save_project_dashboard"),
    Route(_V2,       _ANY,     "POST",    "/api/v2/snapshots/{project_id}",                                  "add_snapshot"),
)
# fmt: on


def routes_of(version: str) -> dict[tuple[str, str], str]:
    """(method, route template) -> action for one release of evidently."""
    release = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return {
        (route.method, route.template): route.action
        for route in ROUTES
        if route.since <= release < route.before
    }
