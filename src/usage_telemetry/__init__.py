"""Honest, anonymous usage telemetry for open-source Python tools, on OpenTelemetry."""

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
