"""Traces on the terminal, for a developer to look at; see ``docs/terminal.md``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from otelagent.delivery.payload import Payload
from otelagent.delivery.result import Accepted, Rejected, Result
from otelagent.fork_gate import whole_imports

if TYPE_CHECKING:
    from otelagent.terminal import LocalTraces, Output

__all__ = ["TerminalTransport"]

_STDERR = 2

_PROBLEMS = {
    "terminal_blocked": "nobody reads what is written to standard error",
    "terminal_closed": "standard error is closed",
    "terminal_replaced": "standard error has become another file",
}


class TerminalTransport:
    """Shows what ends on standard error. What it has taken counts as delivered, be it shown now or with its root.

    While nobody reads there, a try goes on for as long as it may, and what comes waits for its turn.

    :param mode: ``lines``, ``tree`` or ``json``.
    """

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._traces: LocalTraces | None = None
        self._output: Output | None = None
        self._inherited = b""
        self._place = _Place()

    def describe(self) -> str:
        return f"standard error ({self._mode})"

    def send(self, payload: Payload, timeout_s: float) -> Result:
        if payload.signal != "traces":
            return Rejected("unsupported_signal", f"the terminal shows no {payload.signal}")
        with whole_imports():
            from google.protobuf.message import DecodeError

            from otelagent.terminal import LocalTraces, Output, read_request, show

        self._traces = self._traces or LocalTraces(self._inherited)
        self._output = self._output or Output(problem=self._place.problem)
        try:
            spans = read_request(payload.body)
        except DecodeError:
            return Rejected("encode_error", "the payload is no OTLP request")
        texts = show(self._mode, self._traces.take(spans), self._output.style())
        problem = self._output.write(texts, timeout_s) if texts else ""
        return Rejected(problem, _PROBLEMS[problem]) if problem else Accepted()

    def stalled(self) -> bool:
        """Whether nobody has read for a second what is being written."""
        return self._output is not None and self._output.stalled()

    def close(self) -> None:
        """Standard error is the application's and stays open."""

    def after_fork_in_child(self) -> None:
        """What waits for its root is the parent's, and so is the span in which it has forked."""
        from opentelemetry.trace import get_current_span  # there since the agent has started

        self._traces = None
        span_id = get_current_span().get_span_context().span_id
        self._inherited = span_id.to_bytes(8, "big") if span_id else b""
        self._place.after_fork_in_child()
        if self._output is not None:
            self._output.after_fork_in_child()


class _Place:
    """Whether the descriptor of standard error is still that, which is asked from the start on: an application that
    closes its standard streams, or is started without them, may have a file of its own there."""

    def __init__(self) -> None:
        self._file = _file() if sys.__stderr__ is not None else None
        self._renewed = False

    def problem(self) -> str:
        """Why it must be left alone, a token; empty if it needn't."""
        file = _file()
        if file is None or self._file is None:
            return "terminal_closed"
        if self._renewed:
            self._file, self._renewed = file, False
        return "" if file == self._file else "terminal_replaced"

    def after_fork_in_child(self) -> None:
        """A child that has its parent's may be given one of its own before it writes, as daemons are."""
        self._renewed = self._file is not None and self._file == _file()


def _file() -> tuple[int, int] | None:
    try:
        status = os.fstat(_STDERR)
    except OSError:
        return None
    return status.st_dev, status.st_ino
