"""Whether anything is recorded: the decision, who took it, and the notice that says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from usage_telemetry.settings import DO_NOT_TRACK, SDK_DISABLED, SWITCH, Settings

NOTICE_ENABLED = (
    "Anonymous usage reporting is enabled. "
    "To disable it, set env variable DO_NOT_TRACK to any value"
)
NOTICE_DISABLED = "Anonymous usage reporting is disabled"

SWITCH_FILE = "off"


class Link(NamedTuple):
    """One who may decide.

    Attributes:
        name: Who it is, as `usage-telemetry status` shows it.
        verdict: On, off, or None: it says nothing.
        detail: What the verdict rests on.
        by_user: A person decided, as opposed to a machine or a tool.
    """

    name: str
    verdict: bool | None
    detail: str
    by_user: bool = False


class Decision(NamedTuple):
    """The first link that says something decides.

    Attributes:
        enabled: Whether anything is recorded.
        link: Who decided.
        chain: Everybody who may decide, from the strongest on.
    """

    enabled: bool
    link: Link
    chain: tuple[Link, ...]

    @property
    def opted_out_by_user(self) -> bool:
        """A person said no: what waits from earlier runs is thrown away."""
        return not self.enabled and self.link.by_user

    @property
    def notice(self) -> str:
        """The line that a service prints when it starts."""
        return NOTICE_ENABLED if self.enabled else NOTICE_DISABLED


def decide(
    settings: Settings,
    *,
    switched_off: Callable[[], bool],
    host_switch: bool | None = None,
) -> Decision:
    """Ask everybody who may decide, the strongest first.

    Args:
        settings: What the environment says.
        switched_off: Whether the user's file says off; asked only if nobody stronger decides.
        host_switch: The tool's own switch; None: it has none.
    """
    chain: list[Link] = [
        _link(
            DO_NOT_TRACK,
            False if settings.do_not_track else None,
            "present" if settings.do_not_track else "not present",
            by_user=True,
        ),
        _link(
            SDK_DISABLED,
            False if settings.sdk_disabled else None,
            "true" if settings.sdk_disabled else "not true",
        ),
        _link("settings", False if settings.error else None, settings.error or "valid"),
        _link(
            SWITCH,
            settings.switch,
            "not set" if settings.switch is None else ("on" if settings.switch else "off"),
            by_user=True,
        ),
        _link(
            "continuous integration",
            False if settings.ci else None,
            f"{settings.ci} is set" if settings.ci else "no sign of it",
        ),
        _link(
            "test runner",
            False if settings.test_runner else None,
            f"{settings.test_runner} is set" if settings.test_runner else "no sign of it",
        ),
    ]
    decided = next((link for link in chain if link.verdict is not None), None)
    off = decided is None and switched_off()
    chain.append(
        _link("usage-telemetry off", False if off else None, "off" if off else "", by_user=True)
    )
    chain.append(
        _link(
            "the tool's own switch",
            False if host_switch is False else None,
            "off" if host_switch is False else "on" if host_switch else "none",
        )
    )
    chain.append(_link("default", True, "on"))
    link = next(link for link in chain if link.verdict is not None)
    return Decision(enabled=bool(link.verdict), link=link, chain=tuple(chain))


def switch_path(config: Path) -> Path:
    """The file whose presence means off."""
    return config / SWITCH_FILE


def _link(name: str, verdict: bool | None, detail: str, *, by_user: bool = False) -> Link:
    return Link(name, verdict, detail, by_user)
