"""Spans that haven't ended, as the agent sends them to a viewer (an end of 0), and what becomes of them."""

from __future__ import annotations

import time

from playwright.sync_api import Page, expect

from tests.browser.sight import open_trace, span_row, trace_rows
from tests.browser.viewer import Viewer
from tests.viewer.requests import Traces

LOST_WITHIN_MS = 60_000


def test_a_span_runs_until_it_ends(page: Page, viewer: Viewer) -> None:
    running = Traces("jobs", time.time_ns())
    span = running.span("long job")
    span.end_time_unix_nano = 0
    viewer.send("traces", running.body)
    page.goto(f"{viewer.base}/#/traces?service=jobs")
    expect(trace_rows(page)).to_contain_text(["running"])
    open_trace(page, viewer, span.trace_id)
    row = span_row(page, "long job")
    expect(row).to_contain_text("running")
    row.click()
    expect(page.get_by_text("1 span running")).to_be_visible()
    ended = Traces("jobs")
    ended.request.CopyFrom(running.request)
    (last,) = ended.request.resource_spans[0].scope_spans[0].spans
    last.end_time_unix_nano = last.start_time_unix_nano + 3_000_000
    viewer.send("traces", ended.body)
    expect(row).to_contain_text("3.00 ms")
    expect(row).not_to_contain_text("running")


def test_a_span_of_a_process_that_tells_no_more_is_lost(page: Page, viewer: Viewer) -> None:
    running = Traces("jobs-killed", time.time_ns())
    span = running.span("killed job")
    span.end_time_unix_nano = 0
    viewer.send("traces", running.body)
    open_trace(page, viewer, span.trace_id)
    expect(span_row(page, "killed job")).to_contain_text("running")
    expect(span_row(page, "killed job")).to_contain_text("lost", timeout=LOST_WITHIN_MS)
