"""`capture()` and the fixture `usage_events`: what a tool's own tests see of its telemetry."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import jsonschema
import pytest
from hosts import clean_environment, jitsu_settings, run_python

from usage_telemetry import Action, Catalog, Count, Telemetry, UndeclaredError
from usage_telemetry.listen import JitsuEndpoint
from usage_telemetry.page import event_schema
from usage_telemetry.testing import USER_ID, UsageEvents, capture

CATALOG = Catalog(
    [
        Action("startup", "The service started."),
        Action("list_projects", "The list was opened.", project_count=Count("Projects.")),
    ]
)
TELEMETRY = Telemetry("tool", "1.2.3", "service_backend", CATALOG)
"""As a host has it: made when its module is imported."""


def test_events_are_those_of_production(usage_events: UsageEvents) -> None:
    TELEMETRY.record("list_projects", project_count=3)

    event = usage_events.assert_one("list_projects", project_count=3)
    jsonschema.validate(event, event_schema(CATALOG, tool="tool"))
    assert event["user_id"] == USER_ID
    assert usage_events[0] == event
    assert usage_events == [event]
    assert usage_events.actions == ["list_projects"]


def test_spans_are_root_spans_of_our_scope() -> None:
    with capture() as captured:
        TELEMETRY.record("startup")

    [span] = captured.spans
    assert span.name == "startup"
    assert span.parent is None
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "usage_telemetry"
    assert span.resource.attributes["service.name"] == "tool"


def test_what_is_not_declared_raises(usage_events: UsageEvents) -> None:
    with pytest.raises(UndeclaredError, match="declared: startup, list_projects"):
        TELEMETRY.record("no_such_action")
    with pytest.raises(UndeclaredError, match="declared: project_count"):
        TELEMETRY.record("list_projects", name="my project")
    with pytest.raises(TypeError, match="a count is an int, not str"):
        TELEMETRY.record("list_projects", project_count="3")

    usage_events.assert_none()


def test_after_it_nothing_raises_and_nothing_is_captured() -> None:
    with capture() as captured:
        pass
    TELEMETRY.record("no_such_action")

    assert captured.events == []
    assert captured.spans == ()
    assert TELEMETRY.is_off


def test_an_assertion_that_fails_says_what_was_recorded(usage_events: UsageEvents) -> None:
    TELEMETRY.record("list_projects", project_count=3)

    with pytest.raises(AssertionError, match="found 0; recorded: list_projects"):
        usage_events.assert_one("startup")
    with pytest.raises(AssertionError, match=r"extras \{'project_count': 3\}, expected \{\}"):
        usage_events.assert_one("list_projects")
    with pytest.raises(AssertionError, match="recorded: list_projects"):
        usage_events.assert_none()
    usage_events.assert_none("startup")
    usage_events.clear()
    usage_events.assert_none()


def test_an_action_that_fails_tells_the_class_of_the_exception(usage_events: UsageEvents) -> None:
    with pytest.raises(ZeroDivisionError), TELEMETRY.action("startup"):
        raise ZeroDivisionError("a message that must not be told")

    event = usage_events.assert_one("startup", error="ZeroDivisionError")
    assert "message" not in str(event)


async def test_async_code_is_captured(usage_events: UsageEvents) -> None:
    @TELEMETRY.action("list_projects", project_count=1)
    async def handler() -> None:
        await asyncio.sleep(0)

    await asyncio.gather(handler(), handler())

    assert usage_events.actions == ["list_projects"] * 2


def test_threads_are_captured_and_nothing_is_lost(usage_events: UsageEvents) -> None:
    def work(number: int) -> None:
        for _ in range(100):
            TELEMETRY.record("list_projects", project_count=number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(usage_events) == 800
    assert sorted(event["extra"]["project_count"] for event in usage_events) == sorted(
        list(range(8)) * 100
    )
    assert len({event["eventn_ctx_event_id"] for event in usage_events}) == 800


def test_captures_can_be_nested(usage_events: UsageEvents) -> None:
    with capture() as inner:
        TELEMETRY.record("startup")
    TELEMETRY.record("startup")

    assert len(inner.events) == 1
    assert usage_events.actions == ["startup", "startup"]


def test_the_tools_own_switch_still_counts(usage_events: UsageEvents) -> None:
    for switch in (False, lambda: False):
        Telemetry("tool", "1", "cli", CATALOG, enabled=switch).record("startup")

    usage_events.assert_none()


@pytest.mark.parametrize("variables", [{}, {"DO_NOT_TRACK": "1"}, {"USAGE_TELEMETRY": "on"}])
def test_nothing_leaves_the_process_and_no_file_is_made(
    variables: dict[str, str], home: Path, endpoint: JitsuEndpoint
) -> None:
    script = """
        from usage_telemetry import Action, Catalog, Telemetry
        telemetry = Telemetry("tool", "1", "cli", Catalog([Action("startup", "Started.")]))
        from usage_telemetry.testing import capture
        with capture() as captured:
            telemetry.record("startup")
            telemetry.record_once_per_service("startup")
        assert telemetry.flush(timeout=5)
        print(*(event["action"] for event in captured.events))
    """
    done = run_python(script, clean_environment(home, **jitsu_settings(endpoint.url), **variables))

    assert (done.stdout, done.stderr) == ("startup startup\n", "")
    assert endpoint.received == 0
    assert list(home.rglob("*")) == []


# -- a tool's own test suite, in a pytest of its own ---------------------------------------------

SUITE = {
    "mytool.py": """
        from usage_telemetry import Action, Catalog, Count, Telemetry

        catalog = Catalog([Action("greet", "Somebody was greeted.", times=Count("How often."))])
        telemetry = Telemetry("mytool", "1.0", "cli", catalog)

        def greet(times):
            telemetry.record("greet", times=times)
    """,
    "test_mytool.py": """
        import mytool
        import pytest

        @pytest.mark.parametrize("times", range(10))
        def test_greeting_is_recorded(usage_events, times):
            mytool.greet(times)
            usage_events.assert_one("greet", times=times)

        def test_without_the_fixture():
            mytool.greet(1)
            mytool.telemetry.flush(timeout=5)
    """,
}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name, text in SUITE.items():
        (folder / name).write_text(textwrap.dedent(text))
    return folder


def run_suite(
    suite: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=suite,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_tools_suite_uses_the_fixture_and_sends_nothing(
    suite: Path,
    home: Path,
    environment: dict[str, str],
    endpoint: JitsuEndpoint,
    arguments: tuple[str, ...],
) -> None:
    done = run_suite(suite, environment, *arguments)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 passed" in done.stdout
    assert endpoint.received == 0
    assert not list(home.rglob("*usage-telemetry*"))


def test_a_suite_that_asks_for_it_sends(
    suite: Path, environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    done = run_suite(suite, {**environment, "USAGE_TELEMETRY": "on"}, "-k", "without")

    assert done.returncode == 0, done.stdout
    assert [event["action"] for event in endpoint.events] == ["greet"]


def test_a_suite_without_our_fixture_does_not_import_the_sdk(
    suite: Path, environment: dict[str, str]
) -> None:
    (suite / "test_mytool.py").write_text(
        "import sys\n"
        "def test_nothing():\n"
        "    assert 'usage_telemetry.testing' in sys.modules\n"
        "    assert 'opentelemetry.sdk' not in sys.modules\n"
        "    assert 'httpx' not in sys.modules\n"
    )

    done = run_suite(suite, environment)

    assert done.returncode == 0, done.stdout


def test_the_documented_example_works(tmp_path: Path, environment: dict[str, str]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    folder = tmp_path / "project"
    folder.mkdir()
    for block in blocks[:2]:
        (folder / block.split("\n")[0].removeprefix("# ")).write_text(block)
    without_pytest = "import mytool\n" + blocks[2]

    suite = run_suite(folder, environment)
    script = subprocess.run(
        [sys.executable, "-c", without_pytest], cwd=folder, env=environment, check=False
    )

    assert "2 passed" in suite.stdout, suite.stdout
    assert script.returncode == 0
