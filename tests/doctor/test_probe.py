"""The probe changes nothing of what it counts, and writes nowhere but into its directory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otelagent.doctor.journal import Journal, read
from tests.doctor.harness import clean_environ, doctor
from tests.support import native_or_skip

PROGRAM = """
import asyncio, json, sqlite3, sys
import otelagent
from opentelemetry import trace
from opentelemetry.trace import SpanKind

tracer = trace.get_tracer("shop", "2")

@tracer.start_as_current_span("decorated", kind=SpanKind.PRODUCER, attributes={"n": 1})
def decorated():
    sqlite3.connect(":memory:").execute("select 1")
    return trace.get_current_span().get_span_context().is_valid

@tracer.start_as_current_span("awaited")
async def awaited():
    await asyncio.sleep(0)
    return 7

@otelagent.instrument
def fails():
    raise LookupError("no such order")

told = [decorated(), decorated(), asyncio.run(awaited())]
with tracer.start_as_current_span("outer") as outer:
    inner = tracer.start_span("inner", links=[trace.Link(outer.get_span_context())])
    inner.end()
    try:
        fails()
    except LookupError as error:
        told.append(str(error))
print(json.dumps(told))
"""


def spans(path: Path) -> list[tuple[Any, ...]]:
    """What is the same in every run."""
    found = [
        (scope["scope"]["name"], span)
        for line in path.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    names = {span["spanId"]: span["name"] for _, span in found}
    return sorted(
        (
            scope,
            span["name"],
            span["kind"],
            names.get(span.get("parentSpanId", ""), ""),
            json.dumps(span.get("status", {}), sort_keys=True),
            len(span.get("links", ())),
            sorted(one["key"] for one in span.get("attributes", ())),
            [one["name"] for one in span.get("events", ())],
        )
        for scope, span in found
        if scope != "otelagent.doctor"
    )


@pytest.mark.parametrize("engine", ["native", "sdk"])
def test_an_application_is_the_same_with_and_without_it(engine: str, tmp_path: Path) -> None:
    if engine == "native":
        native_or_skip()
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    options = ("--exporter=file", f"--engine={engine}")
    without = subprocess.run(
        ["otelagent-run", *options, f"--file={tmp_path / 'without'}", sys.executable, str(program)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=clean_environ(),
    )
    report = doctor(*options, f"--file={tmp_path / 'with'}", command=(sys.executable, str(program)))
    assert report.out == without.stdout
    assert spans(tmp_path / "with") == spans(tmp_path / "without")
    counted = {row["scope"]: (row["started"], row["sampled"], row["queued"]) for row in report.json["ledger"]}
    assert counted["shop"] == (5, 5, 5)
    assert counted["otelagent_instrumentation.db.sqlite3"] == (2, 2, 2)
    assert report.status("delivery") == "pass"


def test_counts_outlive_the_process(tmp_path: Path) -> None:
    program = f"""
import os
from otelagent.doctor.journal import Journal
journal = Journal({str(tmp_path)!r})
journal.tell("started", argv=["a"])
for scope in ["one", "two", "one", "x" * 1000]:
    journal.count("traces", scope, "started")
journal.count("traces", "one", "accepted", 2, "http://somewhere")
if os.fork() == 0:
    journal.after_fork_in_child()
    journal.count("traces", "one", "started", 5)
    journal.tell("started", argv=["b"])
    os._exit(0)
os.wait()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], timeout=60, env=clean_environ())
    parent, child = read(str(tmp_path))
    assert [(row.scope[:3], row.counts["started"]) for row in parent.rows] == [
        ("one", 2),
        ("two", 1),
        ("xxx", 1),
        ("one", 0),
    ]
    assert parent.rows[3].counts["accepted"] == 2
    assert parent.total("started") == 4
    assert child.total("started") == 5


def test_many_scopes_and_no_room(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    journal.tell("started")
    for number in range(2000):
        journal.count("traces", f"scope {number}", "started")
    (process,) = read(str(tmp_path))
    assert process.total("started") == 2000
    assert process.rows[-1].scope == "others"
    gone = Journal(str(tmp_path / "not there"))
    gone.tell("started")
    gone.count("traces", "scope", "started")
    gone.after_fork_in_child()
