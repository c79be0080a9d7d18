"""The anonymous id: one per user and tool, owner-only, whatever stands in its way."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

import pytest
from hosts import TOOL, start_python

from usage_telemetry.identity import read_user_id, user_id
from usage_telemetry.listen import JitsuEndpoint

RECORD = TOOL + 'telemetry.record("startup"); telemetry.flush(20.0)'


def id_file(environment: dict[str, str]) -> Path:
    return Path(environment["XDG_CONFIG_HOME"]) / "usage-telemetry" / "tool" / "user_id"


def test_twenty_processes_that_start_at_once_report_one_id(
    environment: dict[str, str], endpoint: JitsuEndpoint
) -> None:
    hosts = [start_python(RECORD, environment) for _ in range(20)]
    outputs = [host.communicate(timeout=120) for host in hosts]

    assert outputs == [("", "")] * 20
    events = endpoint.wait_for_events(20, timeout_s=60)
    assert {event["user_id"] for event in events} == {read_user_id(id_file(environment))}


def test_id_is_a_random_uuid4_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "config" / "tool" / "user_id"

    found = user_id(path)

    assert uuid.UUID(found).version == 4
    assert user_id(path) == found
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"", b"not an id", b"\xff\xfe\x00", b"x" * 10_000_000])
def test_a_damaged_file_is_replaced_by_a_new_id(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tool" / "user_id"
    path.parent.mkdir()
    path.write_bytes(content)

    found = user_id(path)

    assert uuid.UUID(found).version == 4
    assert read_user_id(path) == found


def test_an_id_of_another_version_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "tool" / "user_id"
    path.parent.mkdir()
    path.write_text(str(uuid.uuid1()))

    assert uuid.UUID(user_id(path)).version == 4


def test_a_symbolic_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "somebody-elses"
    target.write_text("untouched")
    path = tmp_path / "tool" / "user_id"
    path.parent.mkdir()
    path.symlink_to(target)

    user_id(path)

    assert target.read_text() == "untouched"
    assert not path.is_symlink()


def test_where_nothing_can_be_written_the_id_is_for_this_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder would have to be")

    first = user_id(tmp_path / "file" / "tool" / "user_id")
    second = user_id(tmp_path / "file" / "tool" / "user_id")

    assert uuid.UUID(first).version == uuid.UUID(second).version == 4
    assert first != second


def test_two_tools_of_one_user_cannot_be_joined(tmp_path: Path) -> None:
    assert user_id(tmp_path / "a" / "user_id") != user_id(tmp_path / "b" / "user_id")


def test_reading_does_not_wait_for_a_named_pipe(tmp_path: Path) -> None:
    path = tmp_path / "tool" / "user_id"
    path.parent.mkdir()
    os.mkfifo(path)

    assert read_user_id(path) is None
