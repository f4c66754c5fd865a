"""All that is told of one span, sent by a program with the OpenTelemetry SDK."""

from __future__ import annotations

import re
import time

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from playwright.sync_api import Page, expect

from tests.browser.sight import detail, open_span, open_trace, span_row
from tests.browser.viewer import Viewer
from tests.viewer.requests import Traces, put


def test_attributes_resource_and_scope(page: Page, viewer: Viewer, checkout: dict[str, bytes]) -> None:
    open_trace(page, viewer, checkout["checkout"])
    told = open_span(page, "POST /checkout")
    for text in ("http.route", "/checkout", "server"):
        expect(told).to_contain_text(text)
    told.get_by_role("group").filter(has_text="Resource").get_by_text("checkout").first.click()
    expect(told.get_by_text("1.2.3")).to_be_visible()
    expect(told.get_by_role("group").filter(has_text="Scope")).to_contain_text("shop 1")
    assert "span=" in page.url
    told.get_by_role("button", name="Close").click()
    expect(told).to_have_count(0)
    assert "span=" not in page.url


def test_an_attribute_leads_to_the_traces_that_have_it(page: Page, viewer: Viewer, checkout: dict[str, bytes]) -> None:
    open_trace(page, viewer, checkout["checkout"])
    open_span(page, "POST /checkout").get_by_role("link", name="Filter by http.route=/checkout").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("table", name="Traces")).to_contain_text("POST /checkout")
    assert "attr=http.route" in page.url


def test_an_exception_has_its_stack(page: Page, viewer: Viewer, checkout: dict[str, bytes]) -> None:
    open_trace(page, viewer, checkout["checkout"])
    told = open_span(page, "charge card")
    expect(told.get_by_role("heading", name="ValueError")).to_be_visible()
    expect(told.get_by_text("the card was declined", exact=True).first).to_be_visible()
    stack = told.get_by_label("Stack trace", exact=True)
    expect(stack).to_contain_text("Traceback (most recent call last)")
    expect(stack).to_contain_text("in charge\n    raise ValueError(")
    # Nothing of it is beside the box, such as the numbers of the lines.
    assert stack.evaluate("element => element.scrollWidth - element.clientWidth") == 0
    expect(told.get_by_text("failed", exact=True)).to_be_visible()


def test_events_have_their_time_and_attributes(page: Page, viewer: Viewer, checkout: dict[str, bytes]) -> None:
    open_trace(page, viewer, checkout["checkout"])
    told = open_span(page, "charge card")
    expect(told.get_by_text("asked")).to_be_visible()
    expect(told.get_by_text("attempt").first).to_be_visible()


def test_a_query_is_shown_as_it_was_written(page: Page, viewer: Viewer, checkout: dict[str, bytes]) -> None:
    open_trace(page, viewer, checkout["checkout"])
    told = open_span(page, "SELECT stock")
    query = told.locator("pre").filter(has_text="FROM stock")
    expect(query).to_be_visible()
    assert query.inner_text() == "SELECT price, left_over\n  FROM stock\n WHERE sku = ?"


def test_links_lead_to_the_other_trace_and_back(page: Page, viewer: Viewer, checkout: dict[str, bytes]) -> None:
    open_trace(page, viewer, checkout["worker"])
    told = open_span(page, "work off order")
    expect(told).to_contain_text("queue")
    told.get_by_role("listitem").filter(has_text="to trace").get_by_role("link").click()
    expect(detail(page).get_by_role("heading", name="send order")).to_be_visible()
    assert checkout["checkout"].hex() in page.url
    detail(page).get_by_role("listitem").filter(has_text="from trace").get_by_role("link").click()
    expect(detail(page).get_by_role("heading", name="work off order")).to_be_visible()
    assert checkout["worker"].hex() in page.url
    page.go_back()
    expect(detail(page).get_by_role("heading", name="send order")).to_be_visible()


def test_the_parent_is_a_click_away(page: Page, viewer: Viewer, checkout: dict[str, bytes]) -> None:
    open_trace(page, viewer, checkout["checkout"])
    told = open_span(page, "charge card")
    told.get_by_role("button", name="POST /checkout").click()
    expect(told.get_by_role("heading", name="POST /checkout")).to_be_visible()


def test_log_records_are_beside_their_span(page: Page, viewer: Viewer, checkout: dict[str, bytes]) -> None:
    open_trace(page, viewer, checkout["checkout"])
    told = open_span(page, "send order")
    told.get_by_role("tab", name="Logs").click()
    expect(told.get_by_role("tabpanel")).to_contain_text("order goes to the queue")
    span_row(page, "POST /checkout").click()
    expect(told.get_by_role("tabpanel")).to_contain_text("the bank said no")
    told.get_by_role("tabpanel").get_by_role("group").filter(has_text="Attributes").first.click()
    expect(told.get_by_role("tabpanel")).to_contain_text("exception.type")
    told.get_by_role("link", name="All of this trace").click()
    expect(page.get_by_role("main").get_by_role("listitem")).to_have_count(2)


def test_metrics_of_its_service_are_beside_the_span(page: Page, viewer: Viewer, checkout: dict[str, bytes]) -> None:
    open_trace(page, viewer, checkout["checkout"])
    told = open_span(page, "POST /checkout")
    told.get_by_role("tab", name="Metrics").click()
    expect(told.get_by_role("img", name=re.compile("^checkout.duration around the span"))).to_be_visible()
    # It has one point, of which there is no rate yet.
    orders = told.get_by_role("listitem").filter(has_text="checkout.orders")
    expect(orders).to_contain_text("total")
    expect(orders).to_contain_text("highest of 2")
    told.get_by_role("link", name="checkout.orders").click()
    expect(page.get_by_role("heading", name="checkout.orders")).to_be_visible()


def test_a_large_value_beside_the_span_is_whole(page: Page, viewer: Viewer) -> None:
    traces = Traces("span-large", time.time_ns())
    span = traces.span("work")
    viewer.send("traces", traces.body)
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    put(resource.resource.attributes, {"service.name": "span-large"})
    point = resource.scope_metrics.add().metrics.add(name="large").gauge.data_points.add(as_int=123_456_789_012)
    point.time_unix_nano = time.time_ns()
    viewer.send("metrics", request.SerializeToString())
    open_trace(page, viewer, span.trace_id, span.span_id)
    detail(page).get_by_role("tab", name="Metrics").click()
    value = detail(page).get_by_role("listitem").get_by_text("123 G", exact=True)
    expect(value).to_be_visible()
    assert detail(page).evaluate("pane => pane.scrollWidth - pane.clientWidth") == 0


def test_errors_and_logs_of_the_whole_trace(page: Page, viewer: Viewer, checkout: dict[str, bytes]) -> None:
    open_trace(page, viewer, checkout["checkout"])
    views = page.get_by_role("tablist", name="Views of the trace")
    views.get_by_role("tab", name="Logs 2").click()
    expect(page.get_by_role("region", name="Log records").get_by_role("listitem")).to_contain_text(
        ["the bank said no", "order goes to the queue"]
    )
    page.reload()
    views.get_by_role("tab", name="Errors 1").click()
    expect(page.get_by_role("region", name="Errors")).to_contain_text("ValueError: the card was declined")
    page.get_by_role("region", name="Errors").get_by_role("button", name="charge card").click()
    expect(detail(page).get_by_role("heading", name="ValueError")).to_be_visible()
    expect(span_row(page, "charge card")).to_have_attribute("aria-selected", "true")
