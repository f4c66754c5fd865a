"""The terminal: traces as text, a line each or as a tree, for whoever sits before it.

It reads encoded OTLP requests and knows nothing of the rest. The setting `console` and ``otelagent demo`` show with it.
"""

from __future__ import annotations

from otelagent.terminal.output import Output
from otelagent.terminal.spans import Span, read_request
from otelagent.terminal.traces import LocalTrace, LocalTraces
from otelagent.terminal.view import Style, draw_json, draw_line, draw_tree, show

__all__ = [
    "LocalTrace",
    "LocalTraces",
    "Output",
    "Span",
    "Style",
    "draw_json",
    "draw_line",
    "draw_tree",
    "read_request",
    "show",
]
