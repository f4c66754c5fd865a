"""Metrics: their series over time, their last values, and the traces that stand for them."""

from __future__ import annotations

import re
import time

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from playwright.sync_api import Page, expect

from tests.browser.sight import detail
from tests.browser.viewer import Viewer


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
