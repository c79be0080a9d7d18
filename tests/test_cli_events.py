"""`preview`, `log`, `flush`, `purge` and `reset-id`: what is sent can be seen, and deleted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from hosts import TOOL, clean_environment, jitsu_settings
from shell import everything_below, record, terminal, usage_telemetry

from usage_telemetry.listen import JitsuEndpoint

NOWHERE = "http://127.0.0.1:9/api/v1/s2s/event"
"""The discard port: nobody listens on it."""


@pytest.fixture
def own_tool(tmp_path: Path) -> Path:
    """A folder with a module `mytool`, a tool as its author would write it."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "mytool.py").write_text(TOOL)
    return folder


# -- preview -------------------------------------------------------------------------------------


def test_preview_shows_the_bytes_that_are_then_sent(
    home: Path, environment: dict[str, str], endpoint: JitsuEndpoint, own_tool: Path
) -> None:
    shown = usage_telemetry(
        environment, "preview", "list_projects", "--catalog", "mytool:telemetry", folder=own_tool
    )

    assert shown.returncode == 0
    assert endpoint.received == 0
    assert list(home.rglob("*")) == []
    assert "stands for the user id" in shown.stderr
    request = urllib.request.Request(
        endpoint.url,
        shown.stdout.encode(),
        {"Content-Type": "application/json", "X-Auth-Token": "write-key"},
    )
    urllib.request.urlopen(request, timeout=5).close()
    record(environment, 4)
    previewed, *_, real = endpoint.events
    changing = ("_timestamp", "eventn_ctx_event_id", "user_id", "api_key", "source_ip")
    for event in (previewed, real):
        for field in changing:
            event.pop(field, None)
    assert previewed == real
    assert list(previewed) == list(real)


def test_preview_of_all_actions_is_the_body_of_one_request(
    environment: dict[str, str], own_tool: Path
) -> None:
    shown = usage_telemetry(environment, "preview", "--catalog", "mytool:catalog", folder=own_tool)

    events = json.loads(shown.stdout)
    assert [event["action"] for event in events] == ["startup", "list_projects"]
    assert not shown.stdout.endswith("\n")


def test_preview_uses_the_id_that_is_there(
    home: Path, environment: dict[str, str], own_tool: Path
) -> None:
    record(environment, 1)
    before = everything_below(home)

    shown = usage_telemetry(
        environment, "preview", "startup", "--catalog", "mytool:telemetry", folder=own_tool
    )

    user_id = (home / "config" / "usage-telemetry" / "tool" / "user_id").read_text().strip()
    assert json.loads(shown.stdout)["user_id"] == user_id
    assert shown.stderr == ""
    assert everything_below(home) == before


def test_preview_without_the_address(environment: dict[str, str], own_tool: Path) -> None:
    arguments = ("preview", "startup", "--catalog", "mytool:catalog")
    plain = usage_telemetry(environment, *arguments, folder=own_tool)
    option = usage_telemetry(environment, *arguments, "--no-ip", folder=own_tool)
    variable = usage_telemetry(
        {**environment, "OTEL_EXPORTER_JITSU_NO_IP": "on"}, *arguments, folder=own_tool
    )

    assert "source_ip" not in json.loads(plain.stdout)
    assert json.loads(option.stdout)["source_ip"] is None
    assert json.loads(variable.stdout)["source_ip"] is None


def test_the_variable_keeps_the_address_out_of_what_is_sent(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    record({**environment, "OTEL_EXPORTER_JITSU_NO_IP": "on"}, 1)
    record(environment, 1)

    without, masked = endpoint.events
    assert without["source_ip"] is None
    assert masked["source_ip"] is not None


def test_preview_is_pretty_on_a_terminal_and_exact_on_request(
    environment: dict[str, str], own_tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_tool)
    arguments = ("preview", "startup", "--catalog", "mytool:catalog")
    code, pretty = terminal({**environment, "TERM": "xterm", "NO_COLOR": "1"}, *arguments)
    raw_code, raw = terminal(environment, *arguments, "--raw")

    assert code == raw_code == 0
    assert "startup: The service started. (" in pretty
    assert '  "action": "startup",' in pretty
    assert '"action":"startup"' in raw


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("preview", "nonsense", "--tool", "evidently"), "no action 'nonsense'"),
        (("preview", "--tool", "unheard-of"), "no catalog of 'unheard-of'"),
        (("preview", "--catalog", "no_such_module:catalog"), "ModuleNotFoundError"),
        (("preview", "--catalog", "json"), "is not module:name"),
        (("catalog", "--catalog", "json:__name__"), "is a str, not a Catalog"),
        (("status", "--tool", "unheard-of"), "no tool 'unheard-of'"),
    ],
)
def test_what_is_unknown_is_said(
    environment: dict[str, str], arguments: tuple[str, ...], said: str
) -> None:
    shown = usage_telemetry(environment, *arguments)

    assert shown.returncode == 2
    assert said in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_tool_declares_its_catalog_by_an_entry_point(
    environment: dict[str, str], own_tool: Path
) -> None:
    information = own_tool / "mytool-1.2.3.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mytool\nVersion: 1.2.3\n")
    (information / "entry_points.txt").write_text(
        "[usage_telemetry_catalog]\nmytool = mytool:catalog\n"
    )
    installed = {**environment, "PYTHONPATH": str(own_tool)}

    shown = usage_telemetry(installed, "preview", "startup", "--tool", "mytool")
    both = usage_telemetry(installed, "preview", "startup")

    event = json.loads(shown.stdout)
    assert (event["tool_name"], event["tool_version"]) == ("mytool", "1.2.3")
    assert both.returncode == 2
    assert "--tool evidently or --tool mytool" in both.stderr


# -- log -----------------------------------------------------------------------------------------


def test_log_tells_what_was_sent_when_and_where(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    record(environment, 2)

    lines = usage_telemetry(environment, "log").stdout.splitlines()
    entries = [
        json.loads(x) for x in usage_telemetry(environment, "log", "--json").stdout.split("\n") if x
    ]

    address = endpoint.url.removesuffix("/api/v1/s2s/event")
    assert len(lines) == 2
    assert re.match(
        rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ  tool  list_projects +{address}  {{", lines[0]
    )
    assert [entry["destination"] for entry in entries] == [address] * 2
    arrived = {event["eventn_ctx_event_id"]: event for event in endpoint.events}
    for entry in entries:
        event = entry["event"]
        assert event.items() <= arrived[event["eventn_ctx_event_id"]].items()


def test_log_of_nothing_is_no_error(environment: dict[str, str]) -> None:
    shown = usage_telemetry(environment, "log")

    assert (shown.returncode, shown.stdout) == (0, "")
    assert "Nothing was sent" in shown.stderr


def test_log_follows_until_ctrl_c(environment: dict[str, str]) -> None:
    record(environment, 1)
    command = [sys.executable, "-m", "usage_telemetry", "log", "--follow", "--json"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout
        assert json.loads(following.stdout.readline())["event"]["extra"] == {"project_count": 0}
        record(environment, 2)
        new = [json.loads(following.stdout.readline())["event"]["extra"] for _ in range(2)]
        following.send_signal(signal.SIGINT)
        rest, errors = following.communicate(timeout=10)

    assert new == [{"project_count": 0}, {"project_count": 1}]
    assert (following.returncode, rest, errors) == (0, "", "")


def test_a_reader_that_leaves_is_no_error(environment: dict[str, str]) -> None:
    record(environment, 3)
    command = f"{sys.executable} -m usage_telemetry log | head -1"
    shown = subprocess.run(
        command,
        shell=True,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert len(shown.stdout.splitlines()) == 1
    assert "Traceback" not in shown.stderr


# -- flush ---------------------------------------------------------------------------------------


def test_flush_delivers_what_waits_to_where_it_was_meant_to_go(
    home: Path, endpoint: JitsuEndpoint
) -> None:
    port = endpoint.url.split(":")[2].split("/")[0]
    endpoint.close()
    settings = jitsu_settings(endpoint.url)
    record(clean_environment(home, **settings), 3)

    with JitsuEndpoint(port=int(port)) as again:
        # No endpoint in its environment: the outbox knows.
        shown = usage_telemetry(clean_environment(home), "flush")

        assert "tool: delivering 3 events" in shown.stderr
        assert (shown.returncode, shown.stdout) == (0, "tool: 3 sent, 0 waiting\n")
        assert len(again.events) == 3
    assert usage_telemetry(clean_environment(home), "flush", "--json").stdout.strip() == json.dumps(
        {
            "enabled": True,
            "tools": [{"tool": "tool", "waiting": 0, "problem": None}],
            "waiting": 0,
        }
    )


def test_flush_of_what_cannot_be_delivered_says_so_and_keeps_it(home: Path) -> None:
    environment = clean_environment(home, **jitsu_settings(NOWHERE))
    record(environment, 2)

    shown = usage_telemetry(environment, "flush")

    assert shown.returncode == 1
    assert "tool: 0 sent, 2 waiting (" in shown.stdout
    assert (
        json.loads(usage_telemetry(environment, "status", "--json").stdout)["tools"][0]["waiting"][
            "total"
        ]
        == 2
    )


def test_flush_takes_what_an_ended_process_left_in_the_spool(
    home: Path, environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    from usage_telemetry import spool
    from usage_telemetry.environment import resource_attributes
    from usage_telemetry.record import Record, with_ids

    record(environment, 1)
    folder = home / "state" / "usage-telemetry" / "tool" / "spool" / "jitsu"
    resource = resource_attributes(tool="tool", version="1.2.3", user_id="an id")
    now_ns = time.time_ns()
    left = Record("startup", "service_backend", {}, None, now_ns, now_ns)
    spool.write(folder, resource, with_ids([left]))

    told = json.loads(usage_telemetry(environment, "status", "--json").stdout)
    assert told["tools"][0]["waiting"]["spool"] == 1
    assert usage_telemetry(clean_environment(home), "flush").returncode == 0
    assert endpoint.events[-1]["action"] == "startup"


def test_flush_takes_what_a_process_left_beside_a_locked_outbox(
    home: Path, environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    import sqlite3

    record(environment, 1)
    path = home / "state" / "usage-telemetry" / "tool" / "outbox.db"
    locked = sqlite3.connect(path, isolation_level=None)
    locked.execute("BEGIN EXCLUSIVE")
    record({**environment, **jitsu_settings(NOWHERE)}, 2)
    locked.close()

    told = json.loads(usage_telemetry(environment, "status", "--json").stdout)
    assert told["tools"][0]["waiting"]["total"] == 2
    unreachable = {**environment, **jitsu_settings(NOWHERE)}
    assert usage_telemetry(unreachable, "flush").returncode == 1  # nobody listens there
    assert usage_telemetry(environment, "off").stdout.count("2 waiting events thrown away") == 1
    assert len(endpoint.events) == 1


def test_flush_in_continuous_integration_sends_nothing_and_keeps_what_waits(
    home: Path, endpoint: JitsuEndpoint
) -> None:
    record(clean_environment(home, **jitsu_settings(NOWHERE)), 2)

    shown = usage_telemetry(clean_environment(home, CI="true"), "flush", "--json")

    assert shown.returncode == 1
    assert json.loads(shown.stdout)["waiting"] == 2


def test_flush_shows_progress_on_a_terminal(environment: dict[str, str]) -> None:
    record({**environment, **jitsu_settings(NOWHERE)}, 2)

    code, shown = terminal({**environment, "TERM": "xterm"}, "flush")

    assert code == 1
    assert "tool: delivering" in shown


# -- purge and reset-id --------------------------------------------------------------------------


def test_purge_asks_and_then_leaves_nothing(home: Path, environment: dict[str, str]) -> None:
    record(environment, 2)
    record({**environment, **jitsu_settings(NOWHERE)}, 2)

    declined = usage_telemetry(environment, "purge", typed="n\n")
    assert declined.returncode == 1
    assert "Nothing was deleted." in declined.stdout
    accepted = usage_telemetry(environment, "purge", typed="y\n")

    assert accepted.returncode == 0
    assert everything_below(home) == {}
    assert not list((home / "state" / "usage-telemetry").iterdir())
    assert usage_telemetry(environment, "purge", "--yes").returncode == 1


def test_purge_without_anybody_to_ask_deletes_nothing(
    home: Path, environment: dict[str, str]
) -> None:
    record(environment, 1)
    before = everything_below(home)

    assert usage_telemetry(environment, "purge").returncode == 1
    assert everything_below(home) == before


def test_purge_leaves_alone_what_is_not_ours(home: Path, environment: dict[str, str]) -> None:
    state = home / "things"
    elsewhere = home / "elsewhere"
    environment = {**environment, "USAGE_TELEMETRY_HOME": str(state)}
    record(environment, 1)
    (state / "tool" / "thesis.txt").write_text("mine")
    (state / "photos").mkdir()
    (state / "photos" / "cat.png").write_text("mine")
    elsewhere.mkdir()
    (elsewhere / "outbox.db").write_text("mine")
    (state / "linked").symlink_to(elsewhere)

    assert usage_telemetry(environment, "purge", "--yes").returncode == 0

    assert (elsewhere / "outbox.db").read_text() == "mine"
    assert everything_below(state / "photos") == {"cat.png": b"mine"}
    assert everything_below(state / "tool") == {"thesis.txt": b"mine"}


def test_purge_does_not_switch_telemetry_on(home: Path, environment: dict[str, str]) -> None:
    record(environment, 1)
    usage_telemetry(environment, "off")

    usage_telemetry(environment, "purge", "--yes")

    assert usage_telemetry(environment, "status", "--check").returncode == 1


def test_reset_id_makes_two_strangers_of_one_user(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    record(environment, 1)
    assert usage_telemetry(environment, "reset-id").returncode == 0
    record(environment, 1)
    assert json.loads(usage_telemetry(environment, "reset-id", "--json").stdout) == {
        "reset": ["tool"]
    }
    assert usage_telemetry(environment, "reset-id").returncode == 1

    first, second = endpoint.events
    assert first["user_id"] != second["user_id"]


# -- other commands ------------------------------------------------------------------------------


def test_listen_shows_what_arrives_and_ends_by_ctrl_c(home: Path, tmp_path: Path) -> None:
    lines = tmp_path / "events.jsonl"
    command = [sys.executable, "-m", "usage_telemetry", "listen", "--port", "0", "--output", lines]
    with subprocess.Popen(
        command,
        env=clean_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as listening:
        assert listening.stderr
        assert listening.stdout
        ready = listening.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/\S+", ready)
        assert url, ready
        record(clean_environment(home, **jitsu_settings(url[0])), 1)
        shown = listening.stdout.readline()
        listening.send_signal(signal.SIGINT)
        listening.communicate(timeout=10)

    assert listening.returncode == 0
    assert "list_projects" in shown
    assert json.loads(lines.read_text())["action"] == "list_projects"


def test_listen_on_an_address_that_others_reach_is_refused(home: Path) -> None:
    shown = usage_telemetry(clean_environment(home), "listen", "--host", "0.0.0.0")

    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr


def test_run_hands_over_to_the_program(home: Path) -> None:
    environment = clean_environment(home, DO_NOT_TRACK="1")

    done = usage_telemetry(environment, "run", "--", "python", "-c", "print(6 * 7); exit(5)")
    unknown = usage_telemetry(environment, "run", "--", "no-such-command-anywhere")

    assert (done.returncode, done.stdout) == (5, "42\n")
    assert unknown.returncode == 2
    assert "no-such-command-anywhere" in unknown.stderr
    assert "Traceback" not in unknown.stderr


def test_owner_only_files_in_owner_only_folders(home: Path, environment: dict[str, str]) -> None:
    record({**environment, **jitsu_settings(NOWHERE)}, 1)
    usage_telemetry(environment, "off")

    for path in home.rglob("*"):
        if "usage-telemetry" in str(path) and os.name == "posix":
            assert path.stat().st_mode & 0o077 == 0, path
