"""What a test asks of recorded telemetry, wherever it comes from."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar, overload

from otelagent.testing import family
from otelagent.testing.measured import MetricPoint, Metrics, measured
from otelagent.testing.selection import Selection, nearest
from otelagent.testing.stepping import stepped
from otelagent.testing.types import LogRecord, Span

__all__ = ["Telemetry"]

_Telemetry = TypeVar("_Telemetry", bound="Telemetry")
_Result = TypeVar("_Result")

_POLL_S = 0.02


class Telemetry:
    """Spans, log records and metrics of a test.

    Iterating gives the spans, `len()` counts them.

    :param deterministic: whether ids are counted and times are steps of a second, see `otelagent.testing.stepping`.
    """

    def __init__(self, *, deterministic: bool = False) -> None:
        self._deterministic = deterministic
        self._spans: list[Span] = []
        self._log_records: list[LogRecord] = []
        self._points: list[MetricPoint] = []
        self._linked: tuple[tuple[int, int], family.Forest, tuple[LogRecord, ...]] | None = None

    def _take_in(self) -> None:
        """Takes in the spans and log records that have come since the last time; what collects them says how."""

    def _take_in_points(self) -> None:
        """The same for metrics."""

    def _open(self) -> list[str]:
        """The titles of spans that have begun and not ended, as far as that is known."""
        return []

    def _signals(self) -> tuple[family.Forest, tuple[LogRecord, ...]]:
        self._take_in()
        counts = len(self._spans), len(self._log_records)
        if self._linked is None or self._linked[0] != counts:
            forest = family.linked(self._spans[: counts[0]])
            records = tuple(sorted(self._log_records[: counts[1]], key=lambda record: record.time_ns))
            if self._deterministic:
                forest, records = stepped(forest, records)
            self._linked = counts, forest, records
        return self._linked[1:]

    @property
    def spans(self) -> tuple[Span, ...]:
        """The spans that have ended, in the order of their starting."""
        return self._signals()[0].spans

    @property
    def logs(self) -> tuple[LogRecord, ...]:
        """The log records, in the order of their times."""
        return self._signals()[1]

    @property
    def metrics(self) -> Metrics:
        """What was measured, by the instruments' names."""
        self._take_in_points()
        return measured(list(self._points))

    @property
    def errors(self) -> list[Span]:
        """The spans whose status is ``ERROR``."""
        return [span for span in self.spans if span.status == "ERROR"]

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)

    def __len__(self) -> int:
        return len(self.spans)

    def all(
        self,
        name: str | re.Pattern[str] | None = None,
        *,
        kind: str | None = None,
        status: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> list[Span]:
        """The spans of which all of this holds.

        :param name: the whole name, or a compiled pattern that is searched in it.
        :param kind: ``INTERNAL``, ``SERVER``, ``CLIENT``, ``PRODUCER`` or ``CONSUMER``.
        :param status: ``UNSET``, ``OK`` or ``ERROR``.
        :param attributes: what these attributes are equal to; there may be others.
        """
        return Selection(name, kind, status, attributes).among(self.spans)

    def one(
        self,
        name: str | re.Pattern[str] | None = None,
        *,
        kind: str | None = None,
        status: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Span:
        """The only span of which all of this holds; the arguments are those of `all`.

        :raises AssertionError: there is none, or there are several. It tells the nearest ones and what of them is
            otherwise, and the whole tree.
        """
        __tracebackhide__ = True
        selection = Selection(name, kind, status, attributes)
        spans = self.spans
        found = selection.among(spans)
        if len(found) == 1:
            return found[0]
        if found:
            lines = [f"{len(found)} spans {selection}, one was expected"]
        else:
            lines = [f"no span {selection}"]
            near = nearest(selection, spans)
            lines += ["nearest:", *(f"  {one}" for one in near)] if near else []
        raise AssertionError("\n".join((*lines, self.describe())))

    def tree(self, *, attributes: Collection[str] = ()) -> str:
        """A line for each span, two spaces deeper than its parent's: ``KIND name``, and of an error ``! what``.

        It has no times and no ids. Siblings are in the order of their starting, those that ran at the same time in
        the order of their lines, so that the text doesn't depend on chance.

        :param attributes: show these as well, where a span has them.
        """
        return family.as_text(self._signals()[0], attributes)

    def dump(self, *, without: Collection[str] = ()) -> list[dict[str, Any]]:
        """All spans as plain data: the roots, each with its ``children``, ordered as in `tree`. What is empty is left
        out, and so are the resources.

        :param without: leave these attributes out.
        """
        return family.as_dicts(self._signals()[0], without)

    def clear(self) -> None:
        """Forget what has come so far."""
        self._take_in()
        self._take_in_points()
        self._spans.clear()
        self._log_records.clear()
        self._points.clear()
        self._linked = None

    @overload
    def wait_for(self: _Telemetry, condition: int, timeout_s: float = ...) -> _Telemetry: ...
    @overload
    def wait_for(self: _Telemetry, condition: Callable[[_Telemetry], _Result], timeout_s: float = ...) -> _Result: ...
    def wait_for(
        self: _Telemetry, condition: int | Callable[[_Telemetry], _Result], timeout_s: float = 10.0
    ) -> _Telemetry | _Result:
        """Wait for what other threads or processes record.

        In a coroutine, ``await asyncio.to_thread(spans.wait_for, …)`` lets the event loop go on meanwhile.

        :param condition: how many spans there must be at least; or a function of this object. What it gives is returned
            as soon as that is true (an `AssertionError` in it, such as `one` raises, is a no).
        :param timeout_s: the longest wait, in seconds.
        :raises AssertionError: it didn't come true in time; tells the tree.
        """
        __tracebackhide__ = True
        deadline_s = time.monotonic() + timeout_s
        while True:
            failed: AssertionError | None = None
            try:
                if isinstance(condition, int):
                    if len(self) >= condition:
                        return self
                elif result := condition(self):
                    return result
            except AssertionError as error:
                failed = error
            if time.monotonic() >= deadline_s:
                break
            time.sleep(_POLL_S)
        wanted = f"{condition} spans" if isinstance(condition, int) else "what was waited for"
        lines = [f"{wanted} did not come within {timeout_s:g} s"]
        if _in_event_loop():
            lines.append("the event loop of this thread stood still meanwhile: await asyncio.to_thread(….wait_for, …)")
        lines.append(str(failed) if failed is not None else self.describe())
        raise AssertionError("\n".join(lines)) from failed

    def describe(self) -> str:
        """The tree for a person to read: how many spans there are, each, and what has begun and not ended."""
        count = len(self.spans)
        lines = [f"{count} span{'s' if count != 1 else ''}{':' if count else ''}"]
        lines += [f"  {line}" for line in self.tree().splitlines()]
        if still := self._open():
            lines += ["begun and not ended:", *(f"  {one}" for one in still)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} span{'s' if len(self) != 1 else ''}>"


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
