"""Whatever a host hands over: no value outside its declared type ever reaches a span."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usage_telemetry import (
    Action,
    Catalog,
    Choice,
    Count,
    Flag,
    Names,
    Telemetry,
    UndeclaredError,
)
from usage_telemetry.catalog import MAX_COUNT, MAX_NAMES
from usage_telemetry.page import event_schema
from usage_telemetry.testing import capture

KINDS = ("tree", "net")
WORDS = ("Dense", "Conv")
CATALOG = Catalog(
    [
        Action(
            "train",
            "A model was trained.",
            rows=Count("Rows."),
            cached=Flag("Cached."),
            kind=Choice("Kind.", KINDS),
            layers=Names("Layers.", WORDS),
        )
    ]
)
VALIDATOR = jsonschema.Draft202012Validator(event_schema(CATALOG, tool="tool"))

INPUTS = 10_000
AT_ONCE = 20
"""Values a draw: hypothesis makes them eight times as fast as one by one."""


class Hostile:
    """An object that raises whatever is done to it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("hostile")

    def __str__(self) -> str:
        raise RuntimeError("hostile")

    __repr__ = __str__


class CleverInt(int):
    """Looks like a number, carries what it likes."""


class CleverStr(str):
    """Equal to a declared word, and somebody's secret all the same."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("tree")


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, MAX_COUNT, MAX_COUNT + 1, 10**30]),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.sampled_from([*KINDS, *WORDS, "custom", "\ud800", "", "a b", "x" * 10_000]),
    st.binary(max_size=20),
    st.builds(Hostile),
    st.builds(CleverInt, st.integers()),
    st.builds(CleverStr, st.text(max_size=5)),
    st.complex_numbers(),
)
values = st.one_of(
    scalars,
    scalars,
    st.lists(scalars, max_size=4),
    st.lists(scalars, max_size=4).map(tuple),
    st.dictionaries(st.sampled_from(WORDS), scalars, max_size=2),
    st.lists(st.lists(scalars, max_size=2), max_size=2),
    st.sampled_from([["Dense"] * 150, {"Conv"}, frozenset({"secret"})]),
)
"""Flat for the most part: drawing deep trees takes hypothesis ten times as long."""
undeclared = st.sampled_from(["path", "\ud800", "usage.action", "", "x" * 1000])


class Taken:
    """In the place of a test's capture, without its strictness: spans as an exporter gets them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from usage_telemetry.environment import resource_attributes
        from usage_telemetry.spans import Spans
        from usage_telemetry.testing import USER_ID

        self.telemetry = Telemetry("tool", "1.2.3", "service_backend", CATALOG)
        # Switched on, whatever this machine's environment says, and into our hands.
        monkeypatch.setattr(self.telemetry, "_off", False)
        monkeypatch.setattr(self.telemetry, "_sinks", (self,))
        self._spans = Spans(resource_attributes(tool="tool", version="1.2.3", user_id=USER_ID))
        self.spans: list[Any] = []

    def submit(self, record: Any) -> None:
        from usage_telemetry.record import with_ids

        self.spans += self._spans.make(with_ids([record]))

    def flush(self, timeout_s: float) -> bool:
        return True

    def settle(self, timeout_s: float = 0.0) -> None: ...

    def shutdown(self, timeout_s: float = 0.0) -> None: ...

    def stats(self) -> dict[str, int]:
        return {}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    return Taken(monkeypatch)


def check_span(span: Any) -> None:
    """By hand, not by the code under test: the type of everything that an exporter gets."""
    for key, value in span.attributes.items():
        if key == "usage.extra.rows":
            assert type(value) is int
            assert 0 <= value <= MAX_COUNT
        elif key == "usage.extra.cached":
            assert type(value) is bool
        elif key == "usage.extra.kind":
            assert type(value) is str
            assert str.__eq__(value, "tree") or str.__eq__(value, "net")
        elif key == "usage.extra.layers":
            assert len(value) <= MAX_NAMES
            for name in value:
                assert type(name) is str
                assert name in ("Dense", "Conv", "custom")
        else:
            assert (key, value) in (
                ("usage.action", "train"),
                ("usage.interface", "service_backend"),
            )


@settings(
    max_examples=INPUTS // AT_ONCE,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(drawn=st.lists(values, min_size=AT_ONCE, max_size=AT_ONCE), other=undeclared)
def test_no_value_outside_its_declared_type_reaches_a_span(
    taken: Taken, drawn: list[Any], other: str
) -> None:
    for value in drawn:
        record_as_every_extra(taken, value, other)


def record_as_every_extra(taken: Taken, value: object, other: str) -> None:
    from opentelemetry.exporter.jitsu.event import encode, event_from_span

    taken.spans.clear()
    before = dropped(taken.telemetry.stats())
    extras = {"rows": value, "cached": value, "kind": value, "layers": value, other: value}

    taken.telemetry.record("train", **extras)

    [span] = taken.spans
    check_span(span)
    event = event_from_span(span)
    assert event is not None
    encode(event)
    if event["extra"]:
        VALIDATOR.validate(event)
    assert dropped(taken.telemetry.stats()) - before == len(extras) - len(event["extra"])


@settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(action=st.one_of(st.text(), st.sampled_from(["Train", "train ", "\ud800", "train\n"])))
def test_no_undeclared_action_reaches_a_span(taken: Taken, action: str) -> None:
    before = dropped(taken.telemetry.stats())

    taken.telemetry.record(action, rows=1)

    assert taken.spans == []
    assert dropped(taken.telemetry.stats()) == before + 1


def dropped(stats: dict[str, int]) -> int:
    return sum(number for name, number in stats.items() if name.startswith("dropped:"))


BAD = {
    "10 MB string": ("kind", "x" * 10_000_000),
    "NaN": ("rows", math.nan),
    "infinity": ("rows", math.inf),
    "lone surrogate": ("kind", "\ud800"),
    "nested object": ("layers", {"a": {"b": ["c"]}}),
    "bytes": ("kind", b"tree"),
    "bytes as a count": ("rows", b"3"),
    "wrong type": ("rows", "3"),
    "a bool as a count": ("rows", True),
    "an int as a flag": ("cached", 1),
    "negative": ("rows", -1),
    "too large": ("rows", 2**63),
    "undeclared extra": ("path", "/home/jane"),
    "undeclared value": ("kind", "forest"),
    "hostile object": ("kind", Hostile()),
    "clever string": ("kind", CleverStr("secret")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_never_raises_is_never_in_an_event_and_is_counted(
    taken: Taken, name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    from opentelemetry.exporter.jitsu.event import event_from_span

    key, value = BAD[name]
    with caplog.at_level(logging.INFO):
        taken.telemetry.record("train", **{key: value}, cached=False) if key != "cached" else (
            taken.telemetry.record("train", cached=value)
        )

    [span] = taken.spans
    event = event_from_span(span)
    assert event is not None
    assert event["extra"] == ({} if key == "cached" else {"cached": False})
    assert dropped(taken.telemetry.stats()) == 1
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("action", ["undeclared", "", "\ud800", "x" * 10_000_000])
def test_an_undeclared_action_is_dropped_and_counted(taken: Taken, action: str) -> None:
    taken.telemetry.record(action, rows=3)

    assert taken.spans == []
    assert taken.telemetry.stats() == {"recorded": 0, "dropped:undeclared": 1}


@pytest.mark.parametrize("name", [name for name in BAD if name != "hostile object"])
def test_strict_raises_clearly(name: str) -> None:
    key, value = BAD[name]
    telemetry = Telemetry("tool", "1", "cli", CATALOG, strict=True)

    with capture() as captured, pytest.raises((UndeclaredError, TypeError)) as raised:
        telemetry.record("train", **{key: value})

    assert str(raised.value).startswith("train")
    assert len(str(raised.value)) < 300
    assert captured.events == []


def test_a_name_outside_the_vocabulary_becomes_custom_and_the_hundred_and_first_goes(
    taken: Taken,
) -> None:
    taken.telemetry.record("train", layers=["Dense", "/home/jane/secret.py", b"x", *["Conv"] * 200])

    [span] = taken.spans
    layers = span.attributes["usage.extra.layers"]
    assert layers[:4] == ("Dense", "custom", "custom", "Conv")
    assert len(layers) == MAX_NAMES


def test_bad_input_costs_little(taken: Taken) -> None:
    """A 10 MB string is refused by looking it up, not by copying it around."""
    start = time.perf_counter()
    for _ in range(100):
        taken.telemetry.record("train", layers=["x" * 10_000_000])
    assert time.perf_counter() - start < 10
