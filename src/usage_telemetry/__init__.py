"""Honest, anonymous usage telemetry for open-source Python tools, on OpenTelemetry.

The names are imported on first use: a tool that imports this package and never comes to record
anything pays a millisecond.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers see it; `typing` itself would be the costliest import here
if TYPE_CHECKING:
    from usage_telemetry.catalog import (
        Action,
        Catalog,
        Choice,
        Count,
        Flag,
        Names,
        UndeclaredError,
    )
    from usage_telemetry.telemetry import Telemetry

__all__ = [
    "Action",
    "Catalog",
    "Choice",
    "Count",
    "Flag",
    "Names",
    "Telemetry",
    "UndeclaredError",
    "__version__",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from usage_telemetry import catalog, telemetry

    value: object = getattr(telemetry if name == "Telemetry" else catalog, name)
    globals()[name] = value  # from now on without this detour
    return value
