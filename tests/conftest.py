"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import clean_environment, jitsu_settings

from usage_telemetry.listen import JitsuEndpoint


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A new user's empty home."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def endpoint() -> Iterator[JitsuEndpoint]:
    """A real Jitsu endpoint on loopback."""
    with JitsuEndpoint() as running:
        yield running


@pytest.fixture
def environment(home: Path, endpoint: JitsuEndpoint) -> dict[str, str]:
    """A new user's environment, whose events go to `endpoint`."""
    return clean_environment(home, **jitsu_settings(endpoint.url))
