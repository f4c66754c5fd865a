"""The rows of a tree: spans below their parents, and those that are alike as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from otelagent.terminal.spans import Span

__all__ = ["Row", "rows"]

# So many siblings that are alike, and more, are one row.
_FOLDED = 3
# A branch doesn't go further to the right than this; deeper spans stand below each other.
_MAX_DEPTH = 24


@dataclass(frozen=True)
class Row:
    """One row.

    :ivar spans: the one that is shown, or those that are alike; in the order of their start.
    :ivar branch: what is drawn before it.
    :ivar below: what is drawn before a further line of it.
    :ivar service: where it isn't its parent's.
    :ivar about: what all of them have in `Span.about`; empty if they differ.
    """

    spans: Sequence[Span]
    branch: str
    below: str
    service: str
    about: str


def rows(spans: Sequence[Span], *, unicode: bool) -> Iterator[Row]:
    """The rows from the top down. Every span is in one of them once, also where parents are missing or go in circles.

    :param unicode: whether branches are drawn in more than ASCII.
    """
    fork, corner, line = ("├─ ", "└─ ", "│  ") if unicode else ("|- ", "`- ", "|  ")
    below = _children(spans)
    ids = {span.span_id for span in spans}
    ordered = sorted(spans, key=lambda span: span.start_ns)
    roots = [span for span in ordered if span.parent_id not in ids or span.parent_id == span.span_id]
    done: set[int] = set()
    # What is still to be drawn, the next one last: a row's spans, its parent's service, its two prefixes, its depth.
    stack = [([span], "", "", "", 0) for span in reversed(roots)]
    left = iter(ordered)
    while True:
        if not stack:
            # Spans that are each other's ancestors hang on no root: one of them becomes one.
            rest = next((span for span in left if id(span) not in done), None)
            if rest is None:
                return
            stack.append(([rest], "", "", "", 0))
        group, service, branch, indent, depth = stack.pop()
        group = [span for span in group if id(span) not in done]
        if not group:
            continue
        done.update(id(span) for span in group)
        first = group[0]
        children = [child for span in group for child in below.get(span.span_id, ()) if id(child) not in done]
        groups = _folded(children)
        about = first.about if all(span.about == first.about for span in group) else ""
        under = indent + (line if groups else "   ")
        yield Row(group, branch, under, first.service if first.service != service else "", about)
        for number in range(len(groups) - 1, -1, -1):
            last = number == len(groups) - 1
            inner = indent if depth >= _MAX_DEPTH else indent + ("   " if last else line)
            stack.append((groups[number], first.service, indent + (corner if last else fork), inner, depth + 1))


def _children(spans: Sequence[Span]) -> dict[bytes, list[Span]]:
    below: dict[bytes, list[Span]] = {}
    for span in spans:
        below.setdefault(span.parent_id, []).append(span)
    return below


def _folded(siblings: list[Span]) -> list[list[Span]]:
    """Those that are alike together, in the order of the first one's start."""
    siblings.sort(key=lambda span: span.start_ns)
    alike: dict[tuple[object, ...], list[Span]] = {}
    for span in siblings:
        # One route has many addresses; another statement does something else.
        about = "" if "://" in span.about else span.about
        alike.setdefault((span.service, span.kind, span.name, about, span.failed, span.error), []).append(span)
    groups = []
    for group in alike.values():
        groups += [group] if len(group) >= _FOLDED else [[span] for span in group]
    groups.sort(key=lambda group: group[0].start_ns)
    return groups
