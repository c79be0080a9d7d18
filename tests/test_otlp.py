"""USAGE_TELEMETRY_EXPORTER=otlp: real hosts, real receivers, and the standard variables."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hosts import TOOL, run_python
from otlp_messages import ReceivedSpan
from otlp_receivers import RECEIVERS, Fault, OtlpGrpcReceiver, OtlpHttpReceiver, OtlpReceiver
from tls_files import Tls, make_tls

from usage_telemetry.listen import JitsuEndpoint

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SEND = TOOL + 'telemetry.record("startup")\nassert telemetry.flush(30.0)\n'

both_protocols = pytest.mark.parametrize("receiver_type", RECEIVERS, ids=lambda r: r.protocol)


def otlp_settings(receiver: OtlpReceiver, **more: str) -> dict[str, str]:
    """The standard variables that lead to a receiver."""
    return {
        "USAGE_TELEMETRY_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": receiver.protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        **more,
    }


def send(environment: dict[str, str], script: str = SEND) -> None:
    host = run_python(script, environment)
    assert (host.stdout, host.stderr, host.returncode) == ("", "", 0)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module", params=RECEIVERS, ids=lambda r: r.protocol)
def arrived(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[ReceivedSpan], int]:
    """Three actions of a tool at an OTLP receiver, and what its own endpoint got meanwhile."""
    from hosts import clean_environment, jitsu_settings

    script = TOOL.replace("catalog)", 'catalog, group_id="team-7")') + (
        """
import time
telemetry.record("startup")
with telemetry.action("list_projects", project_count=3):
    time.sleep(0.25)
try:
    with telemetry.action("list_projects"):
        raise KeyError("a secret of the user")
except KeyError:
    pass
assert telemetry.flush(30.0)
"""
    )
    with request.param() as receiver, JitsuEndpoint() as own:
        environment = clean_environment(
            tmp_path_factory.mktemp("home"), **jitsu_settings(own.url), **otlp_settings(receiver)
        )
        send(environment, script)
        return receiver.wait_for(3), own.received


def test_nothing_goes_to_the_tool_s_own_endpoint(arrived: tuple[list[ReceivedSpan], int]) -> None:
    spans, received = arrived
    assert len(spans) == 3
    assert received == 0


def test_a_span_is_worth_having(arrived: tuple[list[ReceivedSpan], int]) -> None:
    started, listed, failed = arrived[0]

    assert [span.name for span in arrived[0]] == ["startup", "list_projects", "list_projects"]
    assert started.duration_s == 0
    assert 0.25 <= listed.duration_s < 30
    assert listed.attributes == {
        "usage.action": "list_projects",
        "usage.interface": "service_backend",
        "usage.extra.project_count": 3,
    }
    assert (started.status, listed.status, failed.status) == ("UNSET", "UNSET", "ERROR")
    assert failed.attributes["error.type"] == "KeyError"
    assert failed.status_message == ""
    assert failed.events == []
    assert "secret" not in repr(failed)
    for span in arrived[0]:
        assert (span.kind, span.parent_span_id, span.links) == ("INTERNAL", None, 0)
        assert (span.scope_name, span.scope_attributes) == ("usage_telemetry", {})
        assert span.scope_schema_url == span.resource_schema_url == SCHEMA_URL


def test_the_resource_says_what_is_documented_and_nothing_else(
    arrived: tuple[list[ReceivedSpan], int],
) -> None:
    for span in arrived[0]:
        resource = dict(span.resource)
        assert re.fullmatch(r"[0-9a-f-]{36}", str(resource.pop("enduser.pseudo.id")))
        assert resource.pop("os.version")
        assert re.fullmatch(r"3\.\d+\.\d+", str(resource.pop("process.runtime.version")))
        assert resource == {
            "service.name": "tool",
            "service.version": "1.2.3",
            "os.type": "linux",
            "process.runtime.name": "cpython",
            "usage.group.id": "team-7",
        }


@both_protocols
def test_jitsu_and_otlp_side_by_side(
    receiver_type: type[OtlpReceiver], environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    with receiver_type() as receiver:
        both = otlp_settings(receiver, USAGE_TELEMETRY_EXPORTER="jitsu, otlp")
        send({**environment, **both})
        [span] = receiver.wait_for(1)
        [event] = endpoint.wait_for_events(1)

    assert span.name == event["action"] == "startup"
    assert span.resource["enduser.pseudo.id"] == event["user_id"]


@both_protocols
def test_the_forms_for_traces_win(
    receiver_type: type[OtlpReceiver], environment: dict[str, str], tmp_path: Path
) -> None:
    with receiver_type() as receiver:
        settings = {
            "USAGE_TELEMETRY_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "other",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-all=1",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": receiver.protocol,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.traces_endpoint,
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "X-Team=usage,authorization=Bearer%20t",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "7",
        }
        send({**environment, **settings})
        receiver.wait_for(1)
        [headers] = receiver.headers

    assert (headers["x-team"], headers["authorization"]) == ("usage", "Bearer t")
    assert "x-all" not in headers
    assert headers.get("grpc-encoding", headers.get("content-encoding", "gzip")) == "gzip"


def test_compression_is_off_by_default_and_processes_look_the_same(
    environment: dict[str, str],
) -> None:
    with OtlpHttpReceiver() as receiver:
        for compression in ("deflate", "none"):
            more = {"OTEL_EXPORTER_OTLP_COMPRESSION": compression}
            send({**environment, **otlp_settings(receiver, **more)})
        first, second = receiver.wait_for(2)
        encodings = [headers.get("content-encoding") for headers in receiver.headers]

    assert encodings == ["deflate", None]
    assert first.resource == second.resource


@both_protocols
def test_a_client_shows_its_certificate_and_trusts_the_one_it_was_given(
    receiver_type: type[OtlpReceiver], environment: dict[str, str], tls: Tls, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    certificates = {
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(tls.ca_file),
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(tls.client_certificate_file),
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(tls.client_key_file),
        "REQUESTS_CA_BUNDLE": str(make_tls(other).ca_file),  # it does not override ours
    }
    with receiver_type(tls=tls, require_client_certificate=True) as receiver:
        send({**environment, **otlp_settings(receiver, **certificates)})
        assert receiver.wait_for(1)


@both_protocols
def test_an_untrusted_certificate_is_refused_in_silence(
    receiver_type: type[OtlpReceiver], environment: dict[str, str], tls: Tls
) -> None:
    script = (
        "import logging; logging.basicConfig(level=0)\n"
        + TOOL
        + 'telemetry.record("startup"); telemetry.flush(1.0)'
    )
    with receiver_type(tls=tls) as receiver:
        host = run_python(script, {**environment, **otlp_settings(receiver)})

    assert receiver.spans == []
    lines = [line for line in host.stderr.splitlines() if not line.startswith("DEBUG:usage")]
    assert lines == []


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.DRIP])
def test_the_timeout_is_one_of_wall_clock_time(fault: Fault, environment: dict[str, str]) -> None:
    script = TOOL + (
        """
import time
telemetry.record("startup")
end = time.monotonic() + 30
while not telemetry.stats().get("dropped:export_failed") and time.monotonic() < end:
    time.sleep(0.05)
assert time.monotonic() < end
"""
    )
    with OtlpHttpReceiver(fault=Fault.DRIP) as receiver:
        send({**environment, **otlp_settings(receiver, OTEL_EXPORTER_OTLP_TIMEOUT="1")}, script)


@pytest.mark.parametrize(
    ("receiver_type", "fault"),
    [
        (OtlpGrpcReceiver, Fault.REFUSE),
        (OtlpGrpcReceiver, Fault.HANG),
        (OtlpHttpReceiver, Fault.REFUSE),
        (OtlpHttpReceiver, Fault.DRIP),
    ],
)
def test_a_process_ends_at_once_whatever_the_endpoint_does(
    receiver_type: type[OtlpReceiver], fault: Fault, environment: dict[str, str]
) -> None:
    script = TOOL + (
        """
import time
telemetry.record("startup")
time.sleep(1.0)
telemetry.record("startup")
print(time.monotonic())
"""
    )
    with receiver_type(fault=fault) as receiver:
        settings = {**environment, **otlp_settings(receiver)}
        host = run_python(script, settings)
        ended = time.monotonic()

    assert (host.stderr, host.returncode) == ("", 0)
    # The exporters themselves would take 7 s and more; 0.2 s is ours, the rest is the machine's.
    assert ended - float(host.stdout) < 3.0

    with receiver_type() as back:
        send({**settings, **otlp_settings(back)})
        assert [span.name for span in back.wait_for(3)] == ["startup"] * 3, "from the spool"


def test_forks_amid_a_grpc_call_are_silent_and_lose_nothing(environment: dict[str, str]) -> None:
    script = TOOL + (
        """
import os, time
telemetry.record("startup")
time.sleep(1.0)
codes = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    time.sleep(0.1)
assert codes == [7] * 5, codes
"""
    )
    with OtlpGrpcReceiver(fault=Fault.HANG) as receiver:
        send({**environment, **otlp_settings(receiver)}, script)
    with OtlpGrpcReceiver() as back:
        send({**environment, **otlp_settings(back)})
        assert len(back.wait_for(2)) == 2


def test_a_fork_amid_the_first_imports_is_silent(environment: dict[str, str]) -> None:
    script = TOOL + (
        """
import os, time
telemetry.record("startup")
time.sleep(0.02)
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""
    )
    with OtlpGrpcReceiver() as receiver:
        for _ in range(3):
            send({**environment, **otlp_settings(receiver)}, script)


@both_protocols
def test_a_forked_child_exports_for_itself(
    receiver_type: type[OtlpReceiver], environment: dict[str, str]
) -> None:
    script = TOOL + (
        """
import os
telemetry.record("startup")
assert telemetry.flush(30.0)
pid = os.fork()
telemetry.record("list_projects", project_count=int(pid == 0))
assert telemetry.flush(30.0)
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
    )
    with receiver_type() as receiver:
        send({**environment, **otlp_settings(receiver)}, script)
        spans = receiver.wait_for(3)

    counts = [span.attributes.get("usage.extra.project_count") for span in spans]
    assert sorted(counts[1:], key=str) == [0, 1]


def test_empty_variables_are_as_good_as_none(environment: dict[str, str]) -> None:
    from usage_telemetry.settings import Settings

    names = ("PROTOCOL", "ENDPOINT", "TIMEOUT", "COMPRESSION", "TRACES_PROTOCOL")
    empty = {f"OTEL_EXPORTER_OTLP_{name}": "" for name in names}

    settings = Settings.from_environment({"USAGE_TELEMETRY_EXPORTER": "otlp", **empty})

    assert settings.error is None
    otlp = settings.otlp["otlp"]
    assert (otlp.protocol, otlp.endpoint) == ("grpc", "http://localhost:4317")
    assert (otlp.timeout_s, otlp.compression) == (10.0, "none")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "deflate"),
    ],
)
def test_a_value_of_no_use_is_told_by_the_command_line_and_silent_in_a_host(
    variable: str, value: str, environment: dict[str, str]
) -> None:
    settings = {**environment, "USAGE_TELEMETRY_EXPORTER": "otlp", variable: value}

    status = run_python("from usage_telemetry.cli import main; main(['status'])", settings)
    send(settings, TOOL + 'telemetry.record("startup"); telemetry.flush(60.0)')

    assert status.returncode == 2
    assert variable in status.stderr
    assert value in status.stderr


def test_the_command_line_shows_where_spans_go(environment: dict[str, str]) -> None:
    settings = {
        "USAGE_TELEMETRY_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://name:secret@collector.example:4317",
    }
    status = run_python(
        "from usage_telemetry.cli import main; main(['status'])", {**environment, **settings}
    )

    assert status.returncode == 0, status.stderr
    assert "https://collector.example:4317 (grpc)" in status.stdout
    assert "secret" not in status.stdout


def test_a_host_is_not_told_of_headers_that_cannot_be_read(environment: dict[str, str]) -> None:
    script = "import logging; logging.basicConfig(level=logging.INFO)\n" + SEND
    with OtlpHttpReceiver() as receiver:
        more = {"OTEL_EXPORTER_OTLP_HEADERS": "a token without a name"}
        send({**environment, **otlp_settings(receiver, **more)}, script)
        assert receiver.wait_for(1)
