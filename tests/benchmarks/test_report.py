"""From given samples to tables, plot and verdicts."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import budgets, report, run, throughput, viewer_report
from benchmarks.samples import Sample, read, write
from benchmarks.summary import Figure, Summary

FIVE = "attributes-5"


def sample(peer: str, thread_us: float, process_us: float, number: int = 0, case: str = FIVE, lost: int = 0) -> Sample:
    values = {"thread_us": thread_us, "process_us": process_us}
    return Sample("span_cost", peer, case, number, values, sent=1000, arrived=1000 - lost)


SAMPLES = [
    *(sample("opentelemetry", 20.0 + number, 40.0 + number, number) for number in range(3)),
    *(sample("otelagent-native", 0.5, 1.0 + number / 10, number) for number in range(3)),
    *(sample("pycpp", 10.0, 15.0, number, lost=7) for number in range(3)),
    Sample("span_cost", "ddtrace", FIVE, note="not available here: no wheel"),
    Sample("cold", "ddtrace", "", note="not available here: no wheel"),
]


def test_a_sample_survives_its_line() -> None:
    lines = [write(one) for one in SAMPLES]
    assert list(read(["some library's chatter", *lines, ""])) == SAMPLES


def test_figures() -> None:
    summary = Summary(SAMPLES)
    assert summary.figure("span_cost", FIVE, "opentelemetry", "thread_us") == Figure(21, 20, 22)
    assert summary.figure("span_cost", FIVE, "ddtrace", "thread_us") is None
    # Each round by itself, for a machine changes between rounds.
    ratio = summary.ratio("span_cost", FIVE, "thread_us", "otelagent-native", "opentelemetry")
    assert ratio == Figure(42, 40, 44)
    added = summary.figure("span_cost", FIVE, "opentelemetry", "process_us", over="pycpp")
    assert added == Figure(26, 25, 27)
    assert summary.lost() == {("span_cost", "pycpp"): (21, 3000)}


def test_the_tables_say_medians_spread_losses_and_what_is_missing() -> None:
    short, long = report.short_table(SAMPLES), report.long_table(SAMPLES, "span_cost")
    assert "| span with five attributes, application thread, µs | 21.0 | 10.0 | 0.50 | 42.0 (40.0 to 44.0) |" in short
    assert "| five attributes: application thread, µs | 21.0 (20.0 to 22.0) | 10.0 | 0.50 |" in long
    for table in (short, long):
        assert "honeycomb-pycpp lost 21 of 3,000 spans" in table
    assert "ddtrace, five attributes: not available here: no wheel." in long


def test_a_table_goes_between_the_markers(tmp_path: Path) -> None:
    begin, end = report.MARKERS
    page = tmp_path / "page.md"
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    results = tmp_path / "results.json"
    facts = {"python": "CPython 3.11", "system": "Linux", "machine": "x86_64", "cpus": 2, "cpu": "a model"}
    results.write_text(
        json.dumps({"facts": facts, "quick": False, "samples": [json.loads(write(one)) for one in SAMPLES]})
    )
    report.main([str(results), "--write", str(page), "--plot", str(tmp_path / "plot.svg")])
    text = page.read_text()
    assert text.startswith(f"before\n{begin}\n\n| |")
    assert text.endswith(f"(a model).\n\n{end}\nafter\n")
    assert "old" not in text
    ET.fromstring((tmp_path / "plot.svg").read_text())
    with pytest.raises(ValueError):
        report.put_between_markers("no markers", "table")


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md"])
def test_what_is_published_is_the_committed_run(page: str) -> None:
    _, samples = report.load(report.REFERENCE)
    assert f"\n{report.short_table(samples).strip()}\n" in (Path(__file__).parents[2] / page).read_text()
    assert report.REFERENCE.with_suffix(".svg").read_text() == report.plot(samples)


def test_the_plot_has_a_bar_for_each_value_on_one_logarithmic_axis() -> None:
    root = ET.fromstring(report.plot(SAMPLES))
    bars = list(root.iter("{http://www.w3.org/2000/svg}rect"))
    assert len(bars) == 6
    widths = {float(one.attrib["width"]) for one in bars[:3]}
    ours = [one for one in bars if "ours" in one.attrib["class"]]
    assert len(ours) == 2
    assert float(ours[0].attrib["width"]) == min(widths)
    # 0.5, 10 and 21 between 0.1 and 100: twenty times less is log10(20) of three decades shorter.
    width = 860 - 190 - 60
    assert sorted(widths)[1] - sorted(widths)[0] == pytest.approx(width * 1.30103 / 3, abs=0.3)


def test_budgets_tell_pass_and_fail_with_the_number() -> None:
    lines = budgets.text(SAMPLES).splitlines()
    assert "pass  five attributes, thread: opentelemetry-sdk: 42.0x (40.0 to 44.0), wanted at least 25x" in lines
    assert "pass  five attributes, thread: honeycomb-pycpp: 20.0x (20.0 to 20.0), wanted at least 15x" in lines
    assert any(line.startswith("not measured  five attributes, thread: ddtrace") for line in lines)
    slow = [sample("otelagent-native", 5.0, 9.0), sample("opentelemetry", 20.0, 40.0)]
    assert budgets.text(slow).startswith("FAIL  five attributes, thread: opentelemetry-sdk: 4.0x")


def test_the_budget_of_an_outage() -> None:
    for ratio, verdict in (1.02, "pass"), (1.31, "FAIL"):
        lines = budgets.text([Sample("outage", "otelagent-native", "end", values={"outage_ratio": ratio})])
        assert f"{verdict}  p99 of ending a span while the backend is down" in lines
        assert f"{ratio:.2f}" in lines
    assert "not measured  p99 of ending a span" in budgets.text([])


def hold(peer: str, rate: float, seconds: float = 60.0, lost: int = 0, note: str = "") -> Sample:
    values = {"spans_per_s": rate, "seconds": seconds}
    return Sample("throughput", peer, "hold", values=values, sent=12_000_000, arrived=12_000_000 - lost, note=note)


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (hold("otelagent-native", 199_900), "pass"),
        (hold("otelagent-native", 150_000), "FAIL"),
        (hold("otelagent-native", 200_000, seconds=10), "FAIL"),
        (hold("otelagent-native", 200_000, lost=1), "FAIL"),
        (replace(hold("otelagent-native", 250_000, note="250000/s for 60 s: not held"), case="hold-failed"), "FAIL"),
        (Sample("throughput", "otelagent-native", "hold", note="doesn't hold 5000 spans a second"), "FAIL"),
        (Sample("throughput", "otelagent-native", "hold", note="not available here: no collector"), "not measured"),
        (hold("opentelemetry", 200_000), "not measured"),
    ],
)
def test_throughput_counts_when_held_for_a_minute_without_loss(one: Sample, verdict: str) -> None:
    assert budgets.text([one]).splitlines()[-1].startswith(verdict)


def test_what_was_held_counts_whatever_was_tried_besides() -> None:
    failed = replace(hold("otelagent-native", 250_000, note="not held"), case="hold-failed")
    for samples in ([failed, hold("otelagent-native", 200_000)], [hold("otelagent-native", 200_000), failed]):
        assert budgets.text(samples).splitlines()[-1].startswith("pass")


def test_a_round_that_noise_covers_is_no_round_less() -> None:
    def added(peer: str, *values: float) -> list[Sample]:
        return [Sample("startup", peer, "command", number, {"added_cpu_ms": v}) for number, v in enumerate(values)]

    summary = Summary([*added("otelagent-native", 10, -1, -2, 20), *added("opentelemetry", 40, 50, -3, 60)])
    ratio = summary.ratio("startup", "command", "added_cpu_ms", "otelagent-native", "opentelemetry")
    assert ratio == Figure(4.0, 3.0, math.inf)
    assert report.number(math.inf) == "∞"


def trial(**changes: object) -> throughput.Trial:
    ledger = {"ended": 1000, "delivered": 1000, "balanced": True}
    made = {
        "spans": 1000,
        "rate": 500.0,
        "backlog_s": 0.1,
        "ledger": ledger,
        "seconds": 2.0,
        "process_s": 0.1,
    } | changes
    return throughput.Trial(500, made, accepted=1000, written=1000)


def test_a_rate_is_held_when_every_count_agrees() -> None:
    assert trial().held
    assert not trial(backlog_s=5.0).held
    assert not trial(rate=400.0).held
    assert not trial(spans=1001).held
    assert not trial(ledger={"ended": 1000, "delivered": 999, "balanced": True}).held
    assert "not held: 1 lost" in str(trial(spans=1001))


@pytest.mark.parametrize("limit", [0, 5_000, 12_345, 199_999, 1_000_000])
def test_the_search_finds_a_rate_that_holds_near_the_limit(limit: int) -> None:
    asked: list[int] = []

    def holds(rate: int) -> bool:
        asked.append(rate)
        return rate <= limit

    found = throughput._search(holds)
    assert found <= limit
    if throughput.FIRST <= limit < throughput.LAST:
        assert found >= limit * 0.87
    assert len(asked) <= 11


def test_the_goal_is_tried_where_the_search_found_more() -> None:
    assert throughput._to_hold(300_000) == [300_000, 255_000, 216_750, 200_000]
    assert throughput._to_hold(10_000) == [10_000, 8_500, 7_225]


def test_spans_in_the_collectors_file_are_counted_across_chunks(tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"
    line = '{"spans":[{"traceId":"a","spanId":"b","parentSpanId":"c"}]}\n'
    file.write_text(line * 200_000)
    assert throughput.count_in_file(file) == 200_000


def test_only_what_otelagent_loses_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run._verdict(SAMPLES) == 0
    assert run._verdict([*SAMPLES, sample("otelagent-native", 1, 2, lost=1)]) == 1
    assert "999 of 1000 arrived" in capsys.readouterr().err
    assert run._verdict([Sample("cold", "otelagent-sdk", "sampled", note="hung for 150 s")]) == 1
    assert run._verdict([Sample("cold", "otelagent-native", "", note="not available here: no Rust")]) == 0


def test_the_viewer_is_told_beside_jaeger_and_judged() -> None:
    def held(peer: str, spans_per_s: float, mib: float, lost: int = 0) -> Sample:
        values = {"spans_per_s": spans_per_s, "seconds": 60.1, "process_us": 20.0, "rss_mib": mib}
        return Sample("ingest", peer, "one", values=values, sent=1000, arrived=1000 - lost)

    answers = [
        Sample("reading", "otelagent-viewer", "trace", values={"answer_ms": 500.0}),
        Sample("reading", "otelagent-viewer", "error", values={"answer_ms": 400.0, "complete": 0.0, "found": 7.0}),
    ]
    samples = [held("otelagent-viewer", 60_000, 200), held("jaeger", 30_000, 700), *answers]
    table = viewer_report.tables(samples)
    assert "| one span | spans/s | 60,000 | 30,000 | 2.00 |" in table
    assert "| one span | peak resident memory, MiB | 200 | 700 | 3.50 |" in table
    assert "| error | 400 | 7.00 | as far as its bounds allow, which it says |" in table
    lines = list(viewer_report.budgets(samples))
    assert [line.partition(" ")[0] for line in lines] == ["pass", "not", "not", "pass", "FAIL"]
    lines = list(viewer_report.budgets([held("otelagent-viewer", 60_000, 200, lost=1), held("jaeger", 30_000, 700)]))
    assert lines[0].startswith("FAIL")
