"""What otelagent has to show against its peers, as data, and whether a run shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.samples import Sample
from benchmarks.summary import Figure, Summary
from benchmarks.throughput import GOAL, HOLD_S

__all__ = ["BUDGETS", "Budget", "text"]

MINE = "otelagent-native"
OUTAGE_RATIO = 1.1


@dataclass(frozen=True)
class Budget:
    """A peer's value must be at least so many times ours."""

    title: str
    question: str
    case: str
    metric: str
    other: str
    times: float

    def measured(self, summary: Summary) -> Figure | None:
        """The ratio, or None if the run hasn't both."""
        return summary.ratio(self.question, self.case, self.metric, MINE, self.other)


_FIVE = "attributes-5"
BUDGETS = (
    Budget("five attributes, thread: opentelemetry-sdk", "span_cost", _FIVE, "thread_us", "opentelemetry", 25),
    Budget("five attributes, thread: honeycomb-pycpp", "span_cost", _FIVE, "thread_us", "pycpp", 15),
    Budget("five attributes, thread: ddtrace", "span_cost", _FIVE, "thread_us", "ddtrace", 25),
    Budget("five attributes, process: opentelemetry-sdk", "span_cost", _FIVE, "process_us", "opentelemetry", 25),
    Budget("five attributes, process: honeycomb-pycpp", "span_cost", _FIVE, "process_us", "pycpp", 8),
    Budget("unsampled: the API's no-op", "span_cost", f"{_FIVE}-unsampled", "thread_us", "api", 7),
    Budget("start, CPU added: opentelemetry-instrument", "startup", "command", "added_cpu_ms", "opentelemetry", 3),
    Budget(
        "start, wall clock added: opentelemetry-instrument", "startup", "command", "added_wall_ms", "opentelemetry", 3
    ),
)


def text(samples: Iterable[Sample]) -> str:
    """A line for each budget, with the number, and one for the throughput."""
    samples = list(samples)
    summary = Summary(samples)
    lines = [_line(budget.title, budget.measured(summary), budget.times) for budget in BUDGETS]
    lines.append(_outage(summary.figure("outage", "end", MINE, "outage_ratio")))
    tried = [one for one in samples if (one.question, one.peer) == ("throughput", MINE)]
    # What was held; if nothing was, what was tried last.
    tried.sort(key=lambda one: one.case == "hold" and bool(one.values))
    lines.append(_throughput(tried[-1] if tried else None))
    return "\n".join(lines)


def _line(title: str, ratio: Figure | None, times: float) -> str:
    if ratio is None:
        return f"not measured  {title}: at least {times:g}x"
    verdict = "pass" if ratio.median >= times else "FAIL"
    return f"{verdict}  {title}: {ratio.median:.1f}x ({ratio.low:.1f} to {ratio.high:.1f}), wanted at least {times:g}x"


def _outage(ratio: Figure | None) -> str:
    title = "p99 of ending a span while the backend is down, over that of normal times"
    if ratio is None:
        return f"not measured  {title}: at most {OUTAGE_RATIO:g}"
    verdict = "pass" if ratio.median <= OUTAGE_RATIO else "FAIL"
    spread = f"({ratio.low:.2f} to {ratio.high:.2f})"
    return f"{verdict}  {title}: {ratio.median:.2f} {spread}, wanted at most {OUTAGE_RATIO:g}"


def _throughput(sample: Sample | None) -> str:
    title = f"{GOAL:,} spans/s for {HOLD_S:.0f} s without loss"
    if sample is None or sample.note.startswith("not available"):
        return f"not measured  {title}"
    if not sample.values:
        return f"FAIL  {title}: {sample.note}"
    rate, seconds = sample.values["spans_per_s"], sample.values["seconds"]
    shown = rate >= 0.99 * GOAL and seconds >= HOLD_S and sample.sent == sample.arrived and not sample.note
    done = f"{rate:,.0f}/s for {seconds:.0f} s, {sample.sent - sample.arrived} of {sample.sent:,} lost"
    return f"{'pass' if shown else 'FAIL'}  {title}: {done}"
