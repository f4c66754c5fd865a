"""Traces as text: a line, a tree, a JSON object."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from otelagent.terminal.folding import Row, rows
from otelagent.terminal.spans import Span
from otelagent.terminal.text import clip, duration_text, pad, printable, width
from otelagent.terminal.traces import LocalTrace

__all__ = ["SLOW_NS", "Style", "draw_json", "draw_line", "draw_tree", "show"]

SLOW_NS = 500_000_000
"""What takes as long as this or longer is shown as a tree, nanoseconds."""

# Rows of one tree; a trace with more is for the viewer.
_MAX_ROWS = 60
_BAR = 16
_DURATION = 9
# Below this a tree has no bars.
_WIDTH_WITH_BARS = 80

# What an application gives may be anything.
_HTTP_STATUS = re.compile("[0-9]{1,9}")

_BOLD, _DIM, _RED, _GREEN, _YELLOW, _CYAN = "1", "2", "31", "32", "33", "36"


@dataclass(frozen=True)
class Style:
    """How to draw.

    :ivar colour: whether in colours.
    :ivar unicode: whether lines are drawn in more than ASCII.
    :ivar columns: of the terminal.
    :ivar clipped: whether a line may not be longer than that, because it would wrap.
    """

    colour: bool = False
    unicode: bool = False
    columns: int = 120
    clipped: bool = False

    def paint(self, text: str, *codes: str) -> str:
        """The text in colours, if there are any."""
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self.colour and text else text

    @property
    def ellipsis(self) -> str:
        """What stands where something is left out."""
        return "…" if self.unicode else "..."

    @property
    def times(self) -> str:
        """What stands before a number of repetitions."""
        return "\u00d7" if self.unicode else "x"


def show(mode: str, traces: Iterable[LocalTrace], style: Style) -> list[str]:
    """What a mode shows of traces, each a text that ends with a newline.

    :param mode: ``lines``, ``tree`` or ``json``.
    """
    texts = []
    for trace in traces:
        if mode == "json":
            texts.append(draw_json(trace))
            continue
        text = draw_line(trace, style)
        if mode == "tree" and (trace.errors or (trace.root.duration_ns >= SLOW_NS and not trace.late)):
            text += draw_tree(trace.spans, style, left_out=trace.left_out, indent="  ")
        texts.append(text)
    return texts


def draw_line(trace: LocalTrace, style: Style) -> str:
    """One line: when it began, how long it took, what it was, how it went, how much there is of it, its trace's id."""
    root = trace.root
    failed = root.failed or trace.errors > 0
    status = ("ERROR" if root.failed else "ok") + (f" {printable(root.http_status)}" if root.http_status else "")
    counts = _count(trace.count, "span") + (f", {_count(trace.errors, 'error')}" if trace.errors else "")
    tail = [("late", _YELLOW)] if trace.late else []
    tail += [
        (status, _RED if failed else _GREEN),
        (counts, _RED if trace.errors else _DIM),
        (root.trace_id.hex()[:8], _DIM),
    ]
    clock = _clock(root.start_ns)
    took = duration_text(root.duration_ns).rjust(_DURATION)
    service, name = printable(root.service) or "?", printable(_title(root)) or "?"
    if style.clipped:
        used = len(clock) + len(took) + 6 + width(service) + sum(width(text) + 2 for text, _ in tail)
        name = clip(name, max(style.columns - used, 20), style.ellipsis)
    parts = [
        style.paint(clock, _DIM),
        style.paint(took, _YELLOW) if root.duration_ns >= SLOW_NS else took,
        style.paint(service, _CYAN),
        style.paint(name, _BOLD),
        *(style.paint(text, code) for text, code in tail),
    ]
    return "  ".join(parts) + "\n"


def draw_tree(spans: Sequence[Span], style: Style, *, left_out: int = 0, indent: str = "") -> str:
    """The spans of a trace, of one service or more, as a tree: names on the left, durations on the right.

    Siblings that are alike are one row with their number and the sum of their durations.

    :param left_out: how many spans of it are not here.
    """
    if not spans:
        return ""
    start_ns, end_ns = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
    bars = style.columns >= _WIDTH_WITH_BARS
    room = style.columns - _DURATION - 1 - (_BAR + 2 if bars else 0) - len(indent)
    lines, shown = [], 0
    for number, row in enumerate(rows(spans, unicode=style.unicode)):
        if number == _MAX_ROWS:
            break
        shown += len(row.spans)
        bar = (_bar(row, start_ns, end_ns, style) + "  ") if bars else ""
        took = duration_text(sum(span.duration_ns for span in row.spans)).rjust(_DURATION)
        lines.append(f"{indent}{_label(row, style, room)} {style.paint(bar, _CYAN)}{took}")
        lines += _errors(row, style, indent)
    if (more := len(spans) - shown + left_out) > 0:
        lines.append(style.paint(f"{indent}{style.ellipsis} {_count(more, 'more span')}", _DIM))
    return "".join(line + "\n" for line in lines)


def draw_json(trace: LocalTrace) -> str:
    """One object on a line, in ASCII; its fields are in docs/terminal.md."""
    root = trace.root
    seconds, rest = divmod(root.start_ns, 1_000_000_000)
    about: dict[str, object] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1_000_000:03}Z",
        "trace_id": root.trace_id.hex(),
        "span_id": root.span_id.hex(),
        "service": root.service,
        "name": root.name,
        "title": _title(root),
        "kind": root.kind or "internal",
        "status": "error" if root.failed else "ok",
        "http_status": int(root.http_status) if _HTTP_STATUS.fullmatch(root.http_status) else None,
        "duration_ms": round(root.duration_ns / 1e6, 3),
        "spans": trace.count,
        "errors": trace.errors,
        "error": next((span.error for span in trace.spans if span.error), None),
        "late": trace.late,
    }
    return json.dumps(about) + "\n"


def _label(row: Row, style: Style, columns: int) -> str:
    """What stands on the left of a row, filled up to so many columns."""
    first = row.spans[0]
    texts = [(row.branch, _DIM)]
    if row.service:
        texts.append((printable(row.service) + ": ", _CYAN))
    texts.append((printable(first.name) or "?", _RED if first.failed else _BOLD))
    if (count := len(row.spans)) > 1:
        texts.append((f" {style.times}{count}", _YELLOW))
    if first.kind:
        texts.append((f" [{first.kind}]", _DIM))
    if first.http_status:
        texts.append((f" {printable(first.http_status)}", _RED if first.failed else _DIM))
    if row.about and printable(row.about) != printable(first.name):
        texts.append((f"  {printable(row.about)}", _DIM))
    painted, left = [], columns
    for text, code in texts:
        kept = clip(text, left, style.ellipsis)
        left -= width(kept)
        painted.append(style.paint(kept, code))
        if kept != text:
            break
    return "".join(painted) + " " * left


def _errors(row: Row, style: Style, indent: str) -> list[str]:
    if row.spans[0].error in ("", row.spans[0].http_status):
        return []
    text = f"{indent}{row.below}  {printable(row.spans[0].error)}"
    return [style.paint(clip(text, style.columns, style.ellipsis), _RED)]


def _bar(row: Row, start_ns: int, end_ns: int, style: Style) -> str:
    """When in the trace it was."""
    whole = max(end_ns - start_ns, 1)
    begin = int((min(span.start_ns for span in row.spans) - start_ns) / whole * _BAR)
    begin = min(max(begin, 0), _BAR - 1)
    end = -int(-(max(span.end_ns for span in row.spans) - start_ns) / whole * _BAR // 1)
    end = min(max(end, begin + 1), _BAR)
    return pad(" " * begin + ("━" if style.unicode else "=") * (end - begin), _BAR)


def _title(span: Span) -> str:
    return span.name if not span.about or span.kind not in ("server", "consumer") else f"{span.name} {span.about}"


def _clock(start_ns: int) -> str:
    seconds, rest = divmod(start_ns, 1_000_000_000)
    return time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{rest // 1_000_000:03}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("s" if number != 1 else "")
