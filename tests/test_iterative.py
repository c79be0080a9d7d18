"""Tools on iterative-telemetry: their events arrive in batches, without a subprocess each."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from environments import environment as environment_with
from evidently_host import OPENTELEMETRY_INSTRUMENT, RUN
from hosts import clean_environment, jitsu_settings, run_python

from usage_telemetry.listen import JitsuEndpoint

LISTENING = Path(__file__).parent / "support" / "listening"

PRELUDE = """
import sys
from usage_telemetry.instrumentation.iterative import IterativeTelemetryInstrumentor
IterativeTelemetryInstrumentor().instrument()
import subprocess
started = []
sys.addaudithook(lambda name, args: started.append(args) if name == "subprocess.Popen" else None)
from iterative_telemetry import IterativeTelemetryLogger
logger = IterativeTelemetryLogger("a-tool", "1.2.3", enabled=True)
def delivered():
    from usage_telemetry.instrumentation.iterative_tools import _telemetries
    assert not started, started
    [telemetry] = _telemetries.values()
    assert telemetry.flush(30)
    return telemetry.stats()
"""


def passes(script: str, environment: dict[str, str]) -> None:
    result = run_python(PRELUDE + script, environment)
    assert result.returncode == 0, result.stderr


def test_every_way_to_log_is_recorded(environment: dict[str, str], endpoint: JitsuEndpoint) -> None:
    passes(
        """
@logger.log("api", "add")
def add(a, b):
    logger.log_param("count", a + b)
    return a + b
@logger.log("api")
def divide(a, b):
    return a / b
@logger.log("api", skip=True)
def silent():
    pass
assert add(1, 2) == 3
try:
    divide(1, 0)
except ZeroDivisionError:
    pass
silent()
with logger.event_scope("cli", "outer") as event:
    logger.log_param("deep", True)
    logger.send_event(event.interface, event.action, **event.kwargs)
logger.send_cli_call("init", error="a message of the user's", flag=False)
for _ in range(3):
    logger.send_event_once("api", "once")
logger.send_event("api", "threaded", use_thread=True, use_daemon=False)
delivered()
""",
        environment,
    )

    told = [(e["interface"], e["action"], e["error"], e["extra"]) for e in endpoint.events]
    assert told == [
        ("api", "add", None, {"count": 3}),
        ("api", "divide", "ZeroDivisionError", {}),
        ("cli", "outer", None, {"deep": True}),
        ("cli", "init", "Exception", {"flag": False}),
        ("api", "once", None, {}),
        ("api", "threaded", None, {}),
    ]
    assert {(e["tool_name"], e["tool_version"]) for e in endpoint.events} == {("a-tool", "1.2.3")}


def test_odd_values_harm_neither_the_tool_nor_the_event(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    passes(
        """
class Odd:
    def __repr__(self):
        raise RuntimeError("no")
logger.send_event(
    "api", "odd", number=3, negative=-1, nothing=None, text="a text", word="word", thing=Odd(),
    items=["one", "two words", 3, Odd()], real=float("nan"), table={"a": 1}, data=b"a",
    **{"a key": 1, "": 2},
)
logger.send_event("api", "an action of many words")
logger.send_event(None, "no_interface")
logger.send_event("api", "last")
delivered()
""",
        environment,
    )

    told = {e["action"]: e["extra"] for e in endpoint.events}
    assert told["odd"] == {
        "number": 3,
        "text": "custom",
        "word": "word",
        "items": ["one", "custom", "custom", "custom"],
    }
    assert "an action of many words" not in told
    assert told["last"] == {}


def test_many_events_are_few_requests(environment: dict[str, str], endpoint: JitsuEndpoint) -> None:
    passes(
        """
for number in range(100):
    logger.send_event("api", "click", number=number)
stats = delivered()
assert stats["sent"] == 100 and stats["requests"] <= 2, stats
""",
        environment,
    )

    assert [event["extra"]["number"] for event in endpoint.events] == list(range(100))


@pytest.mark.parametrize("variable", ["DO_NOT_TRACK", "ITERATIVE_DO_NOT_TRACK"])
def test_opting_out_by_a_variable(
    variable: str, environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    passes("logger.send_event('api', 'click')\ndelivered()", {**environment, variable: ""})

    assert endpoint.received == 0


def test_opting_out_by_the_id_that_the_library_keeps(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    file = Path(environment["XDG_CONFIG_HOME"]) / "iterative" / "telemetry"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"user_id": "do-not-track"}))
    passes("logger.send_event('api', 'click')\ndelivered()", environment)

    assert endpoint.received == 0


def test_evidentlys_events_are_not_taken_by_it(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    passes(
        """
from usage_telemetry.instrumentation import evidently_ui, iterative_tools
evidently_ui.install()
evidently = IterativeTelemetryLogger("evidently", "0.7.23", url=logger.url, token="t")
evidently.send_event("service", "list_projects", project_count=2)
assert evidently_ui._telemetry.flush(30)
assert not iterative_tools._telemetries
""",
        environment,
    )

    [event] = endpoint.events
    assert event["interface"] == "service_backend"


@pytest.mark.releases
@pytest.mark.parametrize("launcher", [RUN, OPENTELEMETRY_INSTRUMENT], ids=lambda p: p[0])
def test_a_real_tool_unchanged(
    launcher: tuple[str, ...], home: Path, endpoint: JitsuEndpoint, tmp_path: Path
) -> None:
    """DataChain sends one event for each command, at the very end of a short process."""
    scripts = environment_with("tools/datachain-0.62.0", ["datachain==0.62.0"])
    processes = tmp_path / "processes"
    settings = clean_environment(
        home,
        **jitsu_settings(endpoint.url),
        PYTHONPATH=str(LISTENING),
        PROCESSES_STARTED=str(processes),
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )
    settings["PATH"] = f"{scripts}{os.pathsep}{settings['PATH']}"

    def run(*command: str) -> None:
        done = subprocess.run(
            [str(scripts / command[0]), *command[1:]],
            env=settings,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    for _ in range(2):
        run(*launcher, str(scripts / "datachain"), "dataset", "ls")
    run("usage-telemetry", "flush")  # what the second process may have had to leave behind

    events = endpoint.wait_for_events(2)
    assert [(e["interface"], e["action"], e["error"]) for e in events] == [
        ("cli", "dataset", None)
    ] * 2
    assert {(e["tool_name"], e["tool_version"]) for e in events} == {("datachain", "0.62.0")}
    assert len({event["user_id"] for event in events}) == 1
    assert "requests.post" not in processes.read_text()
