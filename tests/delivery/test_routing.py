"""Routes: which items go where, against a model in plain Python; and that every item is in each destination's books."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from otelagent.config import load
from otelagent.delivery import Destination, FanOut, Ledger, Ledgers, Payload, flush_all, shutdown_all
from otelagent.delivery.items import shares
from otelagent.delivery.routing import Router
from tests.delivery.harness import QUICK, FakeTransport, payload

MESSAGES: dict[str, Any] = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}


def any_value(value: Any) -> AnyValue:
    made = AnyValue()
    if isinstance(value, bool):
        made.bool_value = value
    elif isinstance(value, int):
        made.int_value = value
    elif isinstance(value, float):
        made.double_value = value
    elif isinstance(value, str):
        made.string_value = value
    elif isinstance(value, bytes):
        made.bytes_value = value
    elif isinstance(value, list):
        made.array_value.values.extend(any_value(one) for one in value)
    return made


def request(signal: str, groups: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> Payload:
    """A request with the items of some resources; each item says its number in `dropped_attributes_count`."""
    made = MESSAGES[signal]()
    number = 0
    for resource, items in groups:
        group = made.resource_spans.add() if signal == "traces" else made.resource_logs.add()
        for key, value in resource.items():
            group.resource.attributes.add(key=key).value.CopyFrom(any_value(value))
        scope = group.scope_spans.add() if signal == "traces" else group.scope_logs.add()
        for item in items:
            one = scope.spans.add() if signal == "traces" else scope.log_records.add()
            number += 1
            one.dropped_attributes_count = number
            if signal == "traces":
                one.name = item["name"]
                one.status.code = item["status"]
            else:
                one.severity_number = item["severity"]
            for key, value in item["attributes"].items():
                one.attributes.add(key=key).value.CopyFrom(any_value(value))
    return Payload(signal, made.SerializeToString(), number)


def numbers(signal: str, part: Payload | None) -> list[int]:
    """The items of a request."""
    if part is None:
        return []
    made = MESSAGES[signal].FromString(part.body)
    if signal == "traces":
        found = [span for group in made.resource_spans for scope in group.scope_spans for span in scope.spans]
    else:
        found = [one for group in made.resource_logs for scope in group.scope_logs for one in scope.log_records]
    assert len(found) == part.items
    return [one.dropped_attributes_count for one in found]


# The model: rules as they are given, items as plain dictionaries.


def matches(pattern: object, value: object) -> bool:
    if isinstance(value, list):
        return pattern == "*" or any(matches(pattern, one) for one in value if not isinstance(one, list))
    if pattern == "*":
        return True
    if value is None or isinstance(value, bytes):
        return False
    wanted, text = (repr(one).lower() if isinstance(one, bool) else str(one) for one in (pattern, value))
    if not isinstance(pattern, str):
        return wanted == text
    expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in wanted)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def any_of(patterns: object, value: object) -> bool:
    return any(matches(pattern, value) for pattern in (patterns if isinstance(patterns, list) else [patterns]))


def holds(rule: dict[str, Any], signal: str, resource: dict[str, Any], item: dict[str, Any], routed: bool) -> bool:
    for key, wanted in rule.items():
        if key == "error":
            error = item["status"] == 2 if signal == "traces" else item["severity"] >= 17
            true = error is wanted
        elif key == "unrouted":
            true = (not routed) is wanted
        elif key == "name":
            true = signal == "traces" and any_of(wanted, item["name"])
        elif key == "not":
            true = not holds(wanted, signal, resource, item, routed)
        else:
            where = resource if key == "resource" else item["attributes"]
            true = all(name in where and any_of(patterns, where[name]) for name, patterns in wanted.items())
        if not true:
            return False
    return True


def asks_for_unrouted(rule: dict[str, Any]) -> bool:
    return "unrouted" in rule or ("not" in rule and asks_for_unrouted(rule["not"]))


def goes(
    routes: list[list[dict[str, Any]] | None], signal: str, resource: dict[str, Any], item: dict[str, Any]
) -> list[bool]:
    def taken_by(rules: list[dict[str, Any]], routed: bool) -> bool:
        return any(holds(rule, signal, resource, item, routed) for rule in rules)

    routed = taken_by([rule for rules in routes for rule in rules or () if not asks_for_unrouted(rule)], False)
    return [rules is None or taken_by(rules, routed) for rules in routes]


def router(routes: list[list[dict[str, Any]] | None]) -> tuple[Router, list[Any]]:
    rules = [load({"routes": one}, {}).routes for one in routes]
    return Router(rules), rules


TEXTS = st.sampled_from(["", "a", "ab", "a*", "b[a]", "ba\n", "[ab]"])
SCALARS = st.one_of(TEXTS, st.sampled_from([1, 12, True, 0.5, 1.0, 1e22]))
LISTS = st.one_of(st.lists(SCALARS, max_size=3), st.lists(st.lists(SCALARS, max_size=1), max_size=1))
VALUES = st.one_of(SCALARS, LISTS, st.sampled_from([b"a", None]))
KEYS = st.sampled_from(["tier", "é"])
WILD = st.sampled_from(["*", "a*", "*b*", "?", "1*", "t*", "?*", "[ab]*"])
PATTERNS = st.one_of(SCALARS, WILD, st.lists(st.one_of(SCALARS, WILD), min_size=1, max_size=3))
BY_NAME = st.dictionaries(KEYS, PATTERNS, min_size=1, max_size=2)
CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "error": st.booleans(),
    "name": PATTERNS,
    "attributes": BY_NAME,
    "resource": BY_NAME,
    "unrouted": st.booleans(),
}
INNER = st.fixed_dictionaries({}, optional=CONDITIONS).filter(bool)
RULES = st.fixed_dictionaries({}, optional={**CONDITIONS, "not": INNER}).filter(bool)
ROUTES = st.lists(st.one_of(st.none(), st.lists(RULES, min_size=1, max_size=3)), min_size=1, max_size=3)
ITEMS = st.fixed_dictionaries(
    {
        "name": TEXTS,
        "status": st.integers(0, 2),
        "severity": st.integers(0, 24),
        "attributes": st.dictionaries(KEYS, VALUES, max_size=3),
    }
)
GROUPS = st.lists(st.tuples(st.dictionaries(KEYS, VALUES, max_size=2), st.lists(ITEMS, max_size=4)), max_size=3)


@pytest.mark.parametrize(
    ("patterns", "value", "taken"),
    [
        ("gold", "gold", True),
        ("gold", "Gold", False),
        ("gold", "golden", False),
        (["gold", "platinum"], "platinum", True),
        ("/pay*", "/pay/42", True),
        ("/pay*", "/shop/pay", False),
        ("*pay*", "/shop/pay/42", True),
        ("/p?y", "/pay", True),
        ("[ab]", "a", False),
        ("[ab]*", "[ab]c", True),
        ("a.c", "abc", False),
        ("*\n*", "a\nb", True),
        ("a*", "a" * 5000 + "b", True),
        ("*b", "a" * 5000 + "b", False),  # the end isn't looked at
        ("", "", True),
        ("", "a", False),
        (503, 503, True),
        ("5*", 503, True),
        (503, "503", True),
        (True, True, True),
        ("true", True, True),
        (1, True, False),
        (1.0, 1.0, True),
        (1, 1.0, False),
        ("b", ["a", "b"], True),
        ("b*", ["a", "bc"], True),
        ("c", ["a", "b"], False),
        ("a", b"a", False),
        ("*", b"a", True),
        ("*", [], True),
        ("*", None, True),
        ("", None, False),
    ],
)
def test_what_matches(patterns: Any, value: Any, taken: bool) -> None:
    compiled, _ = router([[{"attributes": {"x": patterns}}], [{"resource": {"x": patterns}}]])
    item = {"name": "", "status": 0, "attributes": {"x": value, "y": "z"}}
    assert shares(one := request("traces", [({"x": value}, [item])]), compiled.mark, 2) == [one if taken else None] * 2
    item["attributes"] = {"y": value}
    assert shares(request("traces", [({"y": value}, [item])]), compiled.mark, 2) == [None, None]


@settings(max_examples=300)
@given(signal=st.sampled_from(["traces", "logs"]), routes=ROUTES, groups=GROUPS)
def test_each_item_goes_where_the_model_says(signal: str, routes: list[Any], groups: list[Any]) -> None:
    whole = request(signal, groups)
    compiled, _ = router(routes)
    parts = shares(whole, compiled.mark, len(routes))
    expected: list[list[int]] = [[] for _ in routes]
    number = 0
    for resource, items in groups:
        for item in items:
            number += 1
            for way, taken in enumerate(goes(routes, signal, resource, item)):
                if taken:
                    expected[way].append(number)
    assert [numbers(signal, part) for part in parts] == expected


@settings(max_examples=50)
@given(routes=ROUTES, requests=st.lists(GROUPS, max_size=4))
def test_the_books_of_each_destination_have_every_item(routes: list[Any], requests: list[list[Any]]) -> None:
    _, rules = router(routes)
    ledgers = [Ledger("traces") for _ in rules]
    recorded = Ledgers("traces", ledgers)
    transports = [FakeTransport() for _ in rules]
    destinations = [
        Destination(transport, {"traces": ledger}, QUICK) for transport, ledger in zip(transports, ledgers, strict=True)
    ]
    fan_out = FanOut(list(zip(destinations, ledgers, strict=True)), rules)
    untaken, taken = 0, Counter[int]()
    for groups in requests:
        one = request("traces", groups)
        recorded.ended(one.items)
        fan_out.submit(one)
        for resource, items in groups:
            for item in items:
                where = goes(routes, "traces", resource, item)
                taken.update(way for way, there in enumerate(where) if there)
                untaken += not any(where)
    assert shutdown_all(destinations, time.monotonic() + 20)
    for way, ledger in enumerate(ledgers):
        counts = ledger.snapshot()
        assert counts.balanced
        assert counts.delivered == taken[way] == sum(part.items for part in transports[way].sent)
        assert counts.filtered == counts.ended - counts.delivered
    assert fan_out.untaken == untaken


def fan(*routes: list[dict[str, Any]] | None) -> tuple[FanOut, list[Destination], list[Ledger], list[FakeTransport]]:
    _, rules = router(list(routes))
    ledgers = [Ledger("traces") for _ in rules]
    transports = [FakeTransport() for _ in rules]
    destinations = [
        Destination(sent, {"traces": books}, QUICK) for sent, books in zip(transports, ledgers, strict=True)
    ]
    return FanOut(list(zip(destinations, ledgers, strict=True)), rules), destinations, ledgers, transports


def spans(*statuses: int) -> Payload:
    return request("traces", [({}, [{"name": "work", "status": one, "attributes": {}} for one in statuses])])


ERRORS = [{"error": True}]
REST = [{"unrouted": True}]


def test_what_goes_whole_is_not_copied() -> None:
    fan_out, destinations, ledgers, transports = fan(None, ERRORS, ERRORS, REST)
    for ledger in ledgers:
        ledger.ended(8)
    errors, fine, mixed = spans(2, 2), spans(0, 1), spans(0, 2, 0, 2)
    for one in (errors, fine, mixed):
        fan_out.submit(one)
    assert shutdown_all(destinations, time.monotonic() + 10)
    bodies = [[part.body for part in transport.sent] for transport in transports]
    assert all(sent is given.body for sent, given in zip(bodies[0], (errors, fine, mixed), strict=True))
    assert bodies[1][0] is bodies[2][0] is errors.body
    assert bodies[1][1] is bodies[2][1]  # made once for both
    assert bodies[3][0] is fine.body
    assert [ledger.snapshot().filtered for ledger in ledgers] == [0, 4, 4, 4]
    assert all(ledger.snapshot().balanced for ledger in ledgers)


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("taken", [True, False])
def test_an_interrupted_submit_counts_once_in_each(where: int, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fan_out, destinations, ledgers, _ = fan(ERRORS, REST)
    one = spans(0, 2, 0)
    for ledger in ledgers:
        ledger.ended(3)

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        target = destinations[where] if taken else destinations[where]._intake
        patched.setattr(target, "_start_thread" if taken else "_take", interrupt)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                fan_out.submit(Payload("traces", one.body, 3))
    fan_out.submit(Payload("traces", one.body, 3))
    assert flush_all(destinations, time.monotonic() + 10)
    assert shutdown_all(destinations, time.monotonic() + 10)
    counts = [ledger.snapshot() for ledger in ledgers]
    assert [(one.delivered, one.filtered, one.queued) for one in counts] == [(1, 2, 0), (2, 1, 0)]


@pytest.mark.parametrize("body", [b"no request", payload(2).body])
def test_a_request_that_cannot_be_taken_apart_goes_to_all(body: bytes) -> None:
    fan_out, destinations, ledgers, transports = fan(ERRORS, [{"name": "other"}])
    for ledger in ledgers:
        ledger.ended(3)
    fan_out.submit(Payload("traces", body, 3))
    assert shutdown_all(destinations, time.monotonic() + 10)
    assert [sent.sent[0].body for sent in transports] == [body, body]
    assert [(one.snapshot().delivered, one.snapshot().filtered) for one in ledgers] == [(3, 0), (3, 0)]
    assert fan_out.untaken == 0


def test_a_bug_in_routing_loses_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    fan_out, destinations, ledgers, _ = fan(ERRORS, REST)
    for ledger in ledgers:
        ledger.ended(2)
    monkeypatch.setattr(Router, "mark", lambda *_: 1 / 0)
    fan_out.submit(spans(0, 2))
    assert shutdown_all(destinations, time.monotonic() + 10)
    assert [(one.snapshot().delivered, one.snapshot().balanced) for one in ledgers] == [(2, True), (2, True)]
    assert "goes to all destinations" in caplog.text


@pytest.mark.parametrize("pattern", ["*a" * 60 + "b", "a*" * 60 + "b", "?*" * 100 + "b", "*" * 5_000 + "b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    compiled, _ = router([[{"attributes": {"x": pattern}}]])
    item = {"name": "", "status": 0, "attributes": {"x": "a" * 5_000_000}}
    one = request("traces", [({}, [item])])
    begun_s = time.process_time()
    assert shares(one, compiled.mark, 1) == [None]
    assert time.process_time() - begun_s < 5
