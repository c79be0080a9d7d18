"""The examples do what they say: services under a real server, queries in ClickHouse's own SQL."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from demo import free_ports
from hosts import TOOL, clean_environment, jitsu_settings, run_python, start_command
from otlp_messages import ReceivedSpan
from otlp_receivers import OtlpHttpReceiver

from usage_telemetry.listen import JitsuEndpoint

EXAMPLES = Path(__file__).parent.parent / "examples"
chdb = pytest.importorskip("chdb.session", reason="chdb has no wheel for this platform")


# -- services and tools


@contextmanager
def serving(module: str, environment: dict[str, str], log: Path) -> Iterator[str]:
    [port] = free_ports(1)
    arguments = ["--app-dir", str(EXAMPLES), "--port", str(port), f"{module}:service"]
    process = start_command([sys.executable, "-m", "uvicorn", *arguments], environment, log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while get(url + "/books") is None:
            assert time.monotonic() < deadline, log.read_text()
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def get(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@pytest.mark.parametrize("module", ["fastapi_service", "litestar_service"])
def test_a_service_reports_what_is_used(
    module: str, environment: dict[str, str], endpoint: JitsuEndpoint, tmp_path: Path
) -> None:
    with serving(module, environment, tmp_path / "log") as url:
        assert get(f"{url}/books/emma") == 200
        assert get(f"{url}/books/nothing") == 404
        events = endpoint.wait_for_events(3)

    assert [event["action"] for event in events] == ["startup", "list_books", "get_book"]
    assert {event["tool_name"] for event in events} == {"bookshelf"}


def test_the_fastapi_service_is_short() -> None:
    code = (EXAMPLES / "fastapi_service.py").read_text().split('"""', 2)[2]
    assert len(code.strip().splitlines()) < 40


def test_a_command_line_tool_reports_and_its_users_decide(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    def tool(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "command_line_tool.py"), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert int(tool("count", str(EXAMPLES / "README.md"))) > 50
    tool("count", "--lines", str(EXAMPLES / "README.md"))
    tool("telemetry", "flush")
    events = endpoint.wait_for_events(2)
    assert [event["extra"] for event in events] == [{"unit": "words"}, {"unit": "lines"}]

    tool("telemetry", "off")
    tool("count", str(EXAMPLES / "README.md"))
    tool("telemetry", "on")
    assert len(endpoint.events) == 2


# -- where events and spans are kept

THREE_USERS = TOOL + (
    """
import sys
telemetry.record("startup")
for number in range(int(sys.argv[1])):
    with telemetry.action("list_projects", project_count=number):
        pass
try:
    with telemetry.action("list_projects"):
        raise KeyError
except KeyError:
    pass
assert telemetry.flush(30.0)
"""
)


def used_by_three(tmp_path: Path, settings: dict[str, str]) -> None:
    for user, times in (("first", "3"), ("second", "1"), ("third", "0")):
        home = tmp_path / user
        home.mkdir()
        done = run_python(THREE_USERS, clean_environment(home, **settings), times)
        assert (done.stderr, done.returncode) == ("", 0)


@pytest.fixture
def clickhouse(tmp_path: Path) -> Iterator[Any]:
    session = chdb.Session(str(tmp_path / "clickhouse"))
    session.query("CREATE DATABASE usage ENGINE = Atomic")
    session.query("USE usage")
    yield session
    session.close()


def ask(clickhouse: Any, query: str) -> list[dict[str, Any]]:
    answer = str(clickhouse.query(query, "JSON"))
    rows: list[dict[str, Any]] = json.loads(answer)["data"]
    return rows


def queries(folder: str) -> list[str]:
    text = (EXAMPLES / folder / "queries.sql").read_text()
    return [query.strip() for query in text.split(";") if query.strip()]


def insert(clickhouse: Any, table: str, rows: list[dict[str, Any]], folder: Path) -> None:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    clickhouse.query(
        f"INSERT INTO {table} FROM INFILE '{path}' "
        "SETTINGS date_time_input_format = 'best_effort' FORMAT JSONEachRow"
    )


OTEL_TRACES = """
CREATE TABLE otel_traces (
    Timestamp DateTime64(9), TraceId String, SpanId String, SpanName LowCardinality(String),
    ServiceName LowCardinality(String), ScopeName String, Duration UInt64,
    ResourceAttributes Map(LowCardinality(String), String),
    SpanAttributes Map(LowCardinality(String), String), StatusCode LowCardinality(String)
) ENGINE = MergeTree ORDER BY (ServiceName, SpanName, Timestamp)
"""
"""Names and types as the collector's ClickHouse exporter makes them, without its indexes."""


def as_the_collector_writes(span: ReceivedSpan) -> dict[str, Any]:
    return {
        "Timestamp": f"{span.start_ns // 10**9}.{span.start_ns % 10**9:09}",
        "TraceId": span.trace_id,
        "SpanId": span.span_id,
        "SpanName": span.name,
        "ServiceName": span.resource["service.name"],
        "ScopeName": span.scope_name,
        "Duration": span.end_ns - span.start_ns,
        "ResourceAttributes": {key: str(value) for key, value in span.resource.items()},
        "SpanAttributes": {key: str(value) for key, value in span.attributes.items()},
        "StatusCode": span.status.capitalize(),
    }


def check_answers(active: Any, used: Any, environments: Any) -> None:
    """What three users did, as both stores have to tell it."""
    assert [(row["tool"], int(row["users"])) for row in active] == [("tool", 3)]
    assert [
        (row["action"], int(row["times"]), int(row["users"]), int(row["failed"])) for row in used
    ] == [("list_projects", 7, 3, 3), ("startup", 3, 3, 0)]
    [environment] = environments
    assert int(environment["users"]) == 3
    assert (environment["tool"], environment["version"]) == ("tool", "1.2.3")
    assert environment["os"] == "linux"
    assert environment["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_the_queries_on_spans_in_clickhouse(clickhouse: Any, tmp_path: Path) -> None:
    with OtlpHttpReceiver() as receiver:
        settings = {
            "USAGE_TELEMETRY_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        }
        used_by_three(tmp_path, settings)
        rows = [as_the_collector_writes(span) for span in receiver.wait_for(10)]
    clickhouse.query(OTEL_TRACES)
    insert(clickhouse, "otel_traces", rows, tmp_path)

    check_answers(*(ask(clickhouse, query) for query in queries("collector")))


def test_the_queries_on_events_of_a_jitsu_server(
    clickhouse: Any, tmp_path: Path, endpoint: JitsuEndpoint
) -> None:
    used_by_three(tmp_path, jitsu_settings(endpoint.url))
    table = (EXAMPLES / "jitsu-server" / "table.sql").read_text()
    clickhouse.query(table.rstrip().rstrip(";"))
    rows = [flattened(event) for event in endpoint.wait_for_events(10)]
    columns = {row["name"] for row in ask(clickhouse, "DESCRIBE TABLE usage_events")}
    assert {key for row in rows for key in row if not key.startswith("extra_")} == columns
    kept = [{key: row[key] for key in row if key in columns} for row in rows]
    insert(clickhouse, "usage_events", [*kept, kept[0]], tmp_path)  # one of them arrives twice

    check_answers(*(ask(clickhouse, query) for query in queries("jitsu-server")))


def flattened(event: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """As Jitsu does it: names of nested fields joined with an underscore."""
    flat: dict[str, Any] = {}
    for key, value in event.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}_")
        else:
            flat[prefix + key] = value
    return flat


@pytest.mark.parametrize("name", ["clickhouse", "kafka", "kafka-to-clickhouse"])
def test_a_collector_s_pipelines_name_what_is_defined(name: str) -> None:
    configuration = yaml.safe_load((EXAMPLES / "collector" / f"{name}.yaml").read_text())

    [(signal, pipeline)] = configuration["service"]["pipelines"].items()
    assert signal == "traces"
    for part in ("receivers", "processors", "exporters"):
        assert pipeline[part] == list(configuration[part])


def test_the_other_configurations_are_sound() -> None:
    compose = yaml.safe_load((EXAMPLES / "collector" / "compose.yaml").read_text())
    mounted = compose["services"]["collector"]["volumes"][0].split(":")[0]
    assert (EXAMPLES / "collector" / mounted).is_file()
    jitsu = yaml.safe_load((EXAMPLES / "jitsu-server" / "eventnative.yaml").read_text())
    [token] = jitsu["server"]["auth"]
    assert jitsu["destinations"]["usage"]["only_tokens"] == [token["id"]]
