"""`status`, `on` and `off`: who decides, shown as it is, and changed at once."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

import pytest
from hosts import clean_environment, jitsu_settings
from shell import everything_below, record, terminal, usage_telemetry

from usage_telemetry.listen import JitsuEndpoint


@pytest.fixture
def closed_endpoint() -> str:
    """Nobody listens there."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}/api/v1/s2s/event"


@pytest.fixture
def offline(home: Path, closed_endpoint: str) -> dict[str, str]:
    """A new user's environment, in which nothing can be delivered."""
    return clean_environment(home, **jitsu_settings(closed_endpoint))


def test_a_new_user_sees_that_telemetry_is_on_and_leaves_no_trace(home: Path) -> None:
    shown = usage_telemetry(clean_environment(home), "status")

    assert shown.returncode == 0
    assert shown.stdout.startswith("Usage telemetry is on.\nDecided by: default")
    assert "No tool has kept anything here yet." in shown.stdout
    assert list(home.rglob("*")) == []


@pytest.mark.parametrize(
    ("variables", "link"),
    [
        ({"DO_NOT_TRACK": ""}, "DO_NOT_TRACK"),
        ({"DO_NOT_TRACK": "0", "USAGE_TELEMETRY": "on"}, "DO_NOT_TRACK"),
        ({"OTEL_SDK_DISABLED": "true"}, "OTEL_SDK_DISABLED"),
        ({"USAGE_TELEMETRY": "off"}, "USAGE_TELEMETRY"),
        ({"CI": "true"}, "continuous integration"),
        ({"PYTEST_VERSION": "8.0"}, "test runner"),
    ],
    ids=lambda value: str(value),
)
def test_the_link_that_decided_is_named(home: Path, variables: dict[str, str], link: str) -> None:
    environment = clean_environment(home, **variables)

    told = json.loads(usage_telemetry(environment, "status", "--json").stdout)

    assert told["enabled"] is False
    assert told["decided_by"] == link
    assert [entry["name"] for entry in told["chain"] if entry["decides"]] == [link]
    assert len(told["chain"]) == 9


def test_check_answers_by_its_exit_code_alone(home: Path) -> None:
    environment = clean_environment(home)
    on = usage_telemetry(environment, "status", "--check")
    off = usage_telemetry({**environment, "DO_NOT_TRACK": "1"}, "status", "--check")

    assert (on.returncode, on.stdout, on.stderr) == (0, "", "")
    assert (off.returncode, off.stdout, off.stderr) == (1, "", "")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("USAGE_TELEMETRY", "perhaps"),
        ("OTEL_EXPORTER_JITSU_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_JITSU_NO_IP", "maybe"),
        ("OTEL_EXPORTER_JITSU_ENDPOINT", "ftp://example.org"),
        ("USAGE_TELEMETRY_EXPORTER", "pigeon"),
        ("USAGE_TELEMETRY_DEBUG", "loud"),
    ],
)
@pytest.mark.parametrize("command", ["status", "flush", "preview"])
def test_a_setting_of_no_use_is_an_error_that_names_variable_and_value(
    home: Path, command: str, variable: str, value: str
) -> None:
    shown = usage_telemetry(clean_environment(home, **{variable: value}), command)

    assert shown.returncode == 2
    assert variable in shown.stderr
    assert value in shown.stderr
    assert "Traceback" not in shown.stderr


def test_status_tells_what_waits_for_whom_and_changes_nothing(
    home: Path, offline: dict[str, str]
) -> None:
    record(offline, 3)
    before = everything_below(home)

    told = json.loads(usage_telemetry(offline, "status", "--json").stdout)
    text = usage_telemetry(offline, "status").stdout

    [tool] = told["tools"]
    assert tool["tool"] == "tool"
    assert tool["waiting"]["total"] == 3
    [destination] = tool["destinations"]
    assert destination["address"].startswith("http://127.0.0.1:")
    assert destination["encrypted"] is True  # it does not leave the machine
    user_id = (home / "config" / "usage-telemetry" / "tool" / "user_id").read_text().strip()
    assert tool["user_id"] == user_id
    assert user_id in text
    assert str(home / "state" / "usage-telemetry" / "tool" / "outbox.db") in text
    assert everything_below(home) == before


def test_the_token_is_never_shown(home: Path, closed_endpoint: str) -> None:
    secret = "s2s.secret.of-the-tool"
    endpoint = closed_endpoint.replace("http://", "http://user:pass-word@") + "?token=" + secret
    environment = clean_environment(
        home, OTEL_EXPORTER_JITSU_ENDPOINT=endpoint, OTEL_EXPORTER_JITSU_TOKEN=secret
    )
    record(environment, 1)

    for command in ("status", "status --json", "flush", "log --json", "preview", "off"):
        shown = usage_telemetry(environment, *command.split())
        assert secret not in shown.stdout + shown.stderr
        assert "pass-word" not in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    ("endpoint", "marked"),
    [
        ("http://collector.example.org/api/v1/s2s/event", True),
        ("http://192.0.2.1:8000/api/v1/s2s/event", True),
        ("http://127.0.0.1.example.org/api", True),
        ("https://collector.example.org/api/v1/s2s/event", False),
        ("http://localhost:8001/api/v1/s2s/event", False),
        ("http://[::1]:8001/api/v1/s2s/event", False),
    ],
)
def test_plain_http_to_elsewhere_is_named_unencrypted(
    home: Path, endpoint: str, marked: bool
) -> None:
    environment = clean_environment(home, OTEL_EXPORTER_JITSU_ENDPOINT=endpoint)

    shown = usage_telemetry(environment, "status").stdout

    assert ("(unencrypted)" in shown) is marked


def test_off_takes_effect_at_once_deletes_what_waits_and_sends_nothing(
    home: Path, offline: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    record(offline, 3)
    online = {**offline, **jitsu_settings(endpoint.url)}

    switched = usage_telemetry(online, "off")

    assert switched.returncode == 0
    assert "3 waiting events thrown away; nothing was sent." in switched.stdout
    switch = home / "config" / "usage-telemetry" / "off"
    assert stat.S_IMODE(switch.stat().st_mode) == 0o600
    record(online, 2)
    assert usage_telemetry(online, "flush").returncode == 1
    assert endpoint.received == 0
    assert usage_telemetry(online, "status", "--check").returncode == 1


def test_on_takes_off_back(home: Path, environment: dict[str, str]) -> None:
    usage_telemetry(environment, "off")

    switched = usage_telemetry(environment, "on")

    assert (switched.returncode, switched.stdout) == (0, "Usage telemetry is on.\n")
    assert usage_telemetry(environment, "status", "--check").returncode == 0


def test_on_says_what_stands_above_it(home: Path) -> None:
    environment = clean_environment(home, DO_NOT_TRACK="")
    usage_telemetry(environment, "off")

    switched = usage_telemetry(environment, "on")

    assert switched.returncode == 1
    assert "still off: DO_NOT_TRACK" in switched.stdout
    assert not (home / "config" / "usage-telemetry" / "off").exists()


def test_off_says_what_stands_above_it(home: Path) -> None:
    switched = usage_telemetry(clean_environment(home, USAGE_TELEMETRY="on"), "off")

    assert switched.returncode == 1
    assert "still on: USAGE_TELEMETRY" in switched.stdout


def test_off_keeps_the_log_of_what_was_sent(environment: dict[str, str]) -> None:
    record(environment, 2)
    usage_telemetry(environment, "off")

    sent = usage_telemetry(environment, "log", "--json").stdout.splitlines()

    assert len(sent) == 2


def test_a_link_in_the_place_of_the_switch_is_not_written_through(home: Path) -> None:
    environment = clean_environment(home)
    victim = home / "victim"
    victim.write_text("mine")
    folder = home / "config" / "usage-telemetry"
    folder.mkdir(parents=True)
    (folder / "off").symlink_to(victim)

    usage_telemetry(environment, "off")

    assert victim.read_text() == "mine"
    assert not (folder / "off").is_symlink()


def test_events_of_earlier_runs_are_never_sent_after_opting_out_and_status_says_so(
    offline: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    record(offline, 3)
    opted_out = {**offline, **jitsu_settings(endpoint.url), "DO_NOT_TRACK": ""}

    assert "3 events from earlier runs: never sent" in usage_telemetry(opted_out, "status").stdout
    told = json.loads(usage_telemetry(opted_out, "status", "--json").stdout)
    assert told["waiting_is_sent"] is False
    assert usage_telemetry(opted_out, "flush").returncode == 1
    del opted_out["DO_NOT_TRACK"]
    record(opted_out, 1)
    assert len(endpoint.events) == 1


def test_a_damaged_or_linked_outbox_is_told_and_left_alone(
    home: Path, environment: dict[str, str]
) -> None:
    folder = home / "state" / "usage-telemetry" / "tool"
    folder.mkdir(parents=True)
    elsewhere = home / "elsewhere.db"
    elsewhere.write_bytes(b"no database at all" * 100)
    (folder / "outbox.db").symlink_to(elsewhere)

    linked = json.loads(usage_telemetry(environment, "status", "--json").stdout)
    (folder / "outbox.db").unlink()
    elsewhere.rename(folder / "outbox.db")
    damaged = usage_telemetry(environment, "status")

    assert "not a regular file" in linked["tools"][0]["problem"]
    assert damaged.returncode == 0
    assert "cannot be read" in damaged.stdout


def test_on_a_terminal_it_says_the_same(home: Path, environment: dict[str, str]) -> None:
    code, shown = terminal({**environment, "TERM": "xterm"}, "status")

    assert code == 0
    assert "Usage telemetry is on." in shown
    assert "\x1b[1m" in shown


def test_a_folder_that_holds_other_things_is_no_tool(home: Path) -> None:
    (home / "Documents").mkdir()
    environment = clean_environment(home, USAGE_TELEMETRY_HOME=str(home))

    told = json.loads(usage_telemetry(environment, "status", "--json").stdout)

    assert told["tools"] == []


@pytest.mark.parametrize(
    "command",
    [
        "",
        "status",
        "on",
        "off",
        "preview",
        "log",
        "flush",
        "purge",
        "reset-id",
        "catalog",
        "listen",
        "run",
    ],
)
def test_help_has_an_example_and_the_exit_codes(home: Path, command: str) -> None:
    shown = usage_telemetry(clean_environment(home), *command.split(), "--help")

    assert shown.returncode == 0
    assert "Example" in shown.stdout
    assert "xit code" in " ".join(shown.stdout.split())


def test_help_and_status_import_neither_the_sdk_nor_httpx_nor_rich(home: Path) -> None:
    from hosts import run_python

    script = """
        import sys
        from usage_telemetry.cli import main
        main(["status"], standalone_mode=False)
        heavy = ("opentelemetry.sdk", "httpx", "rich", "pytest", "http.server")
        print(*(name for name in sys.modules if name in heavy), file=sys.stderr)
    """
    done = run_python(script, clean_environment(home))

    assert done.returncode == 0
    assert done.stderr.strip() == ""
