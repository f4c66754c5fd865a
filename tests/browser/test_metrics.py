"""Metrics: their series over time, their last values, and the traces that stand for them."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.sight import detail
from tests.browser.viewer import Viewer, outside
from tests.viewer.requests import put


def open_metric(page: Page, viewer: Viewer, name: str) -> None:
    page.goto(f"{viewer.base}/#/metrics")
    page.get_by_role("navigation", name="Metrics").get_by_role("link", name=re.compile(re.escape(name))).click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def test_a_counter_has_a_series_for_each_set_of_attributes(
    page: Page, viewer: Viewer, checkout: dict[str, bytes]
) -> None:
    open_metric(page, viewer, "checkout.orders")
    page.get_by_role("combobox", name="Shown").select_option("Total")
    expect(page.get_by_role("row", name=re.compile("payment=card"))).to_contain_text("3")
    expect(page.get_by_role("row", name=re.compile("payment=cash"))).to_contain_text("1")
    expect(page.get_by_role("img", name=re.compile("Values over time"))).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="checkout.orders")).to_be_visible()


def test_a_histogram_leads_to_the_trace_of_an_example(page: Page, viewer: Viewer, checkout: dict[str, bytes]) -> None:
    open_metric(page, viewer, "checkout.duration")
    expect(page.get_by_text("How long a checkout takes")).to_be_visible()
    page.get_by_role("combobox", name="Shown").select_option("Average")
    expect(page.get_by_role("row", name=re.compile("payment=card"))).to_contain_text("607 ms")
    page.get_by_role("link", name=re.compile(checkout["checkout"].hex()[:8])).first.click()
    expect(detail(page).get_by_role("heading", name="POST /checkout")).to_be_visible()


def test_metrics_are_found_by_name(page: Page, viewer: Viewer, checkout: dict[str, bytes]) -> None:
    page.goto(f"{viewer.base}/#/metrics")
    page.get_by_role("searchbox", name="Filter metrics").fill("shelves")
    expect(page.get_by_role("navigation", name="Metrics").get_by_role("link")).to_have_count(1)
    expect(page.get_by_role("heading", name="checkout.shelves")).to_be_visible()


def test_an_exponential_histogram_goes_on_where_its_scale_is_lowered(page: Page, viewer: Viewer) -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="spread", unit="1")
    metric.exponential_histogram.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    now_ns = time.time_ns()
    # A hundred values in (1, 2], as four buckets and then as one, with ten more in (8, 16].
    for seconds, scale, counts in ((10, 2, [25] * 4), (0, 0, [100, 0, 0, 10])):
        points = metric.exponential_histogram.data_points
        point = points.add(time_unix_nano=now_ns - seconds * 10**9, scale=scale, count=sum(counts), sum=200.0)
        point.positive.bucket_counts.extend(counts)
    viewer.send("metrics", request.SerializeToString())
    open_metric(page, viewer, "spread")
    cell = page.get_by_role("row").last.get_by_role("cell").nth(1)
    for shown, value in (("Count per second", "1"), ("Median", "12")):
        page.get_by_role("combobox", name="Shown").select_option(shown)
        expect(cell).to_have_text(re.compile(rf"^{value}(\.0+)?\b"))


def test_an_empty_page_says_how_a_program_sends_some(own: Viewer, new_context: Callable[..., BrowserContext]) -> None:
    page = new_context(own).new_page()
    page.goto(own.address)
    page.goto(f"{own.base}/#/metrics")
    expect(page.get_by_role("heading", name="No metrics yet")).to_be_visible()
    advice = page.get_by_role("main").locator("pre").inner_text()
    program = f"{advice}\nmetrics.get_meter('advised').create_counter('advised.calls').add(2)"
    subprocess.run([sys.executable, "-c", program], env=outside(), timeout=60, check=True)
    expect(page.get_by_role("heading", name="advised.calls")).to_be_visible()
    # Of one point there is no rate yet, and so the total is shown.
    expect(page.get_by_role("row", name=re.compile("no attributes"))).to_contain_text("2")


def send_histogram(viewer: Viewer, name: str, *points: tuple[list[int], float | None]) -> None:
    """Cumulative points, a second apart: their buckets up to 5 s, up to 10 s and above, and the greatest value."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    put(resource.resource.attributes, {"service.name": "metrics-buckets"})
    metric = resource.scope_metrics.add().metrics.add(name=name, unit="s")
    metric.histogram.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    began = time.time_ns() - len(points) * 10**9
    for number, (counts, most) in enumerate(points):
        point = metric.histogram.data_points.add(count=sum(counts), bucket_counts=counts, explicit_bounds=[5.0, 10.0])
        point.time_unix_nano = began + number * 10**9
        if most is not None:
            point.min, point.max = 0.1, most
    viewer.send("metrics", request.SerializeToString())


@pytest.mark.parametrize(
    ("name", "points", "told"),
    [
        # Between the least and the greatest value, and not up to the bucket's bound.
        ("known", [([20, 0, 0], 0.7)], "670 ms"),
        ("bucket", [([20, 0, 0], None)], "≤ 5.00 s"),
        ("endless", [([0, 0, 20], None)], "> 10.0 s"),
        # Nothing came between the last two points.
        ("quiet", [([0, 0, 0], None), ([10, 0, 0], None), ([10, 0, 0], None)], "≤ 5.00 s"),
    ],
)
def test_a_percentile_says_no_more_than_is_known(
    name: str, points: list[tuple[list[int], float | None]], told: str, page: Page, viewer: Viewer
) -> None:
    send_histogram(viewer, f"buckets.{name}", *points)
    open_metric(page, viewer, f"buckets.{name}")
    expect(page.get_by_role("combobox", name="Shown")).to_have_value("p95")
    expect(page.get_by_role("row", name=re.compile("no attributes")).get_by_role("cell").nth(1)).to_have_text(told)


@pytest.mark.parametrize(
    ("name", "sources", "told"),
    [
        ("instances", [({"service.instance.id": "one"}, "s"), ({"service.instance.id": "two"}, "s")], ["one", "two"]),
        (
            "processes",
            [({"host.name": "box", "process.pid": 17}, "s"), ({"host.name": "box", "process.pid": 18}, "s")],
            ["box 17", "box 18"],
        ),
        ("scopes", [({"process.pid": 17}, "http"), ({"process.pid": 17}, "sql")], ["http", "sql"]),
        (
            "both",
            [({"process.pid": 17}, "http"), ({"process.pid": 17}, "sql"), ({"process.pid": 18}, "sql")],
            ["17 http", "17 sql", "18 sql"],
        ),
        ("unknown", [({"number": 1}, ""), ({"number": 2}, "")], ["source 1 of 2", "source 2 of 2"]),
    ],
)
def test_the_processes_of_a_service_are_one_row(
    name: str, sources: list[tuple[dict[str, str | int], str]], told: list[str], page: Page, viewer: Viewer
) -> None:
    for attributes, scope in sources:
        request = ExportMetricsServiceRequest()
        resource = request.resource_metrics.add()
        put(resource.resource.attributes, {"service.name": "metrics-many", **attributes})
        metrics = resource.scope_metrics.add()
        metrics.scope.name = scope
        metrics.metrics.add(name=f"many.{name}").gauge.data_points.add(time_unix_nano=time.time_ns(), as_int=3)
        viewer.send("metrics", request.SerializeToString())
    open_metric(page, viewer, f"many.{name}")
    entry = page.get_by_role("navigation", name="Metrics").get_by_role("link", name=re.compile(f"many.{name}"))
    expect(entry).to_have_count(1)
    expect(entry).to_contain_text(f"{len(sources)} sources")
    for source in told:
        expect(page.get_by_role("row", name=re.compile(f"{source} 3"))).to_have_count(1)


def send_totals(viewer: Viewer, name: str, *points: tuple[int, int, int]) -> None:
    """A counter and a histogram of one resource: since when they count and when that was, seconds ago, and how much."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    put(resource.resource.attributes, {"service.name": "metrics-bare"})
    metrics = resource.scope_metrics.add().metrics
    counter, sizes = metrics.add(name=f"{name}.calls").sum, metrics.add(name=f"{name}.sizes", unit="s").histogram
    counter.is_monotonic = True
    cumulative = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    counter.aggregation_temporality = sizes.aggregation_temporality = cumulative
    now_ns = time.time_ns()
    for since_s, ago_s, total in points:
        began, at = now_ns - since_s * 10**9 if since_s else 0, now_ns - ago_s * 10**9
        counter.data_points.add(start_time_unix_nano=began, time_unix_nano=at, as_int=total)
        sizes.data_points.add(
            start_time_unix_nano=began, time_unix_nano=at, count=total, bucket_counts=[total, 0], explicit_bounds=[5.0]
        )
    viewer.send("metrics", request.SerializeToString())


TOLD_APART = "Their points are told apart by the time since which they count"
MIXED = "the totals of several are one series here, of which there is no rate"
NO_RATE = ["\N{EN DASH} 4"]
SENDERS: dict[str, tuple[list[tuple[int, int, int]], list[str], str]] = {
    # As two processes send them whose resource names no instance.
    "two": (
        [(90, 40, 270_000), (80, 39, 5), (90, 30, 270_010), (80, 29, 6), (90, 20, 270_020), (80, 19, 7)],
        ["1 3", "0.10 3"],
        TOLD_APART,
    ),
    "again": ([(90, 40, 270_000), (90, 30, 270_010), (25, 20, 20)], ["2 3"], ""),
    # A process that has become two, and says of both that they count since it began.
    "forked": ([(90, 40, 270_000), (90, 39, 5), (90, 30, 270_010), (90, 29, 6)], NO_RATE, MIXED),
    "since never": ([(0, 40, 270_000), (0, 39, 5), (0, 30, 270_010), (0, 29, 6)], NO_RATE, MIXED),
    "fallen": ([(0, 40, 10), (0, 30, 30), (0, 20, 270)], ["24 3"], ""),
}


@pytest.mark.parametrize("name", SENDERS)
def test_totals_of_several_processes_make_no_rate_that_never_was(name: str, page: Page, viewer: Viewer) -> None:
    points, rates, note = SENDERS[name]
    send_totals(viewer, name, *points)
    for metric, shown in ((f"{name}.calls", "Per second"), (f"{name}.sizes", "Count per second")):
        open_metric(page, viewer, metric)
        page.get_by_role("combobox", name="Shown").select_option(shown)
        rows = page.get_by_role("region", name="Series").get_by_role("rowgroup").last.get_by_role("row")
        expect(rows).to_have_count(len(rates))
        for rate in rates:
            expect(rows.filter(has_text=re.compile(rate.replace(" ", r"(\.0+)?\s*") + "$"))).to_have_count(1)
        for text in (TOLD_APART, MIXED):
            expect(page.get_by_text(text)).to_have_count(int(text == note))
    if note == TOLD_APART:
        expect(rows.filter(has_text=re.compile(r"since \d\d:\d\d:\d\d"))).to_have_count(2)


def test_large_numbers_can_be_read(page: Page, viewer: Viewer) -> None:
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    put(resource.resource.attributes, {"service.name": "metrics-large"})
    metrics = resource.scope_metrics.add().metrics
    for value in (26_666.4, 123_456_789_012.5, 99_999.0, 1_234.5, 9.87654):
        gauge = metrics.add(name=f"large.{value}.").gauge
        for seconds in (10, 0):
            gauge.data_points.add(time_unix_nano=time.time_ns() - seconds * 10**9, as_double=value)
    viewer.send("metrics", request.SerializeToString())
    for value, told in (
        (26_666.4, "26,666"),
        (123_456_789_012.5, "123,456,789,013"),
        (99_999.0, "99,999"),
        (1_234.5, "1,235"),
        (9.87654, "9.88"),
    ):
        open_metric(page, viewer, f"large.{value}.")
        expect(page.get_by_role("row").last.get_by_role("cell").nth(1)).to_have_text(told)


@pytest.mark.parametrize(
    ("description", "monotonic", "told"),
    [("", True, "Cumulative sum, unit order"), ("How many wait.", False, "Cumulative sum, up and down, unit order")],
)
def test_a_metric_says_what_it_is(description: str, monotonic: bool, told: str, page: Page, viewer: Viewer) -> None:
    request = ExportMetricsServiceRequest()
    name = f"what.{monotonic}"
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name=name, unit="{order}")
    metric.description = description
    metric.sum.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    metric.sum.is_monotonic = monotonic
    metric.sum.data_points.add(time_unix_nano=time.time_ns(), as_int=3)
    viewer.send("metrics", request.SerializeToString())
    open_metric(page, viewer, name)
    expect(page.get_by_text(told, exact=True)).to_be_visible()
    expect(page.get_by_text("No description")).to_have_count(0)
    if description:
        expect(page.get_by_text(description, exact=True)).to_be_visible()
