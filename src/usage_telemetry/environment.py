"""Operating system, Python, tool and user -> the attributes of an OpenTelemetry Resource."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from usage_telemetry import attributes


def resource_attributes(
    *, tool: str, version: str, user_id: str, group_id: str | None = None
) -> dict[str, str]:
    """All that a usage event says about its surroundings; nothing else is ever added."""
    os_type, os_version = operating_system()
    found = {
        attributes.SERVICE_NAME: tool,
        attributes.SERVICE_VERSION: version,
        attributes.OS_TYPE: os_type,
        attributes.OS_VERSION: os_version,
        attributes.RUNTIME_NAME: sys.implementation.name,
        attributes.RUNTIME_VERSION: ".".join(map(str, sys.version_info[:3])),
        attributes.USER_ID: user_id,
    }
    if group_id is not None:
        found[attributes.GROUP_ID] = group_id
    return found


def operating_system() -> tuple[str, str]:
    """`os.type` of the semantic conventions, and the version as the documented events give it.

    Linux: VERSION_ID of os-release(5); macOS: the product version; Windows: build.major.minor.
    """
    if sys.platform.startswith("linux"):
        return "linux", linux_version()
    if sys.platform == "darwin":
        return "darwin", platform.mac_ver()[0]
    if sys.platform == "win32":
        version = sys.getwindowsversion()
        return "windows", f"{version.build}.{version.major}.{version.minor}"
    return sys.platform.rstrip("0123456789"), platform.release()


def linux_version(files: tuple[str, ...] = ("/etc/os-release", "/usr/lib/os-release")) -> str:
    """VERSION_ID of the first os-release file there is; empty where a rolling release has none."""
    for name in files:
        try:
            lines = Path(name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            key, _, value = line.partition("=")
            if key.strip() == "VERSION_ID":
                return value.strip().strip("\"'")
        return ""
    return ""
