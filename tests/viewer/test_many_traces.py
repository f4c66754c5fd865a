"""Many traces: found again when they are out of memory, paged and filtered without gaps."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelagent.viewer.store import detail, listing, summaries, trace_ids
from otelagent.viewer.store.listing import TraceFilter, attribute_filter
from otelagent.viewer.store.store import Store
from tests.viewer.requests import START_NS, Traces
from tests.viewer.stores import many, put_traces


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(str(tmp_path / "traces.db"))
    yield store
    store.close()


def names(store: Store, limit: int = 500, **asked: Any) -> list[str]:
    """Of all pages."""
    found: list[str] = []
    before = None
    while True:
        page = store.read(listing.traces, TraceFilter(**asked), limit, before)
        found += [one["name"] for one in page["traces"]]
        if page["next"] is None:
            return found
        assert before is None or page["next"] < before
        before = page["next"]


def test_a_trace_grows_however_long_ago_it_began(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(summaries, "_KNOWN_TRACES", 50)
    monkeypatch.setattr(trace_ids, "_FILTER_TRACES", 300)
    path = str(tmp_path / "traces.db")
    store = Store(path)
    ids, requests = many(2_000)
    put_traces(store, *requests)
    for round_ in range(2):
        late = Traces("late")
        for trace in ids[::37]:
            late.span(f"late {round_}", trace=trace, parent=b"p" * 8, start_us=5000)
        put_traces(store, late)
        store.close()
        store = Store(path)
    assert store.status()["traces"] == 2_000
    assert [len(found["spans"]["id"]) for one in ids[::37] if (found := store.read(detail.trace, one))] == [3] * len(
        ids[::37]
    )
    assert sorted(names(store, service="late"), key=lambda name: int(name[1:])) == [f"n{n}" for n in range(0, 2000, 37)]
    assert store.read(detail.trace, b"x" * 16) is None
    store.close()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"service": "service-1"},
        {"min_ns": 10**9},
        {"from_ns": START_NS + 1_500_000, "to_ns": START_NS + 2_500_000},
        {"attributes": (attribute_filter("tier=gold"),)},
        {"attributes": (attribute_filter("number>1990"), attribute_filter("tier~OLD"))},
        {"attributes": (attribute_filter("number=1234"),)},
        {"service": "service-1", "min_ns": 10**9},
        {"text": "n12"},
    ],
    ids=str,
)
def test_what_is_cut_off_by_its_time_goes_on_without_a_gap(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    put_traces(store, *many(3_000)[1])
    at_leisure = names(store, **asked)
    assert at_leisure
    assert len(set(at_leisure)) == len(at_leisure)
    monkeypatch.setattr(listing, "_TIME_S", 0.0)
    first = store.read(listing.traces, TraceFilter(**asked), 3)
    assert not first["complete"] or len(first["traces"]) == 3
    assert names(store, 70, **asked) == at_leisure


@pytest.mark.parametrize("asked", [{}, {"service": "service-1"}, {"text": "n1"}], ids=str)
def test_the_slowest_that_time_allows_say_that_there_may_be_others(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    put_traces(store, *many(3_000)[1])
    monkeypatch.setattr(listing, "_TIME_S", 0.0)
    found = store.read(listing.slowest, TraceFilter(**asked), 3)
    assert (found["complete"], found["next"]) == (False, None)
    # By name they are looked at from the latest on, else where the longest are.
    assert (found["searched_to"] is None) == (not asked)


def test_the_slowest_of_many_are_found_wherever_they_are(store: Store) -> None:
    put_traces(store, *many(4_000)[1])
    slow = Traces("slow")
    for number in range(3):
        slow.span(f"slow {number}", duration_us=60_000_000 + number)
    put_traces(store, slow)
    put_traces(store, *many(4_000)[1])
    found = store.read(listing.slowest, TraceFilter(), 3)
    assert [one["name"] for one in found["traces"]] == ["slow 2", "slow 1", "slow 0"]
    assert found["complete"]


def test_an_attribute_is_found_without_reading_others(store: Store) -> None:
    put_traces(store, *many(4_000)[1])
    read = store.read(lambda connection: _rows_read(connection, (attribute_filter("number=5"),)))
    all_of_them = store.read(lambda connection: _rows_read(connection, (attribute_filter("number<0"),)))
    assert read < all_of_them / 2
    assert names(store, attributes=(attribute_filter("number=5"),)) == ["n5"]
    assert names(store, attributes=(attribute_filter("nowhere"),)) == []


def _rows_read(connection: sqlite3.Connection, attributes: Any) -> int:
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    connection.set_progress_handler(count, 100)
    listing.traces(connection, TraceFilter(attributes=attributes))
    connection.set_progress_handler(None, 0)
    return steps
