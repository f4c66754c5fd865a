"""Tables and the plot of a run: ``python -m benchmarks.report [RESULTS.json] [--write FILE]``.

``--write`` puts the short table between the markers of a Markdown file, the long ones with ``--all``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS
from benchmarks.plot import Bar, Group, svg
from benchmarks.samples import Sample
from benchmarks.summary import Figure, Summary
from benchmarks.workloads import WORKLOADS

__all__ = ["load", "long_table", "number", "plot", "put_between_markers", "short_table", "tables"]

REFERENCE = Path(__file__).resolve().parent / "results" / "reference.json"
MARKERS = ("<!-- benchmarks:begin -->", "<!-- benchmarks:end -->")
MINE, STOCK = "otelagent-native", "opentelemetry"


@dataclass(frozen=True)
class Row:
    """A line of a table.

    :param added: show what is added to the peer `bare`.
    :param higher: more is better.
    """

    question: str
    case: str
    metric: str
    title: str
    added: bool = False
    higher: bool = False

    def figure(self, summary: Summary, peer: str) -> Figure | None:
        """The peer's."""
        return summary.figure(self.question, self.case, peer, self.metric, self.over)

    @property
    def over(self) -> str:
        """The peer whose value is taken off."""
        return "bare" if self.added else ""


SHORT = (
    Row("span_cost", "attributes-5", "thread_us", "span with five attributes, application thread, µs"),
    Row("span_cost", "attributes-5", "process_us", "the same, whole process until delivered, µs"),
    Row("span_cost", "attributes-5-unsampled", "thread_us", "the same, not sampled, µs"),
    Row("cold", "attributes-5", "thread_us", "the same with cold caches, application thread, µs"),
    Row("concurrency", "threads-16", "process_us", "the same in 16 threads, whole process, µs"),
    Row("concurrency", "tasks-100", "thread_us", "the same in 100 asyncio tasks, application thread, µs"),
    Row("frameworks", "fastapi", "process_us", "added to a FastAPI request, whole process, µs", added=True),
    Row("frameworks", "flask", "process_us", "added to a Flask request, whole process, µs", added=True),
    Row("frameworks", "sqlite3", "process_us", "added to a sqlite3 query, whole process, µs", added=True),
    Row("memory", "queued", "queued_bytes", "memory of a waiting span, bytes"),
    Row("memory", "started", "rss_mib", "memory added to the process, MiB", added=True),
    Row("startup", "code", "added_cpu_ms", "start-up added by setting up in code, CPU ms"),
    Row("startup", "command", "added_cpu_ms", "start-up added by the launcher, CPU ms"),
    Row("throughput", "hold", "spans_per_s", "spans/s held for a minute, none lost", higher=True),
)
SHORT_PEERS = ("opentelemetry", "logfire", "ddtrace", "pycpp", "otelagent-sdk", "otelagent-native")

_TITLES = {
    "threads": "five attributes, {} threads",
    "tasks": "five attributes, {} asyncio tasks",
    "threads-1": "five attributes, 1 thread",
    "end": "ending a span",
    "hold": "held for a minute",
    "hold-failed": "tried for a minute, not held",
    "one": "traces of one span",
    "two": "traces of two spans",
    "ten": "traces of ten spans",
    "trace": "a trace of 50,000 spans",
    "stored": "five million spans stored",
}
_METRICS = {
    "thread_us": "application thread, µs",
    "process_us": "whole process, µs",
    "collector_us": "the collector itself, µs",
    "rss_mib": "resident memory, MiB",
    "queued_bytes": "bytes",
    "bare_wall_ms": "bare, wall clock, ms",
    "added_wall_ms": "added, wall clock, ms",
    "bare_cpu_ms": "bare, CPU, ms",
    "added_cpu_ms": "added, CPU, ms",
    "normal_p99_us": "99th percentile of normal times, µs",
    "outage_p99_us": "99th percentile while the backend is down, µs",
    "outage_ratio": "the one over the other",
    "spans": "spans of a call",
    "spans_per_s": "spans/s",
    "backlog_s": "still to export at the end, s",
    "seconds": "s",
    "answer_ms": "answered in, ms",
    "answer_mib": "answer, MiB",
    "found": "traces on the page",
    "complete": "searched to the end (1), or to where its time ended, which it says (0)",
    "stored": "spans",
    "disk_mib": "on disk, MiB",
}


def short_table(samples: Iterable[Sample]) -> str:
    """Markdown: the medians of what matters, and how many times ours the stock SDK's is, with spread."""
    summary = Summary(samples)
    peers = [peer for peer in SHORT_PEERS if any(row.figure(summary, peer) for row in SHORT)]
    head = [PEERS[peer].title for peer in peers] + ["stock : native"]
    lines = ["| | " + " | ".join(head) + " |", "|---" + "|--:" * len(head) + "|"]
    for row in SHORT:
        figures = [row.figure(summary, peer) for peer in peers]
        if not any(figures):
            continue
        cells = [number(figure.median) if figure else "" for figure in figures]
        lines.append(f"| {row.title} | " + " | ".join([*cells, _ratio(summary, row)]) + " |")
    return "\n".join(lines + _losses(summary)) + "\n"


def long_table(samples: Iterable[Sample], question: str) -> str:
    """Markdown: every case and metric of a question, median and spread for each peer that was asked."""
    summary = Summary(one for one in samples if one.question == question)
    cases = summary.cases(question)
    rows = [(case, metric) for metric in _METRICS for case in cases]
    peers = [peer for peer in PEERS if any(summary.figure(question, case, peer, metric) for case, metric in rows)]
    lines = ["| | " + " | ".join(PEERS[peer].title for peer in peers) + " |", "|---" + "|--:" * len(peers) + "|"]
    for case, metric in rows:
        figures = [summary.figure(question, case, peer, metric) for peer in peers]
        if any(figures):
            cells = [_spread(figure) if figure else "" for figure in figures]
            lines.append(f"| {_title(case)}: {_METRICS[metric]} | " + " | ".join(cells) + " |")
    notes = {f"{PEERS[peer].title}, {_title(case)}: {note}." for (_, case, peer), note in summary.notes.items()}
    return "\n".join([*lines, *_losses(summary), *(f"\n{note}" for note in sorted(notes))]) + "\n"


def tables(samples: Iterable[Sample]) -> str:
    """All long tables."""
    samples = list(samples)
    questions = dict.fromkeys(one.question for one in samples)
    return "\n".join(f"### {question}\n\n{long_table(samples, question)}" for question in questions)


def plot(samples: Iterable[Sample]) -> str:
    """SVG: the lines of the short table that are times, as bars on one logarithmic axis."""
    summary = Summary(samples)
    groups = []
    for row in SHORT:
        if row.metric not in ("thread_us", "process_us"):
            continue
        figures = [(peer, row.figure(summary, peer)) for peer in SHORT_PEERS]
        bars = [
            Bar(
                PEERS[peer].title.replace("`", ""), figure.median, figure.low, figure.high, peer.startswith("otelagent")
            )
            for peer, figure in figures
            if figure is not None and figure.median > 0
        ]
        if bars:
            groups.append(Group(row.title.removesuffix(", µs"), bars))
    return svg("CPU time in microseconds, logarithmic; less is better", groups)


def load(path: Path) -> tuple[Mapping[str, Any], list[Sample]]:
    """The facts and the samples of a results.json."""
    results: dict[str, Any] = json.loads(path.read_text())
    return results["facts"], [Sample(**one) for one in results["samples"]]


def put_between_markers(text: str, table: str, markers: tuple[str, str] = MARKERS) -> str:
    """The text with what is between its markers replaced.

    :raises ValueError: it hasn't exactly one pair of them.
    """
    begin, end = markers
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise ValueError(f"needs {begin} and {end} once each")
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n\n{table.strip()}\n\n{end}{rest.partition(end)[2]}"


def _ratio(summary: Summary, row: Row) -> str:
    ratio = summary.ratio(row.question, row.case, row.metric, MINE, STOCK, row.over)
    if ratio is None:
        return ""
    if row.higher:
        ratio = Figure(1 / ratio.median, 1 / ratio.high, 1 / ratio.low)
        return f"1 : {number(ratio.median)}"
    return f"{number(ratio.median)} ({number(ratio.low)} to {number(ratio.high)})"


def _losses(summary: Summary) -> list[str]:
    return [
        f"\n{PEERS[peer].title} lost {lost:,} of {sent:,} spans ({question})."
        for (question, peer), (lost, sent) in summary.lost().items()
    ]


def _title(case: str) -> str:
    name = case.removesuffix("-unsampled")
    if name in WORKLOADS:
        return WORKLOADS[name].title + ("" if name == case else ", not sampled")
    kind, _, number = case.partition("-")
    return _TITLES.get(case) or _TITLES.get(kind, case).format(number)


def _spread(figure: Figure) -> str:
    if figure.low == figure.high:
        return number(figure.median)
    return f"{number(figure.median)} ({number(figure.low)} to {number(figure.high)})"


def number(value: float) -> str:
    """For people: three digits."""
    if math.isinf(value):
        return "∞"
    if abs(value) >= 1000:
        return f"{round(value, 1 - len(str(int(abs(value)))) + 2):,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints or writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report")
    parser.add_argument("results", nargs="?", type=Path, default=REFERENCE)
    parser.add_argument("--write", type=Path, help="a Markdown file with the markers")
    parser.add_argument("--plot", type=Path, help="a file to write the SVG to")
    parser.add_argument("--all", action="store_true", help="the long tables instead of the short one")
    options = parser.parse_args(arguments)
    if json.loads(options.results.read_text())["quick"] and (options.plot or options.write):
        sys.exit(f"{options.results} is of a quick run, whose numbers mean nothing: nothing is written")
    known, samples = load(options.results)
    table = tables(samples) if options.all else short_table(samples)
    table += f"\n{known['python']}, {known['system']} {known['machine']}, {known['cpus']} CPUs ({known['cpu']}).\n"
    if options.plot:
        options.plot.write_text(plot(samples))
    if options.write:
        options.write.write_text(put_between_markers(options.write.read_text(), table))
    else:
        print(table)


if __name__ == "__main__":
    main()
