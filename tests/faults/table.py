"""The table of a run: a line for each fault and engine, or one for both where they come to the same."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import replace

from tests.faults.outcome import Outcome
from tests.faults.registry import Fault

__all__ = ["HEADING", "markdown", "rows", "stock_text", "text"]

HEADING = ("#", "fault", "engine", "ended", "delivered", "rejected", "dropped", "spooled", "", "stock SDK")
_WIDTHS = (2, 44, 6, 6, 9, 8, 22, 7, 5, 33)
_RIGHT = frozenset({0, 3, 4, 5, 7})

Row = tuple[str, ...]


def rows(fault: Fault, outcomes: Mapping[str, Outcome]) -> list[Row]:
    """The cells; below each line rows with what else is to say in their second cell, and what doesn't hold."""
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
        made.append((number, title, name, *cells, stock if number else ""))
        if outcome is not None:
            waiting = [("adopted", outcome.adopted), ("sampled_out", outcome.sampled_out), ("queued", outcome.queued)]
            notes = ", ".join(f"{name} {count:,}" for name, count in waiting if count)
            made += [("", line, *("",) * 8) for line in (*([notes] if notes else []), *outcome.complaints)]
    return made


def stock_text(outcome: Outcome) -> str:
    """What the stock SDK does in one line."""
    lost = f"loses {outcome.lost:,} of {outcome.ended:,}" if outcome.lost else "0"
    return "; ".join([lost, *outcome.complaints])


def text(cells: Row) -> str:
    """One line of the table on a terminal, or as many as the last cell needs."""
    if cells[1] and not any(cells[2:]):
        return textwrap.fill(cells[1], 140, initial_indent="      ", subsequent_indent="        ")
    *front, last = cells
    head = "  ".join(
        (cell.rjust if place in _RIGHT else cell.ljust)(_WIDTHS[place]) for place, cell in enumerate(front)
    )
    lines = textwrap.wrap(last, _WIDTHS[-1]) or [""]
    return "\n".join([f"{head}  {lines[0]}".rstrip(), *(" " * (len(head) + 2) + line for line in lines[1:])])


def markdown(made: Iterable[Row]) -> str:
    """The table for a document."""
    aligned = "".join("--:|" if place in _RIGHT else "---|" for place in range(len(HEADING)))
    return "\n".join([_line(HEADING), f"|{aligned}", *(_line(cells) for cells in made)])


def _line(cells: Row) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _same(one: Outcome, other: Outcome) -> bool:
    alike = replace(one, subject=other.subject, seconds=other.seconds)
    return alike == other


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
