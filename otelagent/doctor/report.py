"""The findings for a person and for a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from otelagent.doctor.check import Result, Status
from otelagent.version import VERSION

__all__ = ["as_json", "as_text", "ledger_text"]

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


def ledger_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """What became of each scope's items, as a table: from the first start to what each destination accepted."""
    lines = [("scope", "started", "sampled", "queued", "sent", "accepted", "")]
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


def as_text(results: Sequence[Result], *, colour: bool, width: int = 100) -> str:
    """A line for each finding, with its detail below where it is long, and what to do.

    :param width: of the terminal, in characters.
    """
    title_width = max((len(result.check.title) for result in results), default=0)
    lines = []
    asked = Counter(result.check.id for result in results)
    said = ""
    for result in results:
        finding = result.finding
        word = finding.status.upper() if finding.status == "fail" else finding.status
        if colour:
            word = f"\x1b[{_COLOURS[finding.status]}m{word}\x1b[0m"
        # Where there is one destination or process only, once will do.
        again = finding.about == said and asked[result.check.id] == 1
        about = f"{finding.about}: " if finding.about and not again else ""
        said = finding.about or said
        head = f"  {word}  {result.check.title:{title_width}}  "
        indent = " " * (8 + title_width + 2)
        detail = wrap(about + finding.detail, max(width - len(indent), 40), break_long_words=False) or [""]
        lines.append((head + detail[0]).rstrip())
        lines += [indent + more for more in detail[1:]]
        if finding.advice and finding.status in ("warn", "fail"):
            advice = wrap(finding.advice, max(width - len(indent) - 2, 40), break_long_words=False)
            lines.append(f"{indent}→ {advice[0]}")
            lines += [f"{indent}  {more}" for more in advice[1:]]
    counts = Counter(result.status for result in results)
    words: dict[Status, str] = {"fail": "failed", "warn": "to look at", "pass": "passed", "skip": "skipped"}
    told = ", ".join(f"{counts[status]} {said}" for status, said in words.items() if counts[status])
    return "\n".join([*lines, "", f"{told}."])
