"""One release of Evidently: its unchanged UI, instrumented, asked for everything it can do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from every_request import EveryRequest, Step
from evidently_host import RUN, running_ui
from hosts import clean_environment, jitsu_settings
from releases import Release, scripts_of

from usage_telemetry.listen import JitsuEndpoint

SUPPORT = Path(__file__).resolve().parent
TELLTALE = "zqtelltale"


class Driven(NamedTuple):
    """What happened.

    Attributes:
        steps: All requests, in their order.
        events: All events, in the order in which their actions began.
        printed: What the server wrote to stdout and stderr.
        home: The user's home, with all that was kept on disk.
        workspace: What the UI showed.
        by_itself: What the release itself handed to iterative-telemetry: at its start, and in
            each step; only if that was overheard.
    """

    steps: list[Step]
    events: list[dict[str, Any]]
    printed: str
    home: Path
    workspace: Path
    by_itself: list[list[str]]

    @property
    def expected(self) -> list[str]:
        """The actions that have to be in the events, in this order."""
        acted = [step for step in self.steps if step.succeeded or step.visit.status >= 500]
        return ["startup", *(step.action for step in acted if step.action)]


def drive(release: Release, folder: Path, *, overhear: bool = False, **environment: str) -> Driven:
    """Make a workspace in `folder`, start the UI on it, make every request, and stop it.

    Args:
        release: Which.
        folder: An empty one.
        overhear: Note what the release hands to iterative-telemetry by itself.
        **environment: Variables for the UI, besides those that name the local endpoint.
    """
    scripts = scripts_of(release)
    home = folder / "home"
    settings = _settings(scripts, home)
    workspace = folder / "workspace"
    made = subprocess.run(
        [str(scripts / "python"), str(SUPPORT / "telltale_workspace.py"), str(workspace)],
        env={**settings, "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    with JitsuEndpoint() as endpoint:
        overheard = folder / "overheard"
        variables = {**settings, **jitsu_settings(endpoint.url), **environment}
        if overhear:
            variables["EVENTS_OF_THE_HOST"] = str(overheard)
        with running_ui(RUN, workspace, variables, folder / "log") as ui:
            steps, by_itself = [], [_lines(overheard, 0)]
            for step in EveryRequest(ui.browser, workspace, legacy=release.is_legacy):
                steps.append(step)
                by_itself.append(_lines(overheard, sum(map(len, by_itself))))
            driven = Driven(steps, [], "", home, workspace, by_itself)
            _wait(endpoint, len(driven.expected))
            assert ui.stop() in (0, -15)
        events = sorted(endpoint.events, key=lambda event: event["_timestamp"])
        return driven._replace(events=events, printed=ui.printed())


def _lines(path: Path, start: int) -> list[str]:
    return path.read_text().splitlines()[start:] if path.exists() else []


def _wait(endpoint: JitsuEndpoint, count: int) -> None:
    """While the server is there to send them; what is missing then, the test shall say."""
    with suppress(TimeoutError):
        endpoint.wait_for_events(count, timeout_s=30.0)


def _settings(scripts: Path, home: Path) -> Mapping[str, str]:
    settings = clean_environment(home)
    return {
        **settings,
        "PATH": str(scripts) + os.pathsep + settings["PATH"],
        "PYTHONPATH": os.pathsep.join([str(SUPPORT / "user_code"), str(SUPPORT / "listening")]),
        "EVIDENTLY_TYPE_PREFIXES": "zqtelltale_metrics.",
    }
