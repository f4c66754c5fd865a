"""Spans of a test, in memory, and instrumentations that are undone when it ends."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any, TypeVar, cast

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind

from otelagent import TracerProvider
from otelagent.patching import Instrumentation
from otelagent.patching.operation import propagate
from otelagent.record import build_propagator, headers
from otelagent.record.headers import Codec

I = TypeVar("I", bound=Instrumentation)  # noqa: E741


class _Capture(SpanProcessor):
    def __init__(self) -> None:
        self.finished: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.finished.append(span)


_CAPTURE = _Capture()


def provider() -> Any:
    """The one provider of the process, made at the first use: the API lets nobody set a second one.

    Its engine is the one that `OTELAGENT_ENGINE` says; the propagators are as the agent sets them with that engine.
    """
    current: Any = trace.get_tracer_provider()
    if isinstance(current, trace.ProxyTracerProvider):
        current = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
        trace.set_tracer_provider(current)
        native = type(current.get_tracer("test")).__module__ == "otelagent_native"
        codec = cast("Codec", importlib.import_module("otelagent_native")) if native else headers
        propagate.set_global_textmap(build_propagator(("tracecontext", "baggage"), codec=codec))
    if _CAPTURE not in current._pipeline.processors:
        current.add_span_processor(_CAPTURE)
    return current


class Spans:
    """What was recorded since the test began, in the order of ending.

    :ivar tracer: for spans of the test's own.
    """

    def __init__(self) -> None:
        self.tracer = provider().get_tracer("test")
        self.clear()

    def clear(self) -> None:
        """Forget what was recorded so far."""
        _CAPTURE.finished.clear()

    def all(self, name: str | None = None, kind: SpanKind | None = None, **attributes: Any) -> list[ReadableSpan]:
        """The ended spans of this name, kind and attributes (``.`` written ``__``)."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return [
            span
            for span in _CAPTURE.finished
            if (name is None or span.name == name)
            and (kind is None or span.kind is kind)
            and all((span.attributes or {}).get(key) == value for key, value in wanted.items())
        ]

    def one(self, name: str | None = None, kind: SpanKind | None = None, **attributes: Any) -> ReadableSpan:
        """The only such span."""
        found = self.all(name, kind, **attributes)
        assert len(found) == 1, f"{len(found)} spans of {name}, {kind}, {attributes} in {self.names()}"
        return found[0]

    def names(self) -> list[str]:
        """The names of all, in the order of ending."""
        return [span.name for span in _CAPTURE.finished]

    def parent(self, span: ReadableSpan) -> ReadableSpan | None:
        """The recorded parent of a span."""
        found = [other for other in _CAPTURE.finished if span.parent and span_id(other) == span.parent.span_id]
        return found[0] if found else None

    def tree(self) -> str:
        """Every span under its parent, two spaces deeper, in the order of starting: ``kind name [! error.type]``."""
        recorded = {span_id(span) for span in _CAPTURE.finished}
        lines: list[str] = []

        def add(parent: int | None, depth: int) -> None:
            for span in sorted(_CAPTURE.finished, key=lambda span: span.start_time or 0):
                above = span.parent.span_id if span.parent and span.parent.span_id in recorded else None
                if above == parent:
                    error = (span.attributes or {}).get("error.type")
                    lines.append(f"{'  ' * depth}{span.kind.name} {span.name}{f' ! {error}' if error else ''}")
                    add(span_id(span), depth + 1)

        add(None, 0)
        return "\n".join(lines)


def span_id(span: ReadableSpan) -> int:
    """The id of a recorded span."""
    assert span.context is not None
    identity: int = span.context.span_id
    return identity


class Applied:
    """Instrumentations applied for one test; `undo` checks that what they patched is what stood there before."""

    def __init__(self) -> None:
        self._applied: list[tuple[Instrumentation, dict[tuple[str, str], Any]]] = []

    def __call__(self, cls: type[I]) -> I:
        """Apply an instrumentation; the modules of its patch points that are imported are patched at once."""
        before = {(point.module, point.path): _look(point.module, point.path) for point, _ in cls.points()}
        instrumentation = cls("0")
        instrumentation.apply()
        assert instrumentation.failure is None, instrumentation.failure
        self._applied.append((instrumentation, before))
        return instrumentation

    def undo(self) -> Iterator[str]:
        """Undo all, the last one first; yields each patch point where something else stands now than before."""
        for instrumentation, before in reversed(self._applied):
            instrumentation.undo()
            for (module, path), stood in before.items():
                if stood is not None and module in sys.modules and _look(module, path) != stood:
                    yield f"{module}:{path}"


def _look(module: str, path: str) -> tuple[bool, int] | None:
    """Whether a patch point's owner has the attribute itself, and which object it is."""
    owner: Any = sys.modules.get(module)
    if owner is None:
        return None
    *parents, attribute = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent, None)
        if owner is None:
            return None
    found = inspect.getattr_static(owner, attribute, None)
    return (attribute in vars(owner), id(found))
