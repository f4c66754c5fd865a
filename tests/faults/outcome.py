"""What became of the spans in one case, and what holds for every fault."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.faults.bench import Bench

__all__ = ["Outcome", "judge", "total"]


@dataclass
class Outcome:
    """The ledgers of all processes, summed; of the stock SDK what the application and the servers saw.

    :ivar complaints: what doesn't hold, of the stock SDK what it does instead.
    :ivar lost: spans that ended, that no server took and that nobody has counted.
    """

    subject: str
    ended: int = 0
    adopted: int = 0
    sampled_out: int = 0
    delivered: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    spooled: int = 0
    queued: int = 0
    lost: int = 0
    complaints: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the fault was survived."""
        return not self.complaints and not self.lost

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "holds": self.holds}


_COUNTS = ("ended", "adopted", "sampled_out", "delivered", "spooled", "queued")


def judge(bench: Bench) -> Outcome:
    """Counts what the applications of a closed bench have told and its servers have taken, and compares."""
    outcome = Outcome(bench.subject, complaints=list(bench.complaints))
    told = [last for application in bench.applications for last in application.told.values()] + bench.told
    made = [span for last in told for span in last["made"]]
    # With one destination a span is the same wherever it arrives.
    taken = Counter((port if bench.destinations > 1 else 0, span) for port, span in bench.taken())
    for last in told:
        if "raised" in last:
            # Of ours one wants to know all; of the stock SDK's many, the kind.
            raised = last["raised"] if bench.otelagent else last["raised"].partition(":")[0]
            outcome.complaints.append(f"raises {raised} into the application")
    for application in bench.applications:
        if application.overdue:
            outcome.complaints.append("doesn't end")
        elif not application.told and not bench.killed:
            outcome.complaints.append(f"tells nothing: {application.errors[-300:]!r}")
    arrived = len(taken)
    again = sum(taken.values()) - arrived
    if again and not bench.twice:
        outcome.complaints.append(f"delivers {again} spans twice")
    missing = len(set(made)) * bench.destinations - len([one for one in taken if one[1] in set(made)])
    if missing and any(last["flushed"] for last in told):
        outcome.complaints.append("flush() says success")
    if bench.otelagent:
        _books(bench, outcome, told, len(made) * bench.destinations, missing, arrived)
    else:
        outcome.ended, outcome.delivered, outcome.lost = len(made) * bench.destinations, arrived, missing
    return outcome


def _books(bench: Bench, outcome: Outcome, told: list[dict[str, Any]], made: int, missing: int, arrived: int) -> None:
    rejected: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for ledger in (ledger for last in told for ledger in (last["ledger"], *last.get("others", {}).values())):
        for name in _COUNTS:
            setattr(outcome, name, getattr(outcome, name) + ledger[name])
        rejected.update(ledger["rejected"])
        dropped.update(ledger["dropped"])
        if not ledger["balanced"]:
            outcome.complaints.append(f"the equation doesn't hold: {ledger}")
    outcome.rejected, outcome.dropped = dict(rejected), dict(dropped)
    if bench.killed:
        outcome.lost = max(0, missing - _accounted(outcome))
        return
    if outcome.ended != made:
        outcome.complaints.append(f"{made} spans ended, the ledger says {outcome.ended}")
    if outcome.delivered != arrived and not (bench.unanswered and outcome.delivered < arrived):
        outcome.complaints.append(f"the ledger says {outcome.delivered} delivered, the servers took {arrived}")
    outcome.lost = max(0, missing - _accounted(outcome))


def _accounted(outcome: Outcome) -> int:
    # What one process leaves on disk, another adopts; of one that was killed, it may be more than it could tell.
    waiting = outcome.queued + max(0, outcome.spooled - outcome.adopted)
    return outcome.sampled_out + sum(outcome.rejected.values()) + sum(outcome.dropped.values()) + waiting


def total(outcomes: list[tuple[str, Outcome]]) -> Outcome:
    """The sum over a fault's cases, each by name."""
    whole = Outcome(outcomes[0][1].subject)
    rejected: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    complaints: dict[str, list[str]] = {}
    for case, one in outcomes:
        for name in (*_COUNTS, "lost", "seconds"):
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
        rejected.update(one.rejected)
        dropped.update(one.dropped)
        for complaint in one.complaints:
            complaints.setdefault(complaint, []).append(case)
        if one.lost and one.subject != "stock":
            complaints.setdefault(f"{one.lost} lost in silence", []).append(case)
    whole.rejected, whole.dropped = dict(rejected), dict(dropped)
    for complaint, cases in complaints.items():
        named = ", ".join(case for case in cases if case)
        if whole.subject == "stock" and len(cases) > 2:
            named = f"{len(cases)} of {len(outcomes)} cases"
        whole.complaints.append(f"{complaint} ({named})" if named and len(cases) < len(outcomes) else complaint)
    return whole
