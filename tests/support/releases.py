"""Older releases of Evidently, each in an environment of its own below .cache/evidently.

python tests/support/releases.py [RELEASE ...]     make the environments now, rather than in a test
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from environments import OWN_SCRIPTS, environment

_SINCE_0_4_16 = frozenset({"save_project_dashboard"})
_FASTAPI = _SINCE_0_4_16 | {"list_snapshots", "get_snapshot_metadata"}


class Release(NamedTuple):
    """A release that is driven for real.

    Attributes:
        version: Its number.
        pins: What has to be installed beside it, because its own requirements have no upper bound
            and later releases of these packages broke it.
        absent: Actions whose feature it does not have.
        own_environment: Installed in `.cache`; else it is the one of the project's environment.
    """

    version: str
    pins: tuple[str, ...]
    absent: frozenset[str]
    own_environment: bool = True

    @property
    def numbers(self) -> tuple[int, ...]:
        """(0, 4, 15)"""
        return tuple(int(part) for part in self.version.split("."))

    @property
    def is_legacy(self) -> bool:
        """With the classes Report and TestSuite of 0.4 and their UI."""
        return self.numbers < (0, 7, 1)


RELEASES = (
    # FastAPI, telemetry of the module evidently.telemetry
    Release("0.4.10", ("pydantic<1.10.17", "numpy<2", "pandas<3", "plotly<6"), _FASTAPI),
    # FastAPI, telemetry from the configuration
    Release(
        "0.4.15", ("pydantic<1.10.17", "numpy<2", "pandas<3", "plotly<6", "fastapi<0.111"), _FASTAPI
    ),
    # the first on Litestar
    Release("0.4.16", ("numpy<2", "pandas<3", "plotly<6"), _FASTAPI),
    Release("0.4.40", ("pandas<3", "plotly<6"), _SINCE_0_4_16),
    Release("0.5.1", ("pandas<3", "plotly<6"), _SINCE_0_4_16),
    Release("0.6.7", ("pandas<3",), _SINCE_0_4_16),
    # the one release whose UI is at evidently.legacy.ui; its page answers 500
    Release("0.7.0", ("pandas<3",), _SINCE_0_4_16 | {"index"}),
    Release(
        "0.7.23",
        (),
        frozenset({"list_test_suites", "list_project_dashboard_panels"}),
        own_environment=False,
    ),
)
"""The newest release of each line that can be installed, and those where the UI was rebuilt."""


def scripts_of(release: Release) -> Path:
    """The folder with `python`, `evidently` and `usage-telemetry`; made if it is not there.

    Raises:
        RuntimeError: It could not be installed; the message holds what uv said.
    """
    if not release.own_environment:
        return OWN_SCRIPTS
    requirements = [f"evidently=={release.version}", *release.pins]
    return environment(f"evidently/{release.version}", requirements)


def main(wanted: list[str]) -> None:
    """Make the environments of the releases named, or of all."""
    for release in RELEASES:
        if not wanted or release.version in wanted:
            print(release.version, scripts_of(release), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
