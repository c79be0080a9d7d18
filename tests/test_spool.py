"""The spool: what an ended process leaves, whole, once, within bounds."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage_telemetry import spool
from usage_telemetry.record import Ids, Record, from_json, to_json, with_ids

values = (
    st.integers(min_value=0, max_value=2**63 - 1)
    | st.booleans()
    | st.text(max_size=10)
    | st.lists(st.text(max_size=10), max_size=3).map(tuple)
)
records = st.builds(
    Record,
    action=st.text(max_size=10),
    interface=st.text(max_size=10),
    extras=st.dictionaries(st.text(max_size=10), values, max_size=3),
    error=st.none() | st.text(max_size=10),
    start_ns=st.integers(min_value=0, max_value=2**62),
    end_ns=st.integers(min_value=0, max_value=2**62),
)


def some(count: int) -> list[tuple[Record, Ids]]:
    return with_ids([Record("a", "cli", {"n": n}, None, n, n) for n in range(count)])


@given(records)
def test_a_record_survives_its_line(record: Record) -> None:
    [(_, ids)] = with_ids([record])
    assert from_json(to_json(record, ids)) == (record, ids)


def test_what_is_written_is_replayed_once_with_its_ids(tmp_path: Path) -> None:
    left = some(3)
    spool.write(tmp_path / "spool", {"service.name": "x"}, left)
    assert spool.waiting(tmp_path / "spool") == 3
    assert list(spool.replay(tmp_path / "spool")) == [({"service.name": "x"}, left)]
    assert list(spool.replay(tmp_path / "spool")) == []


def test_many_records_are_several_files(tmp_path: Path) -> None:
    assert len(spool.write(tmp_path, {}, some(2500))) == 3
    assert sum(len(found) for _, found in spool.replay(tmp_path)) == 2500


def test_a_reader_that_stops_leaves_the_file(tmp_path: Path) -> None:
    spool.write(tmp_path, {}, some(1))
    for _ in range(5):
        files = spool.replay(tmp_path)
        next(files)
        files.close()
    assert spool.waiting(tmp_path) == 1


def test_a_file_that_is_refused_has_three_tries(tmp_path: Path) -> None:
    spool.write(tmp_path, {}, some(1))
    for left in (1, 1, 0):
        files = spool.replay(tmp_path)
        next(files)
        with suppress(StopIteration):
            files.throw(spool.Refused())
        assert spool.waiting(tmp_path) == left


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"a":1}\n' + b"[" * 100_000,
        b"null\n[]",
        b'{}\n["a","b",{},null,Infinity,1,1,1]',
    ],
)
def test_a_file_that_is_not_ours_costs_nothing_but_itself(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"{time.time_ns():020d}-00000000.jsonl").write_bytes(content)
    good = some(2)
    spool.write(tmp_path, {}, good)
    found = [one for _, records in spool.replay(tmp_path) for one in records]
    assert found == good
    assert list(tmp_path.glob("*.jsonl")) == []


def test_one_bad_line_costs_one_record(tmp_path: Path) -> None:
    (path,) = spool.write(tmp_path, {}, some(3))
    lines = path.read_text().split("\n")
    path.write_text("\n".join([lines[0], lines[1], lines[2][:10], lines[3]]))
    ((_, found),) = spool.replay(tmp_path)
    assert [record.extras["n"] for record, _ in found] == [0, 2]


def test_age_and_number_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = spool.write(tmp_path, {}, some(1))
    os.utime(path, (0, time.time() - spool.MAX_AGE_S - 60))
    assert list(spool.replay(tmp_path)) == []
    monkeypatch.setattr(spool, "MAX_FILES", 3)
    for number in range(5):
        spool.write(tmp_path, {"n": str(number)}, some(1))
    assert [resource["n"] for resource, _ in spool.replay(tmp_path)] == ["2", "3", "4"]


def test_two_readers_do_not_share_a_file(tmp_path: Path) -> None:
    spool.write(tmp_path, {}, some(1))
    first = spool.replay(tmp_path)
    assert next(first)
    assert list(spool.replay(tmp_path)) == []
    assert list(first) == []


def test_the_header_is_plain_json(tmp_path: Path) -> None:
    (path,) = spool.write(tmp_path, {"service.name": "x"}, some(1))
    assert json.loads(path.read_text().split("\n")[0]) == {"service.name": "x"}
