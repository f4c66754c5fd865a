"""The findings for a person and for a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from textwrap import wrap
from typing import Any

from otelagent.doctor.check import Result, Status
from otelagent.version import VERSION

__all__ = ["as_json", "as_text"]

_COLOURS: dict[Status, str] = {"pass": "32", "warn": "33", "fail": "31;1", "skip": "2"}


def as_json(results: Sequence[Result], **more: Any) -> dict[str, Any]:
    """Plain JSON values: the checks, how many came to what, and whatever else is given."""
    counts = Counter(result.status for result in results)
    return {
        "version": VERSION,
        "ok": not counts["fail"],
        "counts": {status: counts[status] for status in _COLOURS},
        "checks": [result.to_dict() for result in results],
        **more,
    }


def _ledger_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """What became of each scope's items, as a table: from the first start to what each destination accepted."""
    lines = [("scope", "started", "sampled", "queued", "sent", "accepted", "destination")]
    for row in rows:
        name = row["scope"] if row["signal"] == "traces" else f"{row['scope']} ({row['signal']})"
        head = (name, f"{row['started']:,}", f"{row['sampled']:,}", f"{row['queued']:,}")
        places = row["destinations"].items() or [("", {"sent": 0, "accepted": 0})]
        for number, (place, counts) in enumerate(places):
            begin = head if not number else ("", "", "", "")
            lines.append((*begin, f"{counts['sent']:,}", f"{counts['accepted']:,}", place))
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return "\n".join(
        "  "
        + "  ".join(
            [line[0].ljust(widths[0]), *(line[column].rjust(widths[column]) for column in range(1, 6)), line[6]]
        ).rstrip()
        for line in lines
    )


def as_text(
    results: Sequence[Result], *, colour: bool, width: int = 100, ledger: Sequence[Mapping[str, Any]] = ()
) -> str:
    """A line for each finding, with its detail below where it is long; then the ledger, if there is one; then, where
    the eye is when the command has ended, what is wrong and what to do.

    Skips of one reason in a row are one line.

    :param width: of the terminal, in characters.
    :param ledger: by scope, see `otelagent.doctor.application.ledger`.
    """
    title_width = max((len(result.check.title) for result in results), default=0)
    width -= 8 + title_width + 2
    fine = [result for result in results if result.status in ("pass", "skip")]
    warned = [result for result in results if result.status == "warn"]
    failed = [result for result in results if result.status == "fail"]
    parts = [_lines(fine, title_width, colour, width), _ledger_text(ledger) if ledger else ""]
    parts += [_lines(warned, title_width, colour, width), _lines(failed, title_width, colour, width)]
    counts = Counter(result.status for result in results)
    words: dict[Status, str] = {"fail": "failed", "warn": "to look at", "pass": "passed", "skip": "skipped"}
    told = ", ".join(f"{counts[status]} {said}" for status, said in words.items() if counts[status])
    return "\n\n".join(part for part in (*parts, f"{told}.") if part)


def _lines(results: Sequence[Result], title_width: int, colour: bool, width: int) -> str:
    lines = []
    asked = Counter(result.check.id for result in results)
    indent = " " * (8 + title_width + 2)
    width = max(width, 40)
    said = ""
    for _, alike in groupby(results, _row):
        result, *more_alike = alike
        finding = result.finding
        word = finding.status.upper() if finding.status == "fail" else finding.status
        if colour:
            word = f"\x1b[{_COLOURS[finding.status]}m{word}\x1b[0m"
        # Where there is one destination or process only, once will do.
        again = finding.about == said and asked[result.check.id] == 1
        about = f"{finding.about}: " if finding.about and not again else ""
        said = finding.about or said
        title = f"{len(more_alike) + 1} checks" if more_alike else result.check.title
        detail = wrap(about + finding.detail, width, break_long_words=False) or [""]
        lines.append(f"  {word}  {title:{title_width}}  {detail[0]}".rstrip())
        lines += [indent + more for more in detail[1:]]
        if finding.advice and finding.status in ("warn", "fail"):
            advice = wrap(finding.advice, width - 2, break_long_words=False, break_on_hyphens=False)
            lines.append(f"{indent}→ {advice[0]}")
            lines += [f"{indent}  {more}" for more in advice[1:]]
    return "\n".join(lines)


def _row(result: Result) -> object:
    """What is the same for results that share a line."""
    return (result.finding.detail, result.finding.about) if result.status == "skip" else id(result)
