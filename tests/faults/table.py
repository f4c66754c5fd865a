"""The table of a run: a line for each fault and engine, or one for both where they come to the same."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tests.faults.outcome import Outcome
from tests.faults.registry import Fault

__all__ = ["HEADING", "Row", "markdown", "rows", "stock_text", "text"]

HEADING = ("#", "fault", "engine", "ended", "delivered", "rejected", "dropped", "spooled", "result", "stock SDK")
_WIDTHS = (2, 44, 6, 6, 9, 8, 22, 7, 6, 32)
_RIGHT = frozenset({0, 3, 4, 5, 7})


@dataclass(frozen=True)
class Row:
    """:ivar notes: what else there is to say, below it."""

    cells: tuple[str, ...]
    notes: tuple[str, ...] = ()


def rows(fault: Fault, outcomes: Mapping[str, Outcome]) -> list[Row]:
    """The lines of a fault."""
    ours: list[tuple[str, Outcome | None]] = [(name, outcomes[name]) for name in ("native", "sdk") if name in outcomes]
    if len(ours) == 2 and _same(outcomes["native"], outcomes["sdk"]):
        ours = [("both", outcomes["native"])]
    stock = f"does not apply: {fault.stock}" if fault.stock else ""
    if "stock" in outcomes:
        stock = stock_text(outcomes["stock"])
    made: list[Row] = []
    for name, outcome in ours or [("", None)]:
        number, title = (str(fault.number), fault.title) if not made else ("", "")
        cells = _cells(outcome) if outcome is not None else ("",) * 6
        made.append(Row((number, title, name, *cells, stock if number else ""), _notes(outcome)))
    return made


def stock_text(outcome: Outcome) -> str:
    """What the stock SDK does in one line."""
    lost = f"loses {outcome.lost:,} of {outcome.ended:,}" if outcome.lost else "loses none"
    return "; ".join([lost, *outcome.complaints])


def text(row: Row) -> str:
    """A line of the table on a terminal, or as many as its last cell and its notes need."""
    *front, last = row.cells
    head = "  ".join(
        (cell.rjust if place in _RIGHT else cell.ljust)(_WIDTHS[place]) for place, cell in enumerate(front)
    )
    lines = textwrap.wrap(last, _WIDTHS[-1]) or [""]
    indent = " " * (len(head) + 2)
    notes = (textwrap.fill(note, 140, initial_indent="      ", subsequent_indent="        ") for note in row.notes)
    return "\n".join([f"{head}  {lines[0]}".rstrip(), *(f"{indent}{line}" for line in lines[1:]), *notes])


def markdown(made: Iterable[Row]) -> str:
    """The table for a document."""
    aligned = "".join("--:|" if place in _RIGHT else "---|" for place in range(len(HEADING)))
    return "\n".join([_line(Row(HEADING)), f"|{aligned}", *map(_line, made)])


def _line(row: Row) -> str:
    number, title, *others = (cell.replace("|", "\\|") for cell in row.cells)
    return f"| {' | '.join((number, '<br>'.join((title, *row.notes)), *others))} |"


def _same(one: Outcome, other: Outcome) -> bool:
    return replace(one, subject=other.subject, seconds=other.seconds) == other


def _notes(outcome: Outcome | None) -> tuple[str, ...]:
    if outcome is None:
        return ()
    counts = (("adopted", outcome.adopted), ("sampled_out", outcome.sampled_out), ("queued", outcome.queued))
    others = ", ".join(f"{name} {count:,}" for name, count in counts if count)
    return (*([others] if others else []), *outcome.complaints)


def _cells(outcome: Outcome) -> tuple[str, ...]:
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in sorted(outcome.dropped.items())) or "0"
    return (
        f"{outcome.ended:,}",
        f"{outcome.delivered:,}",
        f"{sum(outcome.rejected.values()):,}",
        dropped,
        f"{outcome.spooled:,}",
        "holds" if outcome.holds else "FAILS",
    )
