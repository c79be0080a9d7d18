"""The outbox: caps, several processes, and disks that refuse."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.jitsu import database, rows
from opentelemetry.exporter.jitsu.batch import Batch, halves, ids_of
from opentelemetry.exporter.jitsu.inspection import sent_events
from opentelemetry.exporter.jitsu.lock import LockBusy, exclusive
from opentelemetry.exporter.jitsu.outbox import (
    Delivery,
    Destination,
    Event,
    Outbox,
    OutboxUnusable,
    Rest,
)

HERE = Destination("http://127.0.0.1:1/x", "t")
NOW = 1_700_000_000.0


def events(*ids: str, size: int = 20) -> list[Event]:
    """Events as the exporter makes them, one a millisecond."""
    return [
        Event(one, f"2026-01-01T00:00:{number / 1000:09.6f}Z", body_of(one, size))
        for number, one in enumerate(ids)
    ]


def body_of(event_id: str, size: int) -> bytes:
    return json.dumps({"eventn_ctx_event_id": event_id, "x": "y" * size}).encode()


def take(delivery: Delivery, most: int = 100, max_bytes: int = 10**6) -> list[Batch]:
    return delivery.take(most, max_bytes, NOW)[1]


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "state" / "tool" / "outbox.db")


def on_disk(outbox: Outbox, most: int = 100) -> list[str]:
    with outbox.delivering_from_disk(HERE) as delivery:
        return ids_of(take(delivery, most))


def counters(outbox: Outbox) -> dict[str, int]:
    assert outbox.path is not None
    with closing(sqlite3.connect(outbox.path)) as db:
        return dict(db.execute("SELECT name, value FROM counter"))


def test_events_come_out_in_the_order_they_went_in_and_stay_until_settled(outbox: Outbox) -> None:
    outbox.append(HERE, events("b", "a"), NOW)
    outbox.append(HERE, events("c"), NOW)
    assert on_disk(outbox) == on_disk(outbox) == ["b", "a", "c"]
    with outbox.delivering_from_disk(HERE) as delivery:
        delivery.settle(take(delivery, 2), {}, NOW)
    assert on_disk(outbox) == ["c"]
    assert outbox.waiting() == outbox.waiting(HERE) == 1


def test_a_batch_obeys_both_limits_but_is_never_empty(outbox: Outbox) -> None:
    for number, one in enumerate("abc"):
        outbox.append(HERE, events(one, size=100), NOW + number)
    with outbox.delivering_from_disk(HERE) as delivery:
        assert ids_of(take(delivery, 2)) == ["a", "b"]
        assert ids_of(take(delivery, 10, 300)) == ["a", "b"]
        assert ids_of(take(delivery, 10, 1)) == ["a"]


def test_destinations_do_not_mix(outbox: Outbox) -> None:
    outbox.append(Destination("http://other/", "t"), events("other"), NOW)
    outbox.append(HERE, events("mine"), NOW)
    assert on_disk(outbox) == ["mine"]


def test_files_are_for_their_owner_alone(outbox: Outbox) -> None:
    outbox.append(HERE, events("a"), NOW)
    on_disk(outbox)
    assert outbox.path is not None
    for path in outbox.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(outbox.path.parent.stat().st_mode) == 0o700


def test_an_event_that_waits_or_was_sent_is_not_taken_again(outbox: Outbox) -> None:
    outbox.append(HERE, events("a"), NOW)
    outbox.append(HERE, events("a", "b"), NOW)
    assert on_disk(outbox) == ["a", "b"]
    with outbox.delivering_from_disk(HERE) as delivery:
        delivery.settle(take(delivery, 1), {}, NOW)
    outbox.append(HERE, events("a"), NOW)
    assert on_disk(outbox) == ["b"]


def test_past_a_cap_the_oldest_go_and_are_counted(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_EVENTS", 3)
    outbox.append(HERE, events("old"), NOW)
    evicted = outbox.append(HERE, events("a", "b", "c", "d"), NOW + rows.MAX_AGE_S + 1)
    assert evicted == 2
    assert on_disk(outbox) == ["b", "c", "d"]
    monkeypatch.setattr(rows, "MAX_BYTES", 40_000)
    outbox.append(HERE, events("e", "f", size=15_000), NOW + rows.MAX_AGE_S + 2)
    outbox.append(HERE, events("g", size=15_000), NOW + rows.MAX_AGE_S + 3)
    assert on_disk(outbox) == ["f", "g"]
    found = counters(outbox)
    assert found["given_up:over_age"] == 1
    assert found["given_up:over_bytes"] == 1
    assert found["given_up:over_events"] == 1 + 2 + 1


def test_a_clock_that_was_set_back_neither_drops_nor_rests(outbox: Outbox) -> None:
    outbox.append(HERE, events("from-the-future"), NOW + 3600)
    with outbox.delivering_from_disk(HERE) as delivery:
        delivery.postpone(Rest(1, NOW + 7200, True, "status_401"), NOW + 3600)
        assert delivery.take(1, 1, NOW + 3600)[0].until == NOW + 7200
        assert delivery.take(1, 1, NOW)[0].until == 0.0
    outbox.append(HERE, events("b"), NOW)
    assert on_disk(outbox) == ["from-the-future", "b"]


def test_one_process_and_one_thread_delivers_at_a_time(outbox: Outbox) -> None:
    outbox.append(HERE, events("a"), NOW)
    twin = Outbox(outbox.path)
    assert outbox.path is not None
    with outbox.delivering_from_disk(HERE):
        with pytest.raises(LockBusy), twin.delivering_from_disk(HERE):
            pass
        link = outbox.path.parent.parent / "link"
        link.symlink_to(outbox.path.parent)
        with pytest.raises(LockBusy), exclusive(link / "outbox.lock"):
            pass
        script = (
            "import sys; from pathlib import Path;"
            "from opentelemetry.exporter.jitsu.lock import *\n"
            "try:\n with exclusive(Path(sys.argv[1])): pass\nexcept LockBusy: print('busy')"
        )
        told = subprocess.run(
            [sys.executable, "-c", script, str(outbox.path.with_suffix(".lock"))],
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout == "busy\n"
    assert on_disk(twin) == ["a"]


# -- where the disk refuses ------------------------------------------------------------------------


def block(outbox: Outbox) -> None:
    """A file stands where the folder would be: no process can write there, root neither."""
    assert outbox.path is not None
    outbox.path.parent.parent.parent.mkdir(exist_ok=True)
    outbox.path.parent.parent.write_text("")


def unblock(outbox: Outbox) -> None:
    assert outbox.path is not None
    outbox.path.parent.parent.unlink()


def test_without_a_disk_events_are_kept_in_memory_and_moved_later(outbox: Outbox) -> None:
    block(outbox)
    outbox.append(HERE, events("a", "b"), NOW)
    assert outbox.in_memory() == outbox.waiting() == 2
    unblock(outbox)
    outbox.append(HERE, events("c"), NOW)
    assert outbox.in_memory() == 0
    assert on_disk(outbox) == ["a", "b", "c"]


def test_what_is_on_its_way_from_memory_is_not_moved_to_disk(outbox: Outbox) -> None:
    block(outbox)
    outbox.append(HERE, events("a"), NOW)
    unblock(outbox)
    with outbox.delivering_from_memory(HERE) as delivery:
        batch = take(delivery)
        outbox.append(HERE, events("b"), NOW)
        assert on_disk(outbox) == ["b"]
        delivery.settle(batch, {}, NOW)
    assert outbox.in_memory() == 0
    assert on_disk(outbox) == ["b"]


def test_an_answer_that_comes_after_leaving_is_booked_on_disk(outbox: Outbox) -> None:
    block(outbox)
    outbox.append(HERE, events("a", "b"), NOW)
    unblock(outbox)
    outbox._disk_failed = False
    with outbox.delivering_from_memory(HERE) as delivery:
        batch = take(delivery, 1)
        outbox.leave(NOW)
        assert on_disk(outbox) == ["a", "b"]
        delivery.settle(batch, {}, NOW)
    assert on_disk(outbox) == ["b"]


def test_beside_a_locked_database_a_file_keeps_what_a_process_leaves(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    outbox.append(HERE, events("before"), NOW)
    assert outbox.path is not None
    with closing(sqlite3.connect(outbox.path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        outbox.append(HERE, events("a", "b"), NOW)
        with outbox.delivering_from_memory(HERE) as delivery:
            batch = take(delivery, 1)
            outbox.leave(NOW)
            delivery.settle(batch, {}, NOW)  # answered in the last moment
    successor = Outbox(outbox.path)
    successor.adopt()
    successor.adopt()
    assert on_disk(successor) == ["before", "b"]


def test_what_was_accepted_is_not_sent_again_when_the_disk_is_full(outbox: Outbox) -> None:
    resource = pytest.importorskip("resource")
    outbox.append(HERE, events(*map(str, range(50)), size=500), NOW)
    assert outbox.path is not None
    size = outbox.path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with outbox.delivering_from_disk(HERE) as delivery:
            batch = take(delivery, 40)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            delivery.settle(batch, {}, NOW)
        assert on_disk(outbox) == [str(number) for number in range(40, 50)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("damage", ["garbage", "empty", "truncated", "hole", "other tables"])
def test_a_broken_file_is_never_fatal_and_later_events_find_a_new_one(
    outbox: Outbox, damage: str
) -> None:
    assert outbox.path is not None
    outbox.append(HERE, events(*(f"old-{n}" for n in range(300)), size=200), NOW)
    content = bytearray(outbox.path.read_bytes())
    if damage == "other tables":
        with closing(sqlite3.connect(outbox.path)) as db:
            db.execute("DROP TABLE batch")
    else:
        middle = len(content) // 2
        content[middle : middle + 12_000] = os.urandom(12_000)
        outbox.path.write_bytes(
            {
                "garbage": os.urandom(30_000),
                "empty": b"",
                "truncated": bytes(content[: middle // 4096 * 4096]),
                "hole": bytes(content),
            }[damage]
        )
    for number in range(5):
        outbox.append(HERE, events(f"new-{number}"), NOW)
    try:
        with outbox.delivering_from_disk(HERE) as delivery:  # finds it while it holds the lock
            take(delivery, 1000)
    except OutboxUnusable:
        outbox.append(HERE, events("new-5"), NOW)
    assert outbox.spill(NOW)
    found = on_disk(outbox, 1000)
    assert [one for one in found if one.startswith("new")][:5] == [f"new-{n}" for n in range(5)]
    assert len(set(found)) == len(found)
    if damage in ("garbage", "other tables"):
        assert outbox.path.with_suffix(".corrupt").exists()


def test_a_file_of_a_later_release_is_left_alone(outbox: Outbox) -> None:
    outbox.append(HERE, events("a"), NOW)
    assert outbox.path is not None
    with closing(sqlite3.connect(outbox.path)) as db:
        db.execute("PRAGMA user_version = 2")
    before = outbox.path.read_bytes()
    outbox.append(HERE, events("b"), NOW)
    assert outbox.in_memory() == 1
    assert outbox.path.read_bytes() == before


@pytest.mark.parametrize("what", ["link", "folder", "pipe"])
def test_what_is_no_file_of_ours_is_refused(outbox: Outbox, what: str, tmp_path: Path) -> None:
    assert outbox.path is not None
    outbox.path.parent.mkdir(parents=True)
    if what == "link":
        outbox.path.symlink_to(tmp_path / "elsewhere")
    elif what == "folder":
        outbox.path.mkdir()
    else:
        os.mkfifo(outbox.path)
    outbox.append(HERE, events("a"), NOW)
    assert outbox.in_memory() == 1
    assert not (tmp_path / "elsewhere").exists()


def test_a_change_of_directory_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outbox = Outbox(Path("relative/outbox.db"))
    monkeypatch.chdir("/")
    outbox.append(HERE, events("a"), NOW)
    assert (tmp_path / "relative" / "outbox.db").exists()


def test_many_threads_and_two_outboxes_of_one_file_lose_nothing(outbox: Outbox) -> None:
    twin = Outbox(outbox.path)

    def work(number: int) -> None:
        for index in range(5):
            (outbox if number % 2 else twin).append(HERE, events(f"{number}-{index}"), time.time())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outbox.spill(time.time())
    twin.spill(time.time())
    assert len(set(on_disk(outbox))) == 60


@given(st.data())
def test_whatever_comes_again_or_is_settled_in_part_nothing_is_lost_or_doubled(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    outbox = Outbox(tmp_path_factory.mktemp("outbox") / "outbox.db")
    known = events(*(f"e{number}" for number in range(150)))
    waiting: list[str] = []
    settled: set[str] = set()
    for number in range(data.draw(st.integers(min_value=1, max_value=6))):
        start = data.draw(st.integers(min_value=0, max_value=149))
        coming = known[start : start + data.draw(st.integers(min_value=1, max_value=100))]
        outbox.append(HERE, coming, NOW + number)
        waiting += [one.id for one in coming if one.id not in settled and one.id not in waiting]
        with outbox.delivering_from_disk(HERE) as delivery:
            taken = take(delivery, data.draw(st.integers(min_value=1, max_value=200)))
            assert ids_of(taken) == waiting[: len(ids_of(taken))]
            parts = halves(taken) if len(ids_of(taken)) > 1 else [taken]
            part = data.draw(st.sampled_from(parts))
            sent = data.draw(st.booleans())
            delivery.settle(part if sent else [], {} if sent else {"a_reason": part}, NOW)
        waiting = [one for one in waiting if one not in ids_of(part)]
        settled.update(ids_of(part) if sent else [])
        assert outbox.waiting() == len(waiting)
    assert on_disk(outbox, 1000) == waiting
    assert outbox.path is not None
    assert {one.id for one in sent_events(outbox.path)} == settled
