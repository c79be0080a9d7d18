"""What the commands work on: the environment's settings, the folders, the tools found in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from usage_telemetry.consent import Decision, Link, decide, switch_path
from usage_telemetry.folders import config_dir, folder_name, state_dir
from usage_telemetry.settings import Settings

if TYPE_CHECKING:
    from usage_telemetry.telemetry import Telemetry

F = TypeVar("F", bound=Callable[..., Any])

NO = 1
"""Exit code: the answer is no, or nothing was done."""
USAGE = 2
"""Exit code: a wrong option, or a setting that cannot be used (click's own code for it)."""

_MARKS_OF_STATE = ("outbox.db", "outbox.lock", "spool", "runs")
_MARKS_OF_CONFIG = ("user_id", "user_id.lock")


@dataclass(frozen=True)
class ToolFolders:
    """Where the data of one tool lies; neither folder need exist."""

    name: str
    config: Path
    state: Path

    @property
    def outbox(self) -> Path:
        return self.state / "outbox.db"

    @property
    def user_id(self) -> Path:
        return self.config / "user_id"


@dataclass
class Session:
    """One call of the command line.

    Attributes:
        tool: The one tool that it is about, where the commands are mounted under that tool's own;
            None: all that are found.
        telemetry: That tool's, which knows its own switch; None: not known.
    """

    tool: str | None = None
    telemetry: Telemetry | None = None
    settings: Settings = field(default_factory=Settings.from_environment)

    @cached_property
    def config(self) -> Path:
        return config_dir()

    @cached_property
    def state(self) -> Path:
        return state_dir(self.settings)

    @property
    def switch(self) -> Path:
        """The file whose presence means off."""
        return switch_path(self.config)

    def decision(self) -> Decision:
        """Who decides, with every link saying what it knows."""
        if self.telemetry is not None:
            found = self.telemetry.decision
        else:
            found = decide(self.settings, switched_off=self.switch.exists)
        chain = tuple(self._tell(link) for link in found.chain)
        link = next(link for link in chain if link.name == found.link.name)
        return Decision(found.enabled, link, chain)

    def _tell(self, link: Link) -> Link:
        if link.name == "usage-telemetry off":
            return link._replace(detail="off" if self.switch.exists() else "not used")
        if link.name == "the tool's own switch" and self.telemetry is None:
            return link._replace(detail="known in the tool alone")
        return link

    def require_valid_settings(self) -> None:
        """Stop with a clear error where an environment variable has a value of no use.

        Raises:
            click.UsageError: Names variable and value.
        """
        if self.settings.error:
            raise click.UsageError(self.settings.error)
        if self.settings.exporters == ("jitsu",):
            return
        from usage_telemetry.exporters import ExporterError, check

        try:
            check(self.settings)
        except ExporterError as error:
            raise click.UsageError(str(error)) from error

    def tools(self, only: str | None = None) -> list[ToolFolders]:
        """The tools a command is about.

        Args:
            only: What `--tool` says.

        Raises:
            click.UsageError: No such tool has left anything here.
        """
        name = only or self.tool
        if name is None:
            return [self.folders(found) for found in self._found()]
        if self.tool is None and folder_name(name) not in self._found():
            found = ", ".join(self._found()) or "none"
            raise click.UsageError(f"no tool {name!r} has left anything here; found: {found}")
        return [self.folders(name)]

    def folders(self, tool: str) -> ToolFolders:
        """Where the data of `tool` lies."""
        name = folder_name(tool)
        return ToolFolders(name, self.config / name, self.state / name)

    def _found(self) -> list[str]:
        names = {
            *_folders_with(self.config, _MARKS_OF_CONFIG),
            *_folders_with(self.state, _MARKS_OF_STATE),
        }
        return sorted(names)


def _folders_with(root: Path, marks: Iterable[str]) -> list[str]:
    """Only folders that hold something of ours: USAGE_TELEMETRY_HOME may name any folder."""
    try:
        folders = [path for path in root.iterdir() if path.is_dir() and not path.is_symlink()]
    except OSError:
        return []
    return [path.name for path in folders if any((path / mark).exists() for mark in marks)]


pass_session = click.make_pass_decorator(Session)


def tool_option(function: F) -> F:
    """`--tool NAME`, for commands that are about one tool or all of them."""
    return click.option("--tool", metavar="NAME", help="Only this tool; default: all found here.")(
        function
    )


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="For programs: JSON.")(function)
