"""Which tools have declared a catalog on this machine, and how a catalog is loaded."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import click

from usage_telemetry.catalog import Catalog
from usage_telemetry.cli.session import Session
from usage_telemetry.folders import folder_name
from usage_telemetry.telemetry import Telemetry

ENTRY_POINT_GROUP = "usage_telemetry_catalog"
"""Name: the tool; value: ``module:name`` of a `Catalog`, a `Telemetry`, or a function that returns
one of them."""

BUILT_IN = {"evidently": "usage_telemetry.instrumentation.evidently_catalog:CATALOG"}
"""Tools that we instrument ourselves."""

INTERFACE = "service_backend"


@dataclass(frozen=True)
class Declared:
    """A tool and what it may record.

    Attributes:
        tool: Its name.
        version: The installed one; None: it is not installed here.
        interface: The part of it that records.
        catalog: What it may record.
        group_id: As the tool passes it.
        endpoint: Where it sends to by itself; None: not known.
    """

    tool: str
    version: str | None
    interface: str
    catalog: Catalog
    group_id: str | None = None
    endpoint: str | None = None


def declared(session: Session, tool: str | None, reference: str | None) -> Declared:
    """The catalog that a command is about.

    Args:
        session: The call; a mounted one brings its own catalog.
        tool: What ``--tool`` says.
        reference: What ``--catalog`` says: ``module:name``.

    Raises:
        click.UsageError: None can be found, or more than one.
    """
    name = tool or session.tool
    if reference is not None:
        return _declared(name, _load(reference), reference)
    if session.telemetry is not None:
        return _declared(name, session.telemetry, "")
    known = references()
    if name is None:
        if len(known) != 1:
            raise click.UsageError(f"which tool? --tool {' or --tool '.join(sorted(known))}")
        name = next(iter(known))
    if name not in known:
        raise click.UsageError(
            f"no catalog of {name!r} is known; there is: {', '.join(sorted(known))}. "
            f"A tool declares its own in the entry-point group {ENTRY_POINT_GROUP}, "
            "or name it: --catalog module:name"
        )
    return _declared(name, _load(known[name]), known[name])


def references() -> dict[str, str]:
    """Tool -> ``module:name`` of its catalog, for all that are installed."""
    from importlib.metadata import entry_points

    found = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
    return {**BUILT_IN, **found}


def _load(reference: str) -> object:
    module, _, name = reference.partition(":")
    if not module or not name:
        raise click.UsageError(f"--catalog {reference!r} is not module:name")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` has it: a developer's own module is found
    try:
        from importlib import import_module

        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if callable(found) and not isinstance(found, (Catalog, Telemetry)):
            found = found()
    except Exception as error:  # whatever a foreign module does
        raise click.UsageError(
            f"the catalog {reference!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from None
    return found


def _declared(tool: str | None, found: object, reference: str) -> Declared:
    if isinstance(found, Telemetry):
        return Declared(
            found.tool,
            found.version,
            found.interface,
            found.catalog,
            found.group_id,
            found.endpoint,
        )
    if not isinstance(found, Catalog):
        raise click.UsageError(f"{reference!r} is a {type(found).__name__}, not a Catalog")
    name = tool or reference.partition(":")[0].partition(".")[0]
    return Declared(name, _installed_version(name), INTERFACE, found)


def _installed_version(tool: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(folder_name(tool))
    except PackageNotFoundError:
        return None
