"""With DO_NOT_TRACK present, whatever its value, the process does nothing for us."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hosts import TOOL, run_python

from usage_telemetry.listen import JitsuEndpoint

HOST = (
    """
import json, sys, threading
opened = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.fork"):
        opened.append(event)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        opened.append(f"{event} {arguments[0]}")
    if event in ("os.mkdir", "os.rename", "os.link", "sqlite3.connect"):
        opened.append(event)
sys.dont_write_bytecode = True
sys.addaudithook(hook)
"""
    + TOOL
    + """
telemetry.record("startup")
with telemetry.action("list_projects") as action:
    action.set(project_count=3)
@telemetry.action("startup")
def decorated():
    return 42
assert decorated() == 42
assert telemetry.flush(timeout=30.0)
telemetry.shutdown()
foreign = ("opentelemetry.sdk", "httpx", "httpcore", "sqlite3", "requests", "grpc")
print(json.dumps({
    "opened": opened,
    "threads": threading.active_count(),
    "imported": [name for name in sys.modules if name.startswith(foreign)],
    "stats": telemetry.stats(),
}))
"""
)


@pytest.mark.parametrize("value", ["1", "0", ""])
def test_do_not_track_of_any_value_leaves_nothing_to_be_seen(
    value: str, environment: dict[str, str], endpoint: JitsuEndpoint, home: Path
) -> None:
    host = run_python(HOST, {**environment, "DO_NOT_TRACK": value, "USAGE_TELEMETRY": "on"})

    assert host.stderr == ""
    seen = json.loads(host.stdout)
    assert seen["opened"] == []
    assert seen["threads"] == 1
    assert seen["imported"] == []
    assert seen["stats"] == {"recorded": 0}
    assert endpoint.received == 0
    assert list(home.rglob("*")) == []


@pytest.mark.parametrize(
    "variable",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"USAGE_TELEMETRY": "off"},
        {"CI": "true"},
        {"GITHUB_ACTIONS": "true"},
        {"PYTEST_CURRENT_TEST": "tests/test_x.py::test_y (call)"},
        {"USAGE_TELEMETRY_EXPORTER": "none"},
        {"OTEL_EXPORTER_JITSU_TIMEOUT": "soon"},
        {"USAGE_TELEMETRY": "perhaps"},
    ],
    ids=lambda variable: "=".join(*variable.items()),
)
def test_each_of_those_who_may_switch_off_does(
    variable: dict[str, str], environment: dict[str, str], endpoint: JitsuEndpoint, home: Path
) -> None:
    host = run_python(HOST, {**environment, **variable})

    assert host.stderr == ""
    assert json.loads(host.stdout)["opened"] == []
    assert endpoint.received == 0
    assert list(home.rglob("*")) == []


def test_in_ci_telemetry_is_on_if_it_is_asked_for(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    run_python(HOST, {**environment, "CI": "true", "USAGE_TELEMETRY": "on"})

    assert [event["action"] for event in endpoint.wait_for_events(3)] == [
        "startup",
        "list_projects",
        "startup",
    ]


def test_without_an_endpoint_nothing_is_sent_and_nothing_is_kept(
    environment: dict[str, str], home: Path
) -> None:
    nowhere = {name: value for name, value in environment.items() if "JITSU" not in name}

    host = run_python(TOOL + 'telemetry.record("startup"); print(telemetry.flush(5))', nowhere)

    assert (host.stdout, host.stderr) == ("True\n", "")
    assert not list(home.rglob("outbox*"))


def test_events_of_earlier_runs_are_never_sent_after_opting_out(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    record = TOOL + 'telemetry.record("startup"); telemetry.flush(60.0)'
    unreachable = {**environment, "OTEL_EXPORTER_JITSU_ENDPOINT": "http://127.0.0.1:9/event"}
    run_python(record, unreachable)
    state = Path(environment["XDG_STATE_HOME"]) / "usage-telemetry" / "tool"
    assert (state / "outbox.db").exists()

    run_python(record, {**environment, "DO_NOT_TRACK": ""})

    assert not (state / "outbox.db").exists()
    run_python(record, environment)
    assert endpoint.received == 1


def test_the_hosts_own_switch_can_switch_off_and_not_on(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    host = TOOL.replace("catalog)", "catalog, enabled=switch)") + (
        'telemetry.record("startup"); telemetry.flush(5.0); print(telemetry.decision.link.name)'
    )
    for switch in ("False", "lambda: False", "lambda: 1 / 0"):
        result = run_python(f"switch = {switch}\n{host}", environment)
        assert (result.stdout, result.stderr) == ("the tool's own switch\n", "")
    run_python(f"switch = lambda: True\n{host}", {**environment, "DO_NOT_TRACK": "1"})

    assert endpoint.received == 0


def test_usage_telemetry_off_takes_effect_in_a_running_process(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    switch = os.path.join(environment["XDG_CONFIG_HOME"], "usage-telemetry", "off")
    host = (
        TOOL
        + f"""
telemetry.record("startup")
assert telemetry.flush(60.0)
open({switch!r}, "w").close()
telemetry.record("list_projects")
telemetry.flush(60.0)
"""
    )
    assert run_python(host, environment).stderr == ""

    assert [event["action"] for event in endpoint.events] == ["startup"]
