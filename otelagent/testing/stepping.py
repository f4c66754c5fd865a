"""Counted ids and a stepping clock, for dumps that are the same in every run.

What was recorded is renumbered when it is looked at, in the order of its trees, so that it holds for any engine and
provider, and for other processes. What went over the wire meanwhile, such as a `traceparent`, had ids by chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, count
from typing import Any

from otelagent.testing.family import Forest, linked, walk
from otelagent.testing.types import Event, LogRecord, Span

__all__ = ["stepped"]

_BEGIN_NS = 946_684_800_000_000_000
"""2000-01-01T00:00:00Z."""
_STEP_NS = 1_000_000_000

# Paths and line numbers of whatever was running.
_FLEETING = frozenset({"exception.stacktrace"})
_ID = re.compile(r"\b(?:[0-9a-f]{32}|[0-9a-f]{16})\b")


def stepped(forest: Forest, records: Sequence[LogRecord]) -> tuple[Forest, tuple[LogRecord, ...]]:
    """The same with trace ids and span ids counted from 1, and a time that goes on by a second with each thing that
    happened. Where such an id is part of a text, it is replaced there too. Stack traces are left out.

    Of each span come its start, its events, its log records, what is below it, its end. Log records outside of spans
    come at the end.
    """
    ids = _Ids(forest, records)
    steps = count(_BEGIN_NS, _STEP_NS)
    logged: dict[tuple[str, str], list[LogRecord]] = {}
    for record in records:
        logged.setdefault((record.trace_id, record.span_id), []).append(record)
    spans: list[Span] = []
    new_records: list[LogRecord] = []
    begun: list[tuple[int, tuple[Event, ...]]] = []
    for span, _, comes in walk(forest.roots):
        if comes:
            start_ns = next(steps)
            events = tuple(
                replace(one, time_ns=next(steps), attributes=ids.attributes(one.attributes)) for one in span.events
            )
            begun.append((start_ns, events))
            here = logged.pop((span.trace_id, span.span_id), ())
            new_records += [ids.of_record(record, next(steps)) for record in here]
        else:
            start_ns, events = begun.pop()
            spans.append(replace(ids.of_span(span), start_ns=start_ns, end_ns=next(steps), events=events))
    new_records += [ids.of_record(record, next(steps)) for record in chain.from_iterable(logged.values())]
    return linked(spans), tuple(new_records)


class _Ids:
    """Puts numbers in the place of ids: those of spans first, in their order, then those of parents and spans elsewhere
    that are named."""

    def __init__(self, forest: Forest, records: Sequence[LogRecord]) -> None:
        self._numbers: dict[str, str] = {}
        counts = {32: count(1), 16: count(1)}
        for id_ in _all_ids(forest, records):
            if len(id_) in counts and id_ not in self._numbers:
                self._numbers[id_] = f"{next(counts[len(id_)]):0{len(id_)}x}"

    def _of(self, id_: str) -> str:
        return self._numbers.get(id_, id_)

    def of_span(self, span: Span) -> Span:
        """A span but for its times and events."""
        return replace(
            span,
            trace_id=self._of(span.trace_id),
            span_id=self._of(span.span_id),
            parent_id=self._of(span.parent_id),
            attributes=self.attributes(span.attributes),
            links=tuple(
                replace(
                    link,
                    trace_id=self._of(link.trace_id),
                    span_id=self._of(link.span_id),
                    attributes=self.attributes(link.attributes),
                )
                for link in span.links
            ),
        )

    def of_record(self, record: LogRecord, time_ns: int) -> LogRecord:
        """A log record."""
        return replace(
            record,
            trace_id=self._of(record.trace_id),
            span_id=self._of(record.span_id),
            time_ns=time_ns,
            body=self._value(record.body),
            attributes=self.attributes(record.attributes),
        )

    def attributes(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Attributes without what differs from run to run."""
        return {key: self._value(value) for key, value in attributes.items() if key not in _FLEETING}

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return _ID.sub(lambda found: self._of(found.group()), value)
        if isinstance(value, list):
            return [self._value(one) for one in value]
        return self.attributes(value) if isinstance(value, dict) else value


def _all_ids(forest: Forest, records: Sequence[LogRecord]) -> Iterator[str]:
    order = [span for span, _, comes in walk(forest.roots) if comes]
    for span in order:
        yield from (span.trace_id, span.span_id)
    for span in order:
        yield span.parent_id
        for link in span.links:
            yield from (link.trace_id, link.span_id)
    for record in records:
        yield from (record.trace_id, record.span_id)
