"""The list of traces: what is in it, what it leaves out when asked to, and what comes while one looks."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.viewer import Viewer
from tests.viewer.requests import Traces


def test_a_trace_is_in_the_list_and_opens(page: Page, viewer: Viewer) -> None:
    traces = Traces("list-first")
    span = traces.span("GET /first", kind=2)
    traces.span("SELECT first", trace=span.trace_id, parent=span.span_id, kind=3)
    viewer.send("traces", traces.request)
    row = page.get_by_role("row").filter(has_text="list-first")
    expect(row).to_contain_text("GET /first")
    row.get_by_role("link", name="GET /first").click()
    expect(page.get_by_role("treegrid").get_by_role("row")).to_have_count(3)
    expect(page.get_by_role("row", name="SELECT first")).to_be_visible()


def test_the_token_is_in_the_address_only_once(page: Page, viewer: Viewer) -> None:
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    assert page.url.startswith(viewer.base)
    assert "token" not in page.url
