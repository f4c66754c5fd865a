"""Counted ids and a stepping clock, for dumps that are the same in every run.

What was recorded is renumbered when it is looked at, in the order of `otelagent.testing.family.in_order`, so that it
holds for any engine and provider, and for other processes. What went over the wire meanwhile, such as a `traceparent`,
had ids by chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from otelagent.testing import family
from otelagent.testing.types import LogRecord, Span

__all__ = ["stepped"]

_BEGIN_NS = 946_684_800_000_000_000
"""2000-01-01T00:00:00Z."""
_STEP_NS = 1_000_000_000

# Paths and line numbers of whatever was running.
_FLEETING = frozenset({"exception.stacktrace"})
_ID = re.compile(r"\b(?:[0-9a-f]{32}|[0-9a-f]{16})\b")


def stepped(spans: Sequence[Span], records: Iterable[LogRecord]) -> tuple[tuple[Span, ...], tuple[LogRecord, ...]]:
    """The same with trace ids and span ids counted from 1, and a time that goes on by a second with each thing that
    happened. Where such an id is part of a text, it is replaced there too. Stack traces are left out.

    Of each span come its start, its events, its log records, what is below it, its end. Log records outside of spans
    come at the end.

    :param spans: linked, see `otelagent.testing.family.linked`.
    """
    return _Renumbering(spans, list(records)).done()


class _Renumbering:
    def __init__(self, spans: Sequence[Span], records: list[LogRecord]) -> None:
        self._spans = spans
        self._roots = family.in_order(family.roots(spans))
        self._records = records
        self._steps = count(_BEGIN_NS, _STEP_NS)
        self._ids: dict[str, str] = {}
        self._new_spans: list[Span] = []
        self._new_records: list[LogRecord] = []

    def done(self) -> tuple[tuple[Span, ...], tuple[LogRecord, ...]]:
        numbers = {32: count(1), 16: count(1)}
        for id_ in self._all_ids(self._roots):
            if id_ and id_ not in self._ids:
                self._ids[id_] = f"{next(numbers[len(id_)]):0{len(id_)}x}"
        for span in self._roots:
            self._walk(span)
        known = {(span.trace_id, span.span_id) for span in self._spans}
        for record in self._records:
            if (record.trace_id, record.span_id) not in known:
                self._add(record)
        return family.linked(self._new_spans), tuple(self._new_records)

    def _all_ids(self, siblings: Sequence[Span]) -> Iterable[str]:
        """In the order in which they are counted; those of parents elsewhere and of links after the spans' own."""
        own: list[str] = []
        others: list[str] = []

        def visit(span: Span) -> None:
            own.extend((span.trace_id, span.span_id))
            others.append(span.parent_id)
            others.extend(id_ for link in span.links for id_ in (link.trace_id, link.span_id))
            for child in family.in_order(span.children):
                visit(child)

        for span in siblings:
            visit(span)
        return (*own, *others, *(id_ for one in self._records for id_ in (one.trace_id, one.span_id)))

    def _walk(self, span: Span) -> None:
        start_ns = next(self._steps)
        events = tuple(
            replace(event, time_ns=next(self._steps), attributes=self._attributes(event.attributes))
            for event in span.events
        )
        for record in self._records:
            if (record.trace_id, record.span_id) == (span.trace_id, span.span_id):
                self._add(record)
        for child in family.in_order(span.children):
            self._walk(child)
        self._new_spans.append(
            replace(
                span,
                trace_id=self._ids[span.trace_id],
                span_id=self._ids[span.span_id],
                parent_id=self._ids.get(span.parent_id, ""),
                start_ns=start_ns,
                end_ns=next(self._steps),
                attributes=self._attributes(span.attributes),
                events=events,
                links=tuple(
                    replace(
                        link,
                        trace_id=self._ids[link.trace_id],
                        span_id=self._ids[link.span_id],
                        attributes=self._attributes(link.attributes),
                    )
                    for link in span.links
                ),
                parent=None,
                children=(),
            )
        )

    def _add(self, record: LogRecord) -> None:
        self._new_records.append(
            replace(
                record,
                trace_id=self._ids.get(record.trace_id, ""),
                span_id=self._ids.get(record.span_id, ""),
                time_ns=next(self._steps),
                body=self._value(record.body),
                attributes=self._attributes(record.attributes),
            )
        )

    def _attributes(self, attributes: dict[str, Any]) -> dict[str, Any]:
        return {key: self._value(value) for key, value in attributes.items() if key not in _FLEETING}

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return _ID.sub(lambda found: self._ids.get(found.group(), found.group()), value)
        if isinstance(value, list):
            return [self._value(one) for one in value]
        return self._attributes(value) if isinstance(value, dict) else value
