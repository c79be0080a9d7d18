"""`OTEL_EXPORTER_OTLP_*` -> which OTLP exporter, and what it is told; a part of `settings`.

The exporters read these variables themselves, each in its own way: one raises for ``none`` as the
compression, the other for nothing at all. Here they mean the same for both, and a value of no use
is told by name. Headers and certificates are left to the exporters.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

GRPC = "grpc"
HTTP = "http/protobuf"

OTLP_NAMES: Mapping[str, str | None] = {
    "otlp": None,  # the variables say which protocol
    "otlp_proto_grpc": GRPC,
    "otlp_proto_http": HTTP,
}
"""Names of OTLP exporters -> protocol, as OpenTelemetry's own configuration has them."""

_PREFIX = "OTEL_EXPORTER_OTLP_"
_COMPRESSIONS = {GRPC: ("none", "gzip"), HTTP: ("none", "gzip", "deflate")}
_DEFAULT_ENDPOINTS = {GRPC: "http://localhost:4317", HTTP: "http://localhost:4318"}
_DEFAULT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class OtlpSettings:
    """What one OTLP exporter is told.

    Attributes:
        protocol: ``grpc`` or ``http/protobuf``.
        endpoint: With the path, where the protocol has one.
        timeout_s: Limit of one export with all its attempts, seconds.
        compression: ``none``, ``gzip`` or (over HTTP) ``deflate``.
    """

    protocol: str
    endpoint: str
    timeout_s: float
    compression: str


def read_otlp(
    env: Mapping[str, str], exporters: Sequence[str], errors: list[str]
) -> dict[str, OtlpSettings]:
    """The settings of each OTLP exporter that is asked for, by its name.

    Args:
        env: The environment.
        exporters: Names of exporters; others than OTLP are passed over.
        errors: Where a value of no use is told.
    """
    found: dict[str, OtlpSettings] = {}
    for name in exporters:
        if name in OTLP_NAMES:
            problems: list[str] = []
            protocol = OTLP_NAMES[name] or _protocol(env, problems)
            found[name] = OtlpSettings(
                protocol,
                _endpoint(env, protocol, problems),
                _timeout_s(env, problems),
                _compression(env, protocol, problems),
            )
            errors += [problem for problem in problems if problem not in errors]
    return found


def _value(env: Mapping[str, str], name: str) -> tuple[str, str]:
    """The variable for traces if it is set and not empty, else the one for all signals."""
    for variable in (f"{_PREFIX}TRACES_{name}", f"{_PREFIX}{name}"):
        value = env.get(variable, "").strip()
        if value:
            return variable, value
    return f"{_PREFIX}{name}", ""


def _protocol(env: Mapping[str, str], problems: list[str]) -> str:
    variable, protocol = _value(env, "PROTOCOL")
    if not protocol:
        return GRPC
    if protocol not in (GRPC, HTTP):
        problems.append(f"{variable}={protocol!r} is neither {GRPC} nor {HTTP}")
        return GRPC
    return protocol


def _endpoint(env: Mapping[str, str], protocol: str, problems: list[str]) -> str:
    variable, endpoint = _value(env, "ENDPOINT")
    endpoint = endpoint or _DEFAULT_ENDPOINTS[protocol]
    if protocol == GRPC:
        return endpoint
    if not endpoint.startswith(("http://", "https://")):
        problems.append(f"{variable}={endpoint!r} is not an http or https URL")
    if variable == f"{_PREFIX}TRACES_ENDPOINT":
        return endpoint
    return endpoint.rstrip("/") + "/v1/traces"


def _timeout_s(env: Mapping[str, str], problems: list[str]) -> float:
    variable, raw = _value(env, "TIMEOUT")
    if not raw:
        return _DEFAULT_TIMEOUT_S
    try:
        timeout_s = float(raw)
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s < float("inf"):
        problems.append(f"{variable}={raw!r} is not a number of seconds above 0")
        return _DEFAULT_TIMEOUT_S
    return timeout_s


def _compression(env: Mapping[str, str], protocol: str, problems: list[str]) -> str:
    variable, raw = _value(env, "COMPRESSION")
    compression = raw.lower() or "none"
    if compression not in _COMPRESSIONS[protocol]:
        problems.append(
            f"{variable}={raw!r} is not one of {', '.join(_COMPRESSIONS[protocol])}, "
            f"which {protocol} knows"
        )
        return "none"
    return compression


@contextmanager
def silent_grpc_core() -> Iterator[None]:
    """While grpc is imported for the first time: have its C core keep silent from then on.

    It writes failed TLS handshakes to stderr, below Python's logging, and reads its verbosity
    when it is imported. Where the host has imported grpc or set the variable, nothing is changed.
    """
    if "grpc" in sys.modules or "GRPC_VERBOSITY" in os.environ:
        yield
        return
    os.environ["GRPC_VERBOSITY"] = "NONE"
    try:
        yield
    finally:
        os.environ.pop("GRPC_VERBOSITY", None)
