"""A viewer that is empty, that ends, that comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, expect

from tests.browser.sight import expect_traces, open_trace, span_row
from tests.browser.viewer import Viewer
from tests.browser.watch import Watch
from tests.viewer.requests import Traces


def send(viewer: Viewer, name: str) -> bytes:
    traces = Traces("life", time.time_ns())
    span = traces.span(name)
    viewer.send("traces", traces.body)
    return bytes(span.trace_id)


def test_an_empty_page_says_what_to_do_and_whether_the_way_is_free(
    own: Viewer, new_context: Callable[..., BrowserContext]
) -> None:
    page = new_context(own).new_page()
    page.goto(own.address)
    expect(page.get_by_role("heading", name="No traces yet")).to_be_visible()
    expect(page.get_by_text("otelagent-run --ui python app.py")).to_be_visible()
    expect(page.get_by_text(f"export OTEL_EXPORTER_OTLP_ENDPOINT={own.base}")).to_be_visible()
    checks = page.get_by_role("listitem").filter(has=page.get_by_text("pass", exact=True))
    expect(checks.first).to_be_visible()
    told = {one["title"] for one in own.ask("checks")["checks"]}
    assert told
    for title in told:
        expect(page.get_by_role("listitem").filter(has_text=title)).to_be_visible()
    send(own, "the first")
    expect_traces(page, "the first")


def test_a_viewer_that_ends_is_told_and_what_is_shown_stays(
    tmp_path: Path, new_context: Callable[..., BrowserContext], watch: Watch
) -> None:
    watch.expect(r"net::ERR|status of 401")
    first = Viewer(tmp_path)
    try:
        trace = send(first, "before the end")
        context = new_context(first)
        page = context.new_page()
        page.goto(first.address)
        open_trace(page, first, trace)
    finally:
        first.close()
    expect(page.get_by_role("alert")).to_contain_text("The viewer doesn't answer")
    expect(page.get_by_role("alert")).to_contain_text("prints a new address")
    expect(page.get_by_role("button", name="Offline")).to_be_visible()
    expect(span_row(page, "before the end")).to_be_visible()
    second = Viewer(tmp_path, first.port)
    try:
        # It has another token, and the page says so until the new address is opened anywhere in this browser.
        expect(page.get_by_role("alert")).to_contain_text("doesn't know this page")
        context.new_page().goto(second.address)
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.get_by_role("button", name="Live")).to_be_visible()
        page.get_by_role("link", name="All traces").click()
        send(second, "after it")
        expect_traces(page, "after it", "before the end")
    finally:
        second.close()
