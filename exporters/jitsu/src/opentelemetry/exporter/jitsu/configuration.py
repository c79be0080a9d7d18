"""Environment variables of the exporter -> one frozen Configuration; nothing else reads them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

DO_NOT_TRACK = "DO_NOT_TRACK"
ENDPOINT = "OTEL_EXPORTER_JITSU_ENDPOINT"
TOKEN = "OTEL_EXPORTER_JITSU_TOKEN"  # noqa: S105 - the name of a variable, not a secret
TIMEOUT = "OTEL_EXPORTER_JITSU_TIMEOUT"
NO_IP = "OTEL_EXPORTER_JITSU_NO_IP"
HOME = "USAGE_TELEMETRY_HOME"

DEFAULT_TIMEOUT_S = 10.0
"""A whole request, wall clock: the OTLP exporters' default as well."""


@dataclass(frozen=True)
class Configuration:
    """Where events go.

    Attributes:
        endpoint: URL of the Jitsu server-to-server endpoint; None: nothing is sent.
        token: Write key, sent in the header ``X-Auth-Token``.
        timeout_s: Wall-clock limit of one request, seconds.
        no_ip: Events carry ``source_ip: null``, so that not even the masked address is stored.
        state_dir: Folder below which outboxes live; None: the user's state folder.
        opted_out: ``DO_NOT_TRACK`` is present: the exporter does nothing at all.
    """

    endpoint: str | None = None
    token: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    no_ip: bool = False
    state_dir: Path | None = None
    opted_out: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Configuration:
        """Read the ``OTEL_EXPORTER_JITSU_*`` variables.

        Raises:
            ValueError: A variable has a value that cannot be used; names both.
        """
        env = os.environ if environ is None else environ
        configuration = cls(
            endpoint=env.get(ENDPOINT) or None,
            token=env.get(TOKEN) or None,
            no_ip=parse_no_ip(env.get(NO_IP, "")),
            state_dir=Path(env[HOME]) if env.get(HOME) else None,
            opted_out=DO_NOT_TRACK in env,
        )
        if raw := env.get(TIMEOUT):
            configuration = replace(configuration, timeout_s=parse_timeout(raw))
        return configuration


def parse_timeout(raw: str) -> float:
    """Seconds from the text of ``OTEL_EXPORTER_JITSU_TIMEOUT``.

    Raises:
        ValueError: Not a finite number above 0; names variable and value.
    """
    try:
        timeout_s = float(raw)
    except ValueError:
        timeout_s = math.nan
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise ValueError(f"{TIMEOUT}={raw!r} is not a number of seconds above 0, such as 10")
    return timeout_s


def parse_no_ip(raw: str) -> bool:
    """Yes or no from the text of ``OTEL_EXPORTER_JITSU_NO_IP``; empty means no.

    Raises:
        ValueError: Neither on nor off; names variable and value.
    """
    word = raw.strip().lower()
    if word in ("1", "on", "true", "yes"):
        return True
    if word in ("", "0", "off", "false", "no"):
        return False
    raise ValueError(f"{NO_IP}={raw!r} is neither on nor off")


def default_state_dir() -> Path:
    """The folder for outboxes where nobody named one: shared with the package usage-telemetry."""
    from platformdirs import user_state_path

    return user_state_path("usage-telemetry", appauthor=False)
