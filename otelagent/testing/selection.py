"""Which spans a test means, and what to tell it when there are none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from otelagent.testing.family import title
from otelagent.testing.types import Span

__all__ = ["Selection", "nearest"]

_SHOWN = 3
_ABSENT = object()


@dataclass(frozen=True)
class Selection:
    """What a test asks for; what is None doesn't matter.

    :ivar name: the whole name, or a pattern that is searched in it.
    :ivar attributes: what these attributes are equal to.
    """

    name: str | re.Pattern[str] | None
    kind: str | None
    status: str | None
    attributes: Mapping[str, Any] | None

    def misses(self, span: Span) -> list[str]:
        """What of a span is otherwise, each in words; none for one that is meant."""
        found = []
        if self.name is not None and not _named(self.name, span.name):
            found.append(f"its name is {span.name!r}")
        if self.kind is not None and self.kind.upper() != span.kind:
            found.append(f"its kind is {span.kind}")
        if self.status is not None and self.status.upper() != span.status:
            found.append(f"its status is {span.status}")
        for key, wanted in (self.attributes or {}).items():
            value = span.attributes.get(key, _ABSENT)
            if value is _ABSENT:
                found.append(f"it has no {key}")
            elif value != wanted:
                found.append(f"its {key} is {value!r}")
        return found

    def among(self, spans: Iterable[Span]) -> list[Span]:
        """Those that are meant."""
        return [span for span in spans if not self.misses(span)]

    def __str__(self) -> str:
        parts = []
        if self.name is not None:
            parts.append(f"name {self.name!r}" if isinstance(self.name, str) else f"name like {self.name.pattern!r}")
        parts += [f"{what} {value.upper()}" for what, value in (("kind", self.kind), ("status", self.status)) if value]
        parts += [f"{key} {value!r}" for key, value in (self.attributes or {}).items()]
        return "with " + ", ".join(parts) if parts else "at all"


def nearest(selection: Selection, spans: Sequence[Span]) -> list[str]:
    """A line for each of the spans that come nearest to what was asked for, with what of it is otherwise."""
    rated = [(len(misses), _distance(selection, span), span, misses) for span, misses in _with_misses(selection, spans)]
    rated.sort(key=lambda one: one[:2])
    asked = sum(one is not None for one in (selection.name, selection.kind, selection.status))
    asked += len(selection.attributes or {})
    # One that has nothing of it is near only if its name is.
    near = [one for one in rated if one[0] < asked or one[1] < 0.5][:_SHOWN]
    return [f"{title(span)}: {', '.join(misses)}" for _, _, span, misses in near]


def _with_misses(selection: Selection, spans: Sequence[Span]) -> list[tuple[Span, list[str]]]:
    return [(span, misses) for span in spans if (misses := selection.misses(span))]


def _distance(selection: Selection, span: Span) -> float:
    if selection.name is None:
        return 1.0
    wanted = selection.name if isinstance(selection.name, str) else selection.name.pattern
    return 1.0 - SequenceMatcher(None, wanted, span.name).ratio()


def _named(wanted: str | re.Pattern[str], name: str) -> bool:
    return wanted == name if isinstance(wanted, str) else wanted.search(name) is not None
