"""Tables of what the viewer was asked: ``python -m benchmarks.viewer_report RESULTS.json [--write FILE]``, which puts
them between the markers of a Markdown file; and whether the run shows what the viewer has to.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.ingest import HOLD_S
from benchmarks.peers import PEERS
from benchmarks.reading import LIST_MS
from benchmarks.report import load, number, put_between_markers
from benchmarks.samples import Sample
from benchmarks.summary import Summary
from benchmarks.viewers import JAEGER, VIEWER
from benchmarks.wire import SHAPES

__all__ = ["MARKERS", "budgets", "tables"]

MARKERS = ("<!-- viewer:begin -->", "<!-- viewer:end -->")
MAX_MIB = 300.0
TRACE_MS = 2_000.0

_METRICS = {"spans_per_s": "spans/s", "process_us": "CPU of a span, µs", "rss_mib": "peak resident memory, MiB"}


def tables(samples: Iterable[Sample]) -> str:
    """Markdown: both questions, medians; ratios round by round."""
    summary = Summary(samples)
    title = {1: "one span", 2: "two spans, as telemetrygen's", 10: "ten spans"}
    lines = [f"| traces of | | {PEERS[VIEWER].title} | {PEERS[JAEGER].title} | ratio |", "|---|---|--:|--:|--:|"]
    for shape, spans in SHAPES.items():
        for metric, text in _METRICS.items():
            figures = [summary.figure("ingest", shape, peer, metric) for peer in (VIEWER, JAEGER)]
            # So that more than 1 is better in every line.
            pair = (JAEGER, VIEWER) if metric == "spans_per_s" else (VIEWER, JAEGER)
            ratio = summary.ratio("ingest", shape, metric, *pair)
            cells = [number(one.median) if one else "" for one in (*figures, ratio)]
            lines.append(f"| {title[spans]} | {text} | {' | '.join(cells)} |")
    lines += [
        f"\n{PEERS[peer].title} lost {lost:,} of {sent:,} spans ({question})."
        for (question, peer), (lost, sent) in summary.lost().items()
    ]
    return "\n".join([*lines, "", *_answers(summary)]) + "\n"


def _answers(summary: Summary) -> Iterator[str]:
    long = summary.figure("reading", "trace", VIEWER, "answer_ms")
    if long is not None:
        yield f"A trace of 50,000 spans is answered in {number(long.median)} ms.\n"
    stored = [summary.figure("reading", "stored", VIEWER, name) for name in ("stored", "disk_mib", "rss_mib")]
    if all(stored):
        spans, disk, memory = (number(one.median) for one in stored if one)
        yield f"{spans} spans stored are {disk} MiB on disk; the process took at most {memory} MiB.\n"
    yield from ("| asked of them | ms | traces on the page | |", "|---|--:|--:|---|")
    for case in summary.cases("reading"):
        time, found, complete = (
            summary.figure("reading", case, VIEWER, name) for name in ("answer_ms", "found", "complete")
        )
        if time is not None and complete is not None:
            cut = "" if complete.low else "as far as its bounds allow, which it says"
            yield f"| {case} | {number(time.median)} | {number(found.median) if found else ''} | {cut} |"


def budgets(samples: Sequence[Sample]) -> Iterator[str]:
    """A line for each thing that the viewer has to show, with the number."""
    summary = Summary(samples)
    for shape in SHAPES:
        ratio = summary.ratio("ingest", shape, "spans_per_s", JAEGER, VIEWER)
        mine = [one for one in samples if (one.question, one.case, one.peer) == ("ingest", shape, VIEWER)]
        title = f"traces of {shape}: more spans/s into the store than Jaeger with badger, {HOLD_S:.0f} s, nothing lost"
        if ratio is None or not mine:
            yield f"not measured  {title}, below {MAX_MIB:.0f} MiB"
            continue
        memory = max(one.values.get("rss_mib", 0.0) for one in mine)
        exact = all(one.sent == one.arrived and one.values.get("seconds", 0) >= HOLD_S for one in mine)
        good = ratio.median > 1 and exact and memory < MAX_MIB
        yield f"{_verdict(good)}  {title}: {ratio.median:.2f}x, {memory:.0f} MiB, wanted below {MAX_MIB:.0f}"
    trace = summary.figure("reading", "trace", VIEWER, "answer_ms")
    lists = [case for case in summary.cases("reading") if summary.figure("reading", case, VIEWER, "found")]
    times = {case: summary.figure("reading", case, VIEWER, "answer_ms") for case in lists}
    worst = max(((one.high, case) for case, one in times.items() if one), default=None)
    if trace is None or worst is None:
        yield "not measured  answers over five million spans"
        return
    for title, took_ms, most_ms in (
        ("a trace of 50,000 spans", trace.high, TRACE_MS),
        (f"five million spans, the slowest list ({worst[1]})", worst[0], LIST_MS),
    ):
        yield f"{_verdict(took_ms < most_ms)}  {title}: {took_ms:.0f} ms, wanted below {most_ms:.0f}"


def _verdict(good: bool) -> str:
    return "pass" if good else "FAIL"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints or writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.viewer_report")
    parser.add_argument("results", type=Path, nargs="+", help="of runs; together they are one")
    parser.add_argument("--write", type=Path, help="a Markdown file with the markers")
    options = parser.parse_args(arguments)
    samples: list[Sample] = []
    for path in options.results:
        if options.write and json.loads(path.read_text())["quick"]:
            sys.exit(f"{path} is of a quick run, whose numbers mean nothing: nothing is written")
        known, some = load(path)
        samples += some
    text = tables(samples)
    text += f"\n{known['python']}, {known['system']} {known['machine']}, {known['cpus']} CPUs ({known['cpu']}).\n"
    if options.write:
        options.write.write_text(put_between_markers(options.write.read_text(), text, MARKERS))
    else:
        print(text)


if __name__ == "__main__":
    main()
