"""What a check is, what it finds, and how checks are run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from otelagent.struct import struct

__all__ = ["Check", "Finding", "Needs", "Result", "Status", "run"]

Status = Literal["pass", "warn", "fail", "skip"]

Needs = Literal["settings", "destination", "command", "viewer"]
"""What a check is given: a `Setup`, a `Target`, an `Observation`, or a `Receiving`."""


@struct(frozen=True)
class Finding:
    """What a check saw.

    :ivar detail: in one sentence, with the values that it is about; secrets masked.
    :ivar advice: what to do about it, in one line; empty where there is nothing to do.
    :ivar about: which of several, such as a destination or a process; empty where there is one only.
    """

    status: Status
    detail: str
    advice: str = ""
    about: str = ""


@struct(frozen=True)
class Check:
    """One question, and how it is answered.

    :ivar id: for programs; never changes.
    :ivar title: what holds when it passes, for people.
    :ivar needs: what `find` is given.
    :ivar looks_at: for the table of the documentation.
    :ivar advice: what is done about it in general, for the same table.
    :ivar find: gives one finding or more; none where the question doesn't arise.
    """

    id: str
    title: str
    needs: Needs
    looks_at: str
    advice: str
    find: Callable[[Any], Iterable[Finding]]


@struct(frozen=True)
class Result:
    """A finding with the check that it is of."""

    check: Check
    finding: Finding

    @property
    def status(self) -> Status:
        """Of the finding."""
        return self.finding.status

    def to_dict(self) -> dict[str, str]:
        """As plain JSON values, the same for the command and for the page."""
        finding = self.finding
        return {
            "id": self.check.id,
            "title": self.check.title,
            "status": finding.status,
            "about": finding.about,
            "detail": finding.detail,
            "advice": finding.advice,
        }


def run(checks: Sequence[Check], subject: Any) -> list[Result]:
    """Asks each check about one subject. One that breaks is said to, and the others go on."""
    results = []
    for check in checks:
        try:
            results += [Result(check, finding) for finding in check.find(subject)]
        except Exception as error:
            broken = Finding(
                "warn", f"the check itself failed: {type(error).__name__}: {error}", "tell the maintainers"
            )
            results.append(Result(check, broken))
    return results
