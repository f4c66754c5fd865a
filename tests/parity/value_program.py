"""Records every case of docs/values.md with one engine, in a process of its own: some would crash a weaker one.

``python -m tests.parity.value_program <engine>`` prints, by case, the span or log record that was delivered, as base64.
"""

from __future__ import annotations

import base64
import enum
import json
import re
import resource
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from itertools import count
from math import inf, nan
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy
from opentelemetry.trace import Link, SpanContext, StatusCode, TraceFlags

from tests.unit.record.log_recorder import LogRecorder
from tests.unit.record.recorder import Recorder

DOCUMENT = Path(__file__).parents[2] / "docs" / "values.md"


class Color(enum.Enum):
    """An enumeration of neither ints nor texts."""

    RED = 1


class Shouting(str):
    """A text whose methods aren't str's."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()

    def __len__(self) -> int:
        raise ValueError("no length")

    def __eq__(self, other: object) -> bool:
        raise ValueError("not comparable")

    def __hash__(self) -> int:
        raise ValueError("not hashable")


class Plain:
    """Says nothing of itself."""


class Unwritable:
    """Raises whatever is asked of it."""

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("no")

    __str__ = __repr__ = __len__ = __bool__ = __iter__ = __eq__ = __hash__ = __index__ = __float__ = _raise


class Unreadable(Mapping[str, Any]):
    """A mapping that can't be read."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no item")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no keys")

    def __len__(self) -> int:
        raise RuntimeError("no length")


class Unprintable(Exception):
    """An exception without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


for _made in (Plain, Unwritable, Unreadable, Unprintable):
    _made.__module__ = "shop"


def cyclic() -> list[Any]:
    """A list that contains itself."""
    value: list[Any] = [1]
    value.append(value)
    return value


def nested(levels: int, inside: object) -> object:
    """A value in so many lists."""
    for _ in range(levels):
        inside = [inside]
    return inside


def mapped(levels: int, inside: object) -> object:
    """A value in so many dicts."""
    for _ in range(levels):
        inside = {"k": inside}
    return inside


def is_now(time_ns: int) -> bool:
    """Whether a time is of the last hour."""
    return abs(time_ns - time.time_ns()) < 3600 * 10**9


#: What the document's expressions may name.
NAMES: dict[str, Any] = {
    **{one.__name__: one for one in (Color, Shouting, Plain, Unwritable, Unreadable, Unprintable)},
    **{one.__name__: one for one in (cyclic, nested, mapped, is_now, deque, date, Decimal, HTTPStatus, count, UUID)},
    **{one.__name__: one for one in (StatusCode, SpanContext, Link, TraceFlags, numpy)},
    "inf": inf,
    "nan": nan,
}


def tables() -> tuple[list[list[str]], list[list[str]]]:
    """The document's two tables: of each row its code and what follows it."""
    rows = [
        [*re.findall(r"`([^`]+)`", cells[1] + cells[2]), *cells[3:]]
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| ")
        and (cells := [cell.strip() for cell in line.strip("|").split(" | ")])[1].startswith("`")
    ]
    return [row for row in rows if len(row) == 3], [row for row in rows if len(row) == 2]


def program(engine: str) -> dict[str, str]:
    """What is delivered of each case, in base64."""
    values, calls = tables()
    got: dict[str, bytes] = {}
    spans, logs = Recorder(engine=engine), LogRecorder(engine)

    def span_of(act: Callable[[Any], object]) -> bytes:
        spans.requests.clear()
        span = spans.tracer.start_span("a")
        act(span)
        if span.is_recording():
            span.end()
        (delivered,) = spans.spans()
        return delivered.SerializeToString()

    for example, *_ in values:
        value = eval(example, NAMES)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def everywhere(span: Any, value: object = value) -> None:
            span.set_attribute("one", value)
            span.set_attributes({"two": value})
            span.add_event("event", {"k": value})
            span.add_link(SpanContext(1, 2, False), {"k": value})

        got[example] = span_of(everywhere)
        spans.requests.clear()
        spans.tracer.start_span(
            "a", attributes={"k": value}, links=[Link(SpanContext(1, 2, False), {"k": value})]
        ).end()
        (delivered,) = spans.spans()
        got[f"start {example}"] = delivered.SerializeToString()
        logs.requests.clear()
        logs.logger.emit(body=value, attributes={"k": value})
        (record,) = logs.records()
        got[f"log {example}"] = record.SerializeToString()
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown_kib < 64 * 1024, f"{example} took {grown_kib} KiB"
    for call, _ in calls:
        code = compile(call, call, "eval")
        got[call] = span_of(partial(lambda code, span: eval(code, {**NAMES, "span": span}), code))
    spans.close()
    logs.close()
    return {case: base64.b64encode(body).decode() for case, body in got.items()}


if __name__ == "__main__":
    # Less stack than a thread of most servers has.
    threading.stack_size(512 * 1024)
    outcome: list[dict[str, str]] = []
    thread = threading.Thread(target=lambda: outcome.append(program(sys.argv[1])))
    thread.start()
    thread.join()
    print(json.dumps(outcome[0]))
