"""Dumps that are the same in every run."""

from __future__ import annotations

from tests.testing.running import Run

pytest_plugins = ["pytester"]

SOURCE = """
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import otelagent
from opentelemetry import context, trace
from opentelemetry.trace import Link

tracer = trace.get_tracer("shop")


def part(number, at):
    context.attach(at)
    with otelagent.span("part", {"number": number}):
        gate.wait(30)


def work():
    global gate
    gate = threading.Barrier(3)
    with otelagent.span("all") as span:
        own = span.get_span_context()
        span.set_attribute("me", f"00-{own.trace_id:032x}-{own.span_id:016x}-01")
        logging.getLogger("shop").warning("in %032x", own.trace_id)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(part, range(3), [context.get_current()] * 3))
    with tracer.start_as_current_span("linked", links=[Link(own)]) as linked:
        try:
            raise ValueError("no")
        except ValueError as error:
            linked.record_exception(error)


@pytest.mark.usefixtures("otelagent_deterministic")
@pytest.mark.parametrize("time", [1, 2])
def test_it(otelagent_spans, time):
    work()
    dump = otelagent_spans.dump()
    assert dump == EXPECTED
    assert json.loads(json.dumps(dump)) == dump
    [record] = [record for record in otelagent_spans.logs if record.scope.name == "shop"]
    assert (record.body, record.trace_id, record.span_id) == (f"in {1:032x}", f"{1:032x}", f"{1:016x}")
    assert record.time_ns == 946684801000000000
    assert otelagent_spans.one("linked").parent is None
    assert [child.attributes["number"] for child in otelagent_spans.one("all").children] == [0, 1, 2]
    assert otelagent_spans.dump(without=["me", "number"])[0]["children"][0].keys().isdisjoint({"attributes"})


def test_the_others_are_as_they_were(otelagent_spans):
    work()
    assert len(otelagent_spans.one("all").trace_id.strip("0")) > 1


EXPECTED = [
    {
        "name": "all",
        "kind": "INTERNAL",
        "trace_id": "00000000000000000000000000000001",
        "span_id": "0000000000000001",
        "start_ns": 946684800000000000,
        "end_ns": 946684808000000000,
        "scope": "otelagent",
        "attributes": {"me": "00-00000000000000000000000000000001-0000000000000001-01"},
        "children": [
            {
                "name": "part",
                "kind": "INTERNAL",
                "trace_id": "00000000000000000000000000000001",
                "span_id": f"000000000000000{number + 2}",
                "parent_id": "0000000000000001",
                "start_ns": 946684802000000000 + number * 2000000000,
                "end_ns": 946684803000000000 + number * 2000000000,
                "scope": "otelagent",
                "attributes": {"number": number},
            }
            for number in range(3)
        ],
    },
    {
        "name": "linked",
        "kind": "INTERNAL",
        "trace_id": "00000000000000000000000000000002",
        "span_id": "0000000000000005",
        "start_ns": 946684809000000000,
        "end_ns": 946684811000000000,
        "scope": "shop",
        "events": [
            {
                "name": "exception",
                "time_ns": 946684810000000000,
                "attributes": {
                    "exception.escaped": "False",
                    "exception.message": "no",
                    "exception.type": "ValueError",
                },
            },
        ],
        "links": [{"trace_id": "00000000000000000000000000000001", "span_id": "0000000000000001", "attributes": {}}],
    },
]
"""


def test_a_dump_is_the_same_in_every_run_and_with_each_engine(run: Run) -> None:
    run.passes(SOURCE).assert_outcomes(passed=3)


SNAPSHOT = """
import otelagent
from inline_snapshot import snapshot


def test_it(otelagent_spans, otelagent_deterministic):
    with otelagent.span("work", {"n": 1}), otelagent.span("part"):
        pass
    assert otelagent_spans.tree(attributes=["n"]) == snapshot()
    assert otelagent_spans.dump() == snapshot()
    assert otelagent_spans.one("part").attributes == snapshot()
"""


def test_inline_snapshot_writes_them_and_finds_them_again(run: Run) -> None:
    plugins = ("otelagent", "inline_snapshot")
    # It writes with the first run, which fails for it.
    run(SNAPSHOT, "--inline-snapshot=create", plugins=plugins)
    written = (run.pytester.path / "test_users.py").read_text()
    assert "'span_id': '0000000000000002'" in written.replace('"', "'")
    run.passes(written, "--inline-snapshot=disable", plugins=plugins)
    changed = written.replace("0000000000000002", "0000000000000003")
    run(changed, "--inline-snapshot=disable", plugins=plugins).assert_outcomes(failed=1)
