"""Environment variables -> one frozen Settings.

Nobody else in this package reads os.environ, but for `otlp_settings`, a part of this.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from usage_telemetry.otlp_settings import OtlpSettings

DO_NOT_TRACK = "DO_NOT_TRACK"
ITERATIVE_DO_NOT_TRACK = "ITERATIVE_DO_NOT_TRACK"
SDK_DISABLED = "OTEL_SDK_DISABLED"
SWITCH = "USAGE_TELEMETRY"
EXPORTER = "USAGE_TELEMETRY_EXPORTER"
DEBUG = "USAGE_TELEMETRY_DEBUG"
HOME = "USAGE_TELEMETRY_HOME"
JITSU_ENDPOINT = "OTEL_EXPORTER_JITSU_ENDPOINT"
JITSU_TOKEN = "OTEL_EXPORTER_JITSU_TOKEN"  # noqa: S105 - the name of a variable, not a secret
JITSU_TIMEOUT = "OTEL_EXPORTER_JITSU_TIMEOUT"
JITSU_NO_IP = "OTEL_EXPORTER_JITSU_NO_IP"

_ON = ("1", "on", "true", "yes")
_OFF = ("0", "off", "false", "no")

CI_VARIABLES = (
    "CI",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "BUILDKITE",
    "CIRCLECI",
    "TRAVIS",
    "APPVEYOR",
    "TF_BUILD",
    "JENKINS_URL",
    "TEAMCITY_VERSION",
    "BITBUCKET_BUILD_NUMBER",
    "CODEBUILD_BUILD_ID",
    "DRONE",
    "SEMAPHORE",
)
"""Set by the build services themselves; the first is common to most of them."""

TEST_RUNNER_VARIABLES = (
    "PYTEST_CURRENT_TEST",
    "PYTEST_VERSION",
    "PYTEST_XDIST_WORKER",
    "TOX_ENV_NAME",
    "NOX_CURRENT_SESSION",
)


class Settings(NamedTuple):
    """What the environment says.

    Attributes:
        do_not_track: The variable is present, whatever its value.
        sdk_disabled: ``OTEL_SDK_DISABLED=true``.
        switch: ``USAGE_TELEMETRY`` as True or False; None: unset.
        ci: The variable that tells of a build service; None: no sign of one.
        test_runner: What tells of a test runner; None: no sign of one.
        exporters: Names of exporters, in order.
        debug: Events go to stderr as well.
        home: State folder; None: the user's.
        jitsu_endpoint, jitsu_token: Over what the tool passes; None: unset.
        jitsu_timeout_s: Wall-clock limit of one request, seconds; None: unset.
        iterative_opted_out: The variable by which users of iterative-telemetry opt out is present.
        jitsu_no_ip: Events carry ``source_ip: null``; the exporter reads the variable itself.
        otlp: What each OTLP exporter among `exporters` is told, by its name.
        error: What is wrong with a value, naming the variable; None: nothing. Telemetry stays
            off then.
    """

    do_not_track: bool = False
    sdk_disabled: bool = False
    switch: bool | None = None
    ci: str | None = None
    test_runner: str | None = None
    exporters: tuple[str, ...] = ("jitsu",)
    debug: bool = False
    home: str | None = None
    jitsu_endpoint: str | None = None
    jitsu_token: str | None = None
    jitsu_timeout_s: float | None = None
    iterative_opted_out: bool = False
    jitsu_no_ip: bool = False
    otlp: Mapping[str, OtlpSettings] = {}
    error: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment; a bad value is told in `error`, never raised."""
        env = os.environ if environ is None else environ
        errors: list[str] = []
        exporters = _exporters(env, errors)
        return cls(
            do_not_track=DO_NOT_TRACK in env,
            sdk_disabled=env.get(SDK_DISABLED, "").strip().lower() == "true",
            switch=_switch(env, SWITCH, errors),
            ci=_first_set(env, CI_VARIABLES),
            test_runner=_first_set(env, TEST_RUNNER_VARIABLES) or _unittest_main(),
            exporters=exporters,
            debug=_switch(env, DEBUG, errors) or False,
            home=env.get(HOME) or None,
            jitsu_endpoint=_endpoint(env, errors),
            jitsu_token=env.get(JITSU_TOKEN) or None,
            jitsu_timeout_s=_timeout(env, errors),
            iterative_opted_out=ITERATIVE_DO_NOT_TRACK in env,
            jitsu_no_ip=_switch(env, JITSU_NO_IP, errors) or False,
            otlp=_otlp(env, exporters, errors),
            error="; ".join(errors) or None,
        )


def _switch(env: Mapping[str, str], name: str, errors: list[str]) -> bool | None:
    raw = env.get(name, "").strip().lower()
    if not raw:
        return None
    if raw not in _ON + _OFF:
        errors.append(f"{name}={env[name]!r} is neither on nor off")
        return None
    return raw in _ON


def _exporters(env: Mapping[str, str], errors: list[str]) -> tuple[str, ...]:
    raw = env.get(EXPORTER)
    if raw is None or not raw.strip():
        return ("jitsu",)
    names = tuple(dict.fromkeys(name.strip() for name in raw.split(",") if name.strip()))
    if not names or ("none" in names and len(names) > 1):
        errors.append(f"{EXPORTER}={raw!r} is not a comma list of exporters, nor `none` alone")
        return ()
    return names


def _otlp(
    env: Mapping[str, str], exporters: tuple[str, ...], errors: list[str]
) -> Mapping[str, OtlpSettings]:
    if not any(name.startswith("otlp") for name in exporters):
        return {}
    from usage_telemetry.otlp_settings import read_otlp

    return read_otlp(env, exporters, errors)


def _endpoint(env: Mapping[str, str], errors: list[str]) -> str | None:
    raw = env.get(JITSU_ENDPOINT, "").strip()
    if not raw:
        return None
    if not raw.startswith(("http://", "https://")):
        errors.append(f"{JITSU_ENDPOINT}={raw!r} is not an http or https URL")
    return raw


def _timeout(env: Mapping[str, str], errors: list[str]) -> float | None:
    raw = env.get(JITSU_TIMEOUT, "").strip()
    if not raw:
        return None
    try:
        timeout_s = float(raw)
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s < float("inf"):
        errors.append(f"{JITSU_TIMEOUT}={raw!r} is not a number of seconds above 0")
        return None
    return timeout_s


def _first_set(env: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    for name in names:
        if env.get(name, "").strip().lower() not in ("", *_OFF):
            return name
    return None


def _unittest_main() -> str | None:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return "python -m unittest" if getattr(spec, "name", None) == "unittest.__main__" else None
