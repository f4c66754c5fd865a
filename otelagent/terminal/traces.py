"""From spans in the order of their end to what one process has done of a trace: a root and what is below it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from otelagent.terminal.spans import Span

__all__ = ["LocalTrace", "LocalTraces"]

# Spans that wait for their root, in all traces and in one; about a kilobyte each.
MAX_WAITING = 10_000
_MAX_WAITING_OF_TRACE = 2_000
# Traces with spans that wait, and ids of spans that were shown, by which it is known who comes late.
_MAX_TRACES = 1_000
_MAX_SHOWN = 20_000


@dataclass(frozen=True)
class LocalTrace:
    """A span whose parent is elsewhere, or not there, and all below it in this process.

    :ivar spans: the root first; of more than are kept, the first to end.
    :ivar late: whether it came after the local trace that it belongs to was shown: it ended after its root.
    :ivar left_out: how many more spans there were.
    :ivar errors: how many spans failed, those left out among them.
    """

    root: Span
    spans: Sequence[Span]
    late: bool = False
    left_out: int = 0
    errors: int = 0

    @property
    def count(self) -> int:
        """How many spans there were."""
        return len(self.spans) + self.left_out


@dataclass
class _Waiting:
    """What waits of one trace for a root: spans, and of those that are too many the number."""

    spans: list[Span] = field(default_factory=list)
    left_out: int = 0
    errors_left_out: int = 0


class LocalTraces:
    """Gathers spans by trace until a local root has ended. One thread at a time uses it.

    A process exports spans in the order of their end, so that what is below a root is there when the root comes. What
    ends later is given as late. Memory is bounded: of a trace with too many spans they are counted only, and of too
    many traces those that were quiet for the longest are forgotten.

    :param inherited: the id of a span that only the process has that this one was forked from; empty for none.
    """

    def __init__(self, inherited: bytes = b"") -> None:
        self._inherited = inherited
        self._waiting: OrderedDict[bytes, _Waiting] = OrderedDict()
        self._waiting_spans = 0
        self._shown: OrderedDict[bytes, set[bytes]] = OrderedDict()
        self._shown_spans = 0

    def take(self, spans: Iterable[Span]) -> list[LocalTrace]:
        """Takes spans that have ended; returns what is complete by now, in the order of its end."""
        touched: dict[bytes, None] = {}
        for span in spans:
            touched[span.trace_id] = None
            self._add(span)
        found = [one for trace_id in touched for one in self._complete(trace_id)]
        found.sort(key=lambda one: one.root.end_ns)
        return found

    def _add(self, span: Span) -> None:
        waiting = self._waiting.setdefault(span.trace_id, _Waiting())
        self._waiting.move_to_end(span.trace_id)
        if len(waiting.spans) >= _MAX_WAITING_OF_TRACE and not self._is_root(span):
            waiting.left_out += 1
            waiting.errors_left_out += span.failed
            return
        waiting.spans.append(span)
        self._waiting_spans += 1
        while (self._waiting_spans > MAX_WAITING or len(self._waiting) > _MAX_TRACES) and len(self._waiting) > 1:
            _, forgotten = self._waiting.popitem(last=False)
            self._waiting_spans -= len(forgotten.spans)

    def _complete(self, trace_id: bytes) -> Iterator[LocalTrace]:
        waiting = self._waiting.get(trace_id)
        if waiting is None:
            return  # Forgotten: more came at once than is kept.
        below: dict[bytes, list[Span]] = {}
        for span in waiting.spans:
            below.setdefault(span.parent_id, []).append(span)
        taken: set[int] = set()
        shown = self._shown.get(trace_id, set())
        for span in waiting.spans:
            late = not self._is_root(span) and span.parent_id in shown
            if not late and not self._is_root(span):
                continue
            members = self._with_descendants(span, below, taken)
            if not members:
                continue
            left_out = errors = 0
            if waiting.left_out and not late:
                left_out, waiting.left_out = waiting.left_out, 0
                errors, waiting.errors_left_out = waiting.errors_left_out, 0
                # What lies between the root and these may be among those.
                orphans = [one for one in waiting.spans if id(one) not in taken and not self._is_root(one)]
                taken.update(id(one) for one in orphans)
                members += orphans
            errors += sum(member.failed for member in members)
            yield LocalTrace(span, members, late, left_out, errors)
            self._remember(trace_id, members)
        if taken:
            left = [span for span in waiting.spans if id(span) not in taken]
            self._waiting_spans -= len(waiting.spans) - len(left)
            waiting.spans = left
        if not waiting.spans and not waiting.left_out:
            del self._waiting[trace_id]

    def _is_root(self, span: Span) -> bool:
        return span.local_root or (bool(self._inherited) and span.parent_id == self._inherited)

    def _with_descendants(self, root: Span, below: dict[bytes, list[Span]], taken: set[int]) -> list[Span]:
        """A span and what is below it but other local roots, each once, whatever the ids say."""
        members: list[Span] = []
        next_ones = [root]
        while next_ones:
            span = next_ones.pop()
            if id(span) in taken:
                continue
            taken.add(id(span))
            members.append(span)
            next_ones += [child for child in reversed(below.get(span.span_id, ())) if not self._is_root(child)]
        return members

    def _remember(self, trace_id: bytes, members: Sequence[Span]) -> None:
        ids = self._shown.setdefault(trace_id, set())
        before = len(ids)
        ids.update(member.span_id for member in members)
        self._shown.move_to_end(trace_id)
        self._shown_spans += len(ids) - before
        while self._shown_spans > _MAX_SHOWN:
            self._shown_spans -= len(self._shown.popitem(last=False)[1])
