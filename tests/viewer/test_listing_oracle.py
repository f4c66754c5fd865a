"""The list against a plain reading of the same spans: random traces, in random requests, asked for at random."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from otelagent.viewer.ingest import decode
from otelagent.viewer.rows import Batch
from otelagent.viewer.store import candidates, filters, listing, summaries
from otelagent.viewer.store.listing import TraceFilter, attribute_filter
from otelagent.viewer.store.store import Store
from tests.viewer.requests import START_NS, Traces

SERVICES = ("shop", "stock", "bank")
NAMES = ("GET /items", "GET /orders", "SELECT items", "reserve")
KEYS = ("http.route", "retries", "tier", "cached", "load", "a.b[0]", "ключ")
VALUES: tuple[Any, ...] = ("/items", "gold", "Gold plate", "", "10", 0, 1, 7, 10, -3, True, False, 0.5, 10.0, "true")
CONDITIONS = ("=", "!=", ">", ">=", "<", "<=", "~", "")
SEEDS = range(6)


def some_spans(chosen: random.Random, traces: int) -> list[tuple[str, dict[str, Any]]]:
    """Service, and what `Traces.span` takes."""
    found = []
    for _ in range(traces):
        trace = chosen.randbytes(16)
        began_us = chosen.randrange(1000)
        parent = b""
        for number in range(chosen.choice((1, 2, 3, 8))):
            span: dict[str, Any] = {
                "name": chosen.choice(NAMES),
                "trace": trace,
                "id": chosen.randbytes(8),
                "parent": parent,
                # Another machine's clock may be behind.
                "start_us": began_us + chosen.randrange(-20, 100),
                "duration_us": chosen.choice((0, 1, 10, 500)),
                "error": chosen.random() < 0.1,
                "attributes": {key: chosen.choice(VALUES) for key in KEYS if chosen.random() < 0.3},
            }
            found.append((chosen.choice(SERVICES), span))
            if not number or chosen.random() < 0.5:
                parent = span["id"]
    return found


def put(store: Store, spans: list[tuple[str, dict[str, Any]]]) -> Batch:
    merged = Traces().request
    merged.Clear()
    by_service: dict[str, Traces] = {}
    for service, known in spans:
        asked = dict(known)
        span_id, attributes = asked.pop("id"), asked.pop("attributes")
        span = by_service.setdefault(service, Traces(service)).span(**asked, **attributes)
        span.span_id = span_id
    for request in by_service.values():
        merged.MergeFrom(request.request)
    batch = decode("traces", merged.SerializeToString())
    written = store.put(batch)
    assert written is not None
    written.result(20)
    return batch


def holds(condition: str, attributes: dict[str, Any]) -> bool:
    """Whether a span has what a condition asks for, as docs/viewer.md says."""
    asked = attribute_filter(condition)
    if asked.key not in attributes:
        return False
    value = attributes[asked.key]
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    if asked.operator in ("=", "!="):
        return (text == asked.value) == (asked.operator == "=")
    if asked.operator == "~":
        # Of true and false SQLite's JSON has 1 and 0.
        return asked.value.lower() in (str(int(value)) if isinstance(value, bool) else text.lower())
    if not asked.operator:
        return True
    try:
        number = float(asked.value)
    except ValueError:
        return False
    if isinstance(value, str):
        return False
    return bool(
        {">": value > number, ">=": value >= number, "<": value < number, "<=": value <= number}[asked.operator]
    )


def plain(spans: list[dict[str, Any]], asked: TraceFilter, conditions: list[str]) -> bool:
    """Whether a trace is as asked, by reading it."""
    start = min(one["start_ns"] for one in spans)
    end = max(one["start_ns"] + one["duration_ns"] for one in spans)
    alike = [one for one in spans if asked.service in ("", one["service"]) and asked.operation in ("", one["name"])]
    words = asked.text.lower().split()
    return (
        bool(alike)
        and (not asked.error or any(one["status"] == 2 for one in spans))
        and (asked.min_ns is None or end - start >= asked.min_ns)
        and (asked.max_ns is None or end - start <= asked.max_ns)
        and (asked.from_ns is None or start >= asked.from_ns)
        and (asked.to_ns is None or start <= asked.to_ns)
        and any(all(word in one["name"].lower() for word in words) for one in spans)
        and all(any(holds(condition, one["attributes"]) for one in spans) for condition in conditions)
    )


def some_filter(chosen: random.Random) -> tuple[TraceFilter, list[str]]:
    def maybe(value: Any, none: Any) -> Any:
        return value if chosen.random() < 0.25 else none

    conditions = [
        f"{chosen.choice(KEYS)}{operator}{chosen.choice(VALUES) if operator else ''}"
        for operator in chosen.choices(CONDITIONS, k=chosen.choice((0, 0, 0, 1, 1, 2)))
    ]
    begin, end = sorted(START_NS + 1000 * chosen.randrange(-50, 1150) for _ in range(2))
    return (
        TraceFilter(
            service=maybe(chosen.choice(SERVICES), ""),
            operation=maybe(chosen.choice(NAMES), ""),
            error=maybe(True, False),
            min_ns=maybe(chosen.choice((1, 10_000, 90_000)), None),
            max_ns=maybe(chosen.choice((0, 10_000, 500_000)), None),
            from_ns=maybe(begin, None),
            to_ns=maybe(end, None),
            text=maybe(chosen.choice(("get", "items", "GET ord", "sel ite", "nothing")), ""),
            attributes=tuple(map(attribute_filter, conditions)),
        ),
        conditions,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_the_list_is_what_a_plain_reading_finds(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_TIME_S", 60.0)
    # So that there are many zones, of which some are passed over.
    for module in (summaries, candidates, filters):
        monkeypatch.setattr(module, "ZONE_BITS", 3)
    chosen = random.Random(seed)
    spans = some_spans(chosen, 300)
    chosen.shuffle(spans)
    store = Store(str(tmp_path / "traces.db"))
    traces: defaultdict[str, dict[bytes, dict[str, Any]]] = defaultdict(dict)
    while spans:
        size = chosen.choice((1, 40, 200))
        part, spans = spans[:size], spans[size:]
        for _ in range(chosen.choice((1, 1, 2))):
            batch = put(store, part)
        for one in batch.spans:
            traces[one[0].hex()][one[1]] = {
                "service": batch.resources[one[3]].service,
                "name": one[5],
                "status": one[7],
                "start_ns": one[9],
                "duration_ns": one[10],
                "root": one[2] is None,
                "attributes": json.loads(one[11]),
            }
    store.close()
    store = Store(str(tmp_path / "traces.db"))
    assert store.status()["spans"] == sum(map(len, traces.values()))
    for _ in range(60):
        asked, conditions = some_filter(chosen)
        found: list[dict[str, Any]] = []
        before = None
        while True:
            page = store.read(listing.traces, asked, chosen.choice((3, 50, 500)), before)
            found += page["traces"]
            if (before := page["next"]) is None:
                break
        expected = {key for key, its in traces.items() if plain(list(its.values()), asked, conditions)}
        assert {one["id"] for one in found} == expected, (asked, conditions)
        assert len(found) == len(expected)
        most = chosen.choice((1, 5, 50, 500))
        slowest = store.read(listing.slowest, asked, most)
        assert (slowest["complete"], slowest["next"]) == (True, None)
        durations = sorted((one["duration"] for one in found), reverse=True)[:most]
        assert [one["duration"] for one in slowest["traces"]] == durations, (asked, conditions)
        ids = {one["id"] for one in slowest["traces"]}
        assert len(ids) == len(durations)
        assert ids <= expected
        for trace in found:
            its = list(traces[trace["id"]].values())
            start = min(span["start_ns"] for span in its)
            assert trace["start"] == str(start)
            assert trace["duration"] == max(span["start_ns"] + span["duration_ns"] for span in its) - start
            assert (trace["spans"], trace["errors"]) == (len(its), sum(span["status"] == 2 for span in its))
            assert trace["root"] == any(span["root"] for span in its)
            services = [span["service"] for span in its]
            assert dict(trace["services"]) == {name: services.count(name) for name in services}
    store.close()
