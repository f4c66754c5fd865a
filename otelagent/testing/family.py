"""Spans as trees: who is below whom, in an order that doesn't change from run to run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from otelagent.testing.types import Span

__all__ = ["as_dicts", "as_text", "in_order", "linked", "roots", "title"]


def linked(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Copies of spans that know their parents and children, in the order of their starting."""
    copies = [replace(span) for span in sorted(spans, key=lambda span: (span.start_ns, span.end_ns))]
    by_id = {(span.trace_id, span.span_id): span for span in copies}
    below: dict[int, list[Span]] = {}
    for span in copies:
        parent = by_id.get((span.trace_id, span.parent_id))
        if parent is not None and parent is not span:
            object.__setattr__(span, "parent", parent)
            below.setdefault(id(parent), []).append(span)
    for span in copies:
        object.__setattr__(span, "children", tuple(below.get(id(span), ())))
    return tuple(copies)


def roots(spans: Iterable[Span]) -> list[Span]:
    """Those whose parents aren't here."""
    return [span for span in spans if span.parent is None]


def title(span: Span, attributes: Collection[str] = ()) -> str:
    """A span on one line: its kind, its name, what went wrong, the chosen attributes that it has."""
    line = f"{span.kind} {span.name}"
    if span.status == "ERROR":
        line += f" ! {span.error}"
    return line + "".join(f" {key}={span.attributes[key]!r}" for key in attributes if key in span.attributes)


def in_order(siblings: Sequence[Span]) -> list[Span]:
    """In the order of their starting; those that ran at the same time by what they say, because chance decided which
    of them came first."""
    ordered: list[Span] = []
    together: list[Span] = []
    until_ns = -1
    for span in sorted(siblings, key=lambda span: span.start_ns):
        if span.start_ns >= until_ns:
            ordered += sorted(together, key=_say)
            together = []
        together.append(span)
        until_ns = max(until_ns, span.end_ns)
    return ordered + sorted(together, key=_say)


def as_text(spans: Iterable[Span], attributes: Collection[str] = ()) -> str:
    """A line for each span, two spaces deeper than its parent's."""
    return "\n".join(_lines(roots(spans), attributes, ""))


def _lines(siblings: Sequence[Span], attributes: Collection[str], indent: str) -> Iterator[str]:
    for span in in_order(siblings):
        yield indent + title(span, attributes)
        yield from _lines(span.children, attributes, indent + "  ")


def _say(span: Span) -> tuple[str, str]:
    attributes = repr(sorted((key, repr(value)) for key, value in span.attributes.items()))
    return "\n".join((title(span), *_lines(span.children, (), "  "))), attributes


def as_dicts(siblings: Sequence[Span], without: Collection[str] = ()) -> list[dict[str, Any]]:
    """Spans with all that is below them as plain data; what is empty is left out, and so is the resource."""
    return [_as_dict(span, without) for span in in_order(siblings)]


def _as_dict(span: Span, without: Collection[str]) -> dict[str, Any]:
    def kept(attributes: dict[str, Any]) -> dict[str, Any]:
        return {key: attributes[key] for key in sorted(attributes) if key not in without}

    data: dict[str, Any] = {
        "name": span.name,
        "kind": span.kind,
        "status": "" if span.status == "UNSET" else span.status,
        "status_message": span.status_message,
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "scope": span.scope.name,
        "attributes": kept(span.attributes),
        "events": [
            {"name": one.name, "time_ns": one.time_ns, "attributes": kept(one.attributes)} for one in span.events
        ],
        "links": [
            {"trace_id": one.trace_id, "span_id": one.span_id, "attributes": kept(one.attributes)} for one in span.links
        ],
        "children": as_dicts(span.children, without),
    }
    return {key: value for key, value in data.items() if value not in ("", [], {})}
