"""Trees, selections and sums of what was recorded, from values alone."""

from __future__ import annotations

import dataclasses
import os
import random
import re
import subprocess
import sys
from typing import Any

import pytest

import otelagent.testing
from otelagent.testing import Event, Point, Scope, Span, Telemetry
from otelagent.testing.measured import MetricPoint, measured


class Made(Telemetry):
    """Of spans that are given."""

    def __init__(self, *spans: Span, deterministic: bool = False) -> None:
        super().__init__(deterministic=deterministic)
        self._spans += spans


def span(name: str, number: int, parent: int = 0, at: tuple[int, int] = (0, 1), **values: Any) -> Span:
    return Span(
        name=name,
        trace_id=f"{1:032x}",
        span_id=f"{number:016x}",
        parent_id=f"{parent:016x}" if parent else "",
        start_ns=at[0],
        end_ns=at[1],
        **values,
    )


def test_siblings_are_in_the_order_of_starting_but_those_at_the_same_time_by_what_they_say() -> None:
    spans = [
        span("root", 1, at=(0, 100)),
        span("z first", 2, 1, (1, 10)),
        span("b", 3, 1, (20, 40)),
        span("a", 4, 1, (30, 50)),
        span("same", 5, 1, (45, 48), attributes={"n": 2}),
        span("same", 6, 1, (46, 49), attributes={"n": 1}),
        span("below", 7, 3, (21, 22)),
        span("a last", 8, 1, (50, 60)),
    ]
    expected = """\
INTERNAL root
  INTERNAL z first
  INTERNAL a
  INTERNAL b
    INTERNAL below
  INTERNAL same n=1
  INTERNAL same n=2
  INTERNAL a last"""
    for _ in range(20):
        random.shuffle(spans)
        assert Made(*spans).tree(attributes=["n"]) == expected
        assert [one["name"] for one in Made(*spans, deterministic=True).dump()[0]["children"]][-1] == "a last"


def test_a_tree_survives_what_no_program_should_send() -> None:
    own = span("its own parent", 1, 1)
    orphan = span("of a parent elsewhere", 2, 9)
    twice = span("twice", 3), span("twice", 3)
    tree = Made(own, orphan, *twice).tree()
    assert tree.count("\n") == 3
    assert Made().tree() == ""
    assert Made(own, orphan, *twice, deterministic=True).tree() == tree


def test_a_tree_may_be_deep_and_broken_programs_may_make_rings() -> None:
    chain = [span(f"{n}", n + 1, n, (n, 20_000 - n)) for n in range(5_000)]
    # Each level has two that run at the same time, whose order takes a look at all below them.
    beside = [span("beside", n + 10_001, n, (n, 20_000 - n)) for n in range(5_000)]
    made = Made(*chain, *beside, deterministic=True)
    lines = made.tree().splitlines()
    assert len(lines) == 10_000
    assert lines[4_999] == "  " * 4_999 + "INTERNAL 4999"
    assert len(made.dump()) == 2
    ring = Made(span("a", 1, 3), span("b", 2, 1), span("c", 3, 2), span("d", 4, 3))
    assert ring.tree() == "INTERNAL a\n  INTERNAL b\n    INTERNAL c\n      INTERNAL d"
    assert ring.one("a").parent is None


def test_errors_say_what_went_wrong() -> None:
    raised = Event("exception", {"exception.type": "KeyError"}, 0)
    assert span("a", 1).error == ""
    assert span("a", 1, status="ERROR").error == "ERROR"
    assert span("a", 1, status="ERROR", status_message="no").error == "no"
    assert span("a", 1, status="ERROR", status_message="no", events=(raised,)).error == "KeyError"
    assert span("a", 1, status="ERROR", attributes={"error.type": "500"}, events=(raised,)).error == "500"


def test_what_is_asked_for() -> None:
    made = Made(
        span("GET /a", 1, kind="SERVER", attributes={"n": 1}),
        span("GET /b", 2, kind="SERVER", status="ERROR", attributes={"n": 2, "list": [1]}),
        span("work", 3),
    )
    assert [one.name for one in made.all(re.compile("^GET"))] == ["GET /a", "GET /b"]
    assert [one.name for one in made.all(kind="internal")] == ["work"]
    assert [one.name for one in made.all(attributes={"list": [1]}, status="error")] == ["GET /b"]
    assert made.one("work") is made.spans[2]
    assert len(made) == 3
    assert [one.name for one in made.errors] == ["GET /b"]
    with pytest.raises(AssertionError, match="2 spans with kind SERVER, one was expected\n3 spans:\n  INTERNAL work"):
        made.one(kind="SERVER")
    with pytest.raises(AssertionError, match=r"no span with name like '\^POST', n 3\n3 spans"):
        made.one(re.compile("^POST"), attributes={"n": 3})
    with pytest.raises(AssertionError, match="nearest:\n  SERVER GET /b ! ERROR: its n is 2\n"):
        made.one("GET /b", kind="SERVER", attributes={"n": 3})
    with pytest.raises(AssertionError, match="3 spans at all, one was expected"):
        made.one()
    with pytest.raises(AssertionError, match=r"no span at all\n0 spans$"):
        Made().one()


def test_spans_are_read_only() -> None:
    [one] = Made(span("a", 1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.name = "b"  # type: ignore[misc]


def point(value: float, level: bool = False, count: int | None = None, **attributes: object) -> MetricPoint:
    own = Point(
        attributes=attributes, value=value, count=count, minimum=value, maximum=value, counts=(1,) if count else ()
    )
    return MetricPoint("m", "sum", "s", "", Scope("shop"), {"service.name": "shop"}, level, own)


def test_points_add_up_and_levels_replace() -> None:
    assert measured([point(1), point(2)])["m"].value == 3
    assert measured([point(1, level=True), point(2, level=True)])["m"].value == 2
    both = measured([point(1, kind="a"), point(2, kind="b"), point(4, kind="a")])["m"]
    assert {one.attributes["kind"]: one.value for one in both.points} == {"a": 5, "b": 2}
    with pytest.raises(AssertionError, match="m has 2 series"):
        both.value  # noqa: B018
    histogram = measured([point(3, count=1), point(5, count=1)])["m"].points[0]
    assert (histogram.value, histogram.count, histogram.minimum, histogram.maximum, histogram.counts) == (
        8,
        2,
        3,
        5,
        (2,),
    )


def test_the_public_names_are_there() -> None:
    for name in otelagent.testing.__all__:
        assert getattr(otelagent.testing, name).__doc__
    assert set(otelagent.testing.__all__) <= set(dir(otelagent.testing))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        otelagent.testing.nothing  # noqa: B018


def test_without_pytest() -> None:
    program = """
import otelagent
from otelagent.testing import capture

with capture() as spans:
    with otelagent.span("work"):
        pass
    with capture() as inner, otelagent.span("more"):
        pass
assert spans.tree() == "INTERNAL work\\nINTERNAL more", spans.tree()
assert inner.tree() == "INTERNAL more"
with otelagent.span("after"):
    pass
assert len(spans) == 2
sources = {one["name"]: one["source"] for one in otelagent.status()["settings"]}
assert sources["exporter"] == "otelagent.testing"
import sys
assert "pytest" not in sys.modules
"""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL")}
    subprocess.run([sys.executable, "-W", "error", "-c", program], env=environ, check=True, timeout=60)


def test_what_a_failed_assertion_shows_counts_its_spans() -> None:
    one, two = span("one", 1), span("two", 2)
    assert [repr(Made(*spans)) for spans in ((), (one,), (one, two))] == [
        "<Made: 0 spans>",
        "<Made: 1 span>",
        "<Made: 2 spans>",
    ]
