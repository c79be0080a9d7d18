"""Where things are kept for a user.

platformdirs is imported when a folder is asked for: an opted-out process does not get that far.
"""

from __future__ import annotations

import re
from pathlib import Path

from usage_telemetry.settings import Settings

APPLICATION = "usage-telemetry"


def config_dir() -> Path:
    """What a user decided and who a user is: the switch, the ids."""
    from platformdirs import user_config_path

    return user_config_path(APPLICATION, appauthor=False)


def state_dir(settings: Settings) -> Path:
    """What is on its way: outboxes, spools. `USAGE_TELEMETRY_HOME` moves it."""
    if settings.home:
        return Path(settings.home)
    from platformdirs import user_state_path

    return user_state_path(APPLICATION, appauthor=False)


def tool_folder(root: Path, tool: str) -> Path:
    """The folder of one tool below `root`."""
    return root / folder_name(tool)


def folder_name(tool: str) -> str:
    """A tool's name as a folder's: letters, digits, dot, dash and underscore are kept."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", tool).lstrip(".")[:100] or "unnamed"
