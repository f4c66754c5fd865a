"""Every row of docs/values.md with both engines: what arrives is what the document says, and the same from both."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.parity.value_program import NAMES, tables
from tests.unit.record.recorder import _value, attributes

VALUES, CALLS = tables()


@cache
def delivered(engine: str) -> dict[str, bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.value_program", engine],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stdout
    return {case: base64.b64decode(body) for case, body in json.loads(done.stdout).items()}


def test_the_tables_are_read() -> None:
    assert len(VALUES) > 20
    assert len(CALLS) > 20


@pytest.mark.parametrize(("example", "recorded", "whole"), VALUES, ids=[row[0] for row in VALUES])
def test_a_value(engine: str, example: str, recorded: str, whole: str) -> None:
    # By their repr, because NaN isn't equal to itself.
    expected = repr(eval(recorded, NAMES))
    lost = {"yes": 0, "no": 1}[whole]
    span = Span.FromString(delivered(engine)[example])
    assert {key: repr(value) for key, value in attributes(span.attributes).items()} == {
        "one": expected,
        "two": expected,
    }
    assert span.dropped_attributes_count == 2 * lost
    started = Span.FromString(delivered(engine)[f"start {example}"])
    record = LogRecord.FromString(delivered(engine)[f"log {example}"])
    one: Any
    for one in (*span.events, *span.links, started, *started.links, record):
        assert {key: repr(value) for key, value in attributes(one.attributes).items()} == {"k": expected}
        assert one.dropped_attributes_count == lost
    assert repr(_value(record.body)) == expected


@pytest.mark.parametrize(("call", "check"), CALLS, ids=[row[0] for row in CALLS])
def test_a_call(engine: str, call: str, check: str) -> None:
    got = Span.FromString(delivered(engine)[call])
    names: dict[str, Any] = {**NAMES, "got": got, "attributes": attributes(got.attributes)}
    if got.events:
        names["exception"] = attributes(got.events[0].attributes)
    assert eval(check, names), str(got)[:2000]
