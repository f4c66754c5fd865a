"""For pytest in the SDK's own tests: what the table says must fail, and nothing else may."""

from __future__ import annotations

import importlib
import json
import os
import sys
import unittest
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.sdk import trace
from opentelemetry.trace import Link, SpanContext, Tracer

# The tests load the SDK's module anew for another environment, which ours reads whenever a provider is made.
importlib.reload = lambda module: module

_assert_is = unittest.TestCase.assertIs


def _assert_is_or_equals(self: unittest.TestCase, first: Any, second: Any, msg: Any = None) -> None:
    # The context of a parent is made when it is asked for: equal each time, not identical (test_differences.py).
    if isinstance(first, SpanContext):
        assert first == second, msg
    else:
        _assert_is(self, first, second, msg)


unittest.TestCase.assertIs = _assert_is_or_equals  # type: ignore[assignment,method-assign]


def new_tracer(span_limits: Any = None, resource: Any = None) -> Tracer:
    """A tracer of a new provider."""
    return trace.TracerProvider(span_limits=span_limits, resource=resource).get_tracer("tests")


def get_span_with_dropped_attributes_events_links() -> Any:
    """An open span over its limits by two attributes, three events and a link, which lost two attributes each."""
    three = {"a": 1, "b": 2, "c": 3}
    limits = trace.SpanLimits(max_attributes=1, max_events=1, max_links=1)
    links = [Link(SpanContext(1, number, is_remote=False), three) for number in (1, 2)]
    span: Any = new_tracer(limits).start_span("span", attributes=three, links=links)
    for number in range(4):
        span.add_event(f"event {number}", three)
    return span


# What the tests take from a distribution that isn't released with each SDK.
_helpers = ModuleType("opentelemetry.test.spantestutil")
vars(_helpers).update({one.__name__: one for one in (new_tracer, get_span_with_dropped_attributes_events_links)})
sys.modules.setdefault("opentelemetry.test", ModuleType("opentelemetry.test"))
sys.modules[_helpers.__name__] = _helpers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what must fail; an entry of the table without a test is an error."""
    failing: dict[str, str] = json.loads(os.environ["FAILING"])
    for item in items:
        reason = failing.pop(item.nodeid.partition("tests/trace/")[2], None)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
    if failing:
        raise pytest.UsageError(f"no such tests: {sorted(failing)}")
