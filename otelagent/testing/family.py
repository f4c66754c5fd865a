"""Spans as trees: who is below whom, in an order that doesn't change from run to run.

Nothing here recurses: a recursive function that is traced makes as deep a tree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from otelagent.testing.types import Span

__all__ = ["Forest", "as_dicts", "as_text", "linked", "title", "walk"]

_Key = tuple[str, str, str]


@dataclass(frozen=True)
class Forest:
    """Spans that know their parents and children.

    :ivar spans: all, in the order of their starting.
    :ivar roots: those whose parents aren't here, ordered as siblings are, see `linked`.
    """

    spans: tuple[Span, ...]
    roots: tuple[Span, ...]


def linked(spans: Iterable[Span]) -> Forest:
    """Copies of spans as a forest.

    Siblings are in the order of their starting; those that ran at the same time in the order of what they say, because
    chance decided which of them came first.
    """
    copies = [replace(span) for span in sorted(spans, key=lambda span: (span.start_ns, span.end_ns))]
    by_id = {(span.trace_id, span.span_id): span for span in copies}
    below: dict[int, list[Span]] = {id(span): [] for span in copies}
    roots: list[Span] = []
    for span in copies:
        parent = by_id.get((span.trace_id, span.parent_id))
        object.__setattr__(span, "parent", parent)
        (roots if parent is None else below[id(parent)]).append(span)
    order = _from_above(roots, below)
    reached = {id(span) for span in order}
    for span in copies:
        if id(span) not in reached and span.parent is not None:
            # They are each other's parents, which only a broken program can say.
            below[id(span.parent)] = [one for one in below[id(span.parent)] if one is not span]
            object.__setattr__(span, "parent", None)
            roots.append(span)
            more = _from_above([span], below)
            order += more
            reached.update(map(id, more))
    keys: dict[int, _Key] = {}
    for span in reversed(order):
        children = _arranged(below[id(span)], keys)
        object.__setattr__(span, "children", tuple(children))
        keys[id(span)] = _key(span, [keys[id(child)] for child in children])
    return Forest(tuple(copies), tuple(_arranged(roots, keys)))


def _from_above(roots: Sequence[Span], below: Mapping[int, Sequence[Span]]) -> list[Span]:
    """Each before its children."""
    order = list(roots)
    for span in order:
        order += below[id(span)]
    return order


def _arranged(siblings: Sequence[Span], keys: Mapping[int, _Key]) -> list[Span]:
    arranged: list[Span] = []
    together: list[Span] = []
    until_ns = -1
    for span in sorted(siblings, key=lambda span: span.start_ns):
        if span.start_ns >= until_ns:
            arranged += sorted(together, key=lambda span: keys[id(span)])
            together = []
        together.append(span)
        until_ns = max(until_ns, span.end_ns)
    return arranged + sorted(together, key=lambda span: keys[id(span)])


def _key(span: Span, below: Sequence[_Key]) -> _Key:
    attributes = repr(sorted((key, repr(value)) for key, value in span.attributes.items()))
    return title(span), attributes, blake2b(repr(below).encode(errors="replace"), digest_size=16).hexdigest()


def walk(siblings: Sequence[Span]) -> Iterator[tuple[Span, int, bool]]:
    """Each span with how deep it lies, twice: when it is come to, and (then it is false) when all below it is done."""
    waiting = [(span, 0, True) for span in reversed(siblings)]
    while waiting:
        span, depth, comes = waiting.pop()
        yield span, depth, comes
        if comes:
            waiting.append((span, depth, False))
            waiting += [(child, depth + 1, True) for child in reversed(span.children)]


def title(span: Span, attributes: Collection[str] = ()) -> str:
    """A span on one line: its kind, its name, what went wrong, the chosen attributes that it has."""
    line = f"{span.kind} {span.name}"
    if span.status == "ERROR":
        line += f" ! {span.error}"
    return line + "".join(f" {key}={span.attributes[key]!r}" for key in attributes if key in span.attributes)


def as_text(forest: Forest, attributes: Collection[str] = ()) -> str:
    """A line for each span, two spaces deeper than its parent's."""
    return "\n".join("  " * depth + title(span, attributes) for span, depth, comes in walk(forest.roots) if comes)


def as_dicts(forest: Forest, without: Collection[str] = ()) -> list[dict[str, Any]]:
    """Spans with all that is below them as plain data; what is empty is left out, and so is the resource."""
    levels: list[list[dict[str, Any]]] = [[]]
    for span, _, comes in walk(forest.roots):
        if comes:
            levels[-1].append(_as_dict(span, without))
            levels.append([])
        elif children := levels.pop():
            levels[-1][-1]["children"] = children
    return levels[0]


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
    }
    return {key: value for key, value in data.items() if value not in ("", [], {})}
