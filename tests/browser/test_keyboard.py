"""The page by keyboard alone, with the roles that a screen reader tells."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, expect

from tests.browser.sight import detail, expect_traces, open_trace, span_row, span_rows, trace_rows
from tests.browser.viewer import Viewer
from tests.viewer.requests import Traces


@pytest.fixture(scope="module")
def trace(viewer: Viewer) -> bytes:
    """root > (first > inner, second); another trace is in the list above it."""
    traces = Traces("keyboard", time.time_ns())
    root = traces.span("root", start_us=0, duration_us=1000)
    ids = {"trace": root.trace_id}
    first = traces.span("first", parent=root.span_id, start_us=10, duration_us=400, **ids)
    traces.span("inner", parent=first.span_id, start_us=20, duration_us=100, error=True, **ids)
    traces.span("second", parent=root.span_id, start_us=500, duration_us=100, **ids)
    traces.span("above", start_us=2000)
    viewer.send("traces", traces.body)
    return bytes(root.trace_id)


def expect_at(page: Page, name: str) -> None:
    """Waits until the treegrid says that the cursor is on this row."""
    row = span_row(page, name)
    expect(row).to_be_visible()
    expect(page.get_by_role("treegrid")).to_have_attribute("aria-activedescendant", row.get_attribute("id") or "")


def test_from_the_list_into_a_span_and_back(page: Page, viewer: Viewer, trace: bytes) -> None:
    page.goto(f"{viewer.base}/#/traces?service=keyboard")
    expect_traces(page, "above", "root")
    trace_rows(page).first.get_by_role("link").focus()
    page.keyboard.press("ArrowDown")
    expect(trace_rows(page).nth(1).get_by_role("link")).to_be_focused()
    page.keyboard.press("Enter")
    expect(span_rows(page)).to_have_count(4)
    page.get_by_role("treegrid").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(detail(page).get_by_role("heading", name="first")).to_be_visible()
    page.keyboard.press("Escape")
    expect(detail(page)).to_have_count(0)
    page.keyboard.press("1")
    expect(trace_rows(page).first).to_be_visible()


def test_keys_work_where_nothing_was_chosen(page: Page, viewer: Viewer, trace: bytes) -> None:
    page.goto(f"{viewer.base}/#/traces?service=keyboard")
    expect_traces(page, "above", "root")
    page.keyboard.press("ArrowDown")
    expect(trace_rows(page).first.get_by_role("link")).to_be_focused()
    open_trace(page, viewer, trace)
    page.reload()
    expect(span_rows(page)).to_have_count(4)
    expect(page.locator("body")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("treegrid")).to_be_focused()
    expect_at(page, "root")
    page.keyboard.press("ArrowDown")
    expect_at(page, "first")
    page.keyboard.press("ArrowUp")
    expect_at(page, "root")
    page.reload()
    expect(span_rows(page)).to_have_count(4)
    page.keyboard.press("Enter")
    expect(detail(page).get_by_role("heading", name="root")).to_be_visible()


def test_two_traces_are_marked_and_compared(page: Page, viewer: Viewer, trace: bytes) -> None:
    page.goto(f"{viewer.base}/#/traces?service=keyboard")
    expect_traces(page, "above", "root")
    trace_rows(page).first.get_by_role("link").focus()
    page.keyboard.press("x")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    page.get_by_role("link", name="Compare the two").press("Enter")
    expect(page.get_by_role("table", name=re.compile("Spans of both traces"))).to_be_visible()


def test_the_tree_is_walked_as_a_treegrid(page: Page, viewer: Viewer, trace: bytes) -> None:
    open_trace(page, viewer, trace)
    grid = page.get_by_role("treegrid")
    expect(grid).to_have_attribute("aria-rowcount", "5")
    expect(page.get_by_role("columnheader").first).to_be_visible()
    grid.focus()
    page.keyboard.press("End")
    expect_at(page, "second")
    page.keyboard.press("Home")
    expect_at(page, "root")
    page.keyboard.press("ArrowRight")
    expect_at(page, "first")
    page.keyboard.press("ArrowLeft")
    expect(span_row(page, "first")).to_have_attribute("aria-expanded", "false")
    expect(span_row(page, "inner")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    expect(span_row(page, "first")).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("ArrowRight")
    expect_at(page, "inner")
    expect(span_row(page, "inner")).to_have_attribute("aria-level", "3")
    page.keyboard.press("ArrowLeft")
    expect_at(page, "first")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect_at(page, "root")
    page.keyboard.press("Enter")
    expect(span_row(page, "root")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowDown")
    expect(span_row(page, "first")).to_have_attribute("aria-selected", "true")


def test_search_errors_and_switches_have_their_keys(page: Page, viewer: Viewer, trace: bytes) -> None:
    open_trace(page, viewer, trace)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Search in this trace")).to_be_focused()
    page.keyboard.type("s")
    expect(page.get_by_text(re.compile(r"of \d"))).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    expect(page.get_by_text(re.compile(r"^1 of \d"))).to_be_visible()
    page.keyboard.press("n")
    expect(page.get_by_text(re.compile(r"^2 of \d"))).to_be_visible()
    page.keyboard.press("N")
    expect(page.get_by_text(re.compile(r"^1 of \d"))).to_be_visible()
    page.keyboard.press("e")
    expect(span_row(page, "inner")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("c")
    expect(page.get_by_role("button", name="Critical path")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("f")
    expect(page.get_by_role("button", name="Fold repeated")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("+")
    expect(page.get_by_role("button", name="Whole trace")).to_be_visible()
    page.keyboard.press("0")
    expect(page.get_by_role("button", name="Whole trace")).to_have_count(0)


def test_the_help_opens_and_closes(page: Page, viewer: Viewer, trace: bytes) -> None:
    open_trace(page, viewer, trace)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_contain_text("Next and previous error")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Keys").press("Enter")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Close").press("Enter")
    expect(dialog).to_have_count(0)


def test_every_page_has_its_key_and_the_stream_its_pause(page: Page) -> None:
    pages = page.get_by_role("navigation", name="Pages")
    for key, name in ("2", "Services"), ("3", "Logs"), ("4", "Metrics"), ("1", "Traces"):
        page.keyboard.press(key)
        expect(pages.get_by_role("link", name=name)).to_have_attribute("aria-current", "page")
        expect(page).to_have_title(f"{name} · otelagent")
    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Paused")).to_be_visible()


def test_the_first_tab_stop_leads_past_the_head(page: Page, viewer: Viewer) -> None:
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_the_minimap_is_moved_by_keys(page: Page, viewer: Viewer, trace: bytes) -> None:
    open_trace(page, viewer, trace)
    start = page.get_by_role("slider", name="Start of the time shown")
    end = page.get_by_role("slider", name="End of the time shown")
    expect(start).to_have_attribute("aria-valuetext", "0 ns")
    start.press("ArrowRight")
    expect(start).not_to_have_attribute("aria-valuetext", "0 ns")
    expect(end).to_have_attribute("aria-valuetext", "1.00 ms")
    end.press("ArrowLeft")
    expect(end).not_to_have_attribute("aria-valuetext", "1.00 ms")
    page.keyboard.press("0")
    expect(start).to_have_attribute("aria-valuetext", "0 ns")


def test_tabs_are_changed_by_arrows(page: Page, viewer: Viewer, trace: bytes) -> None:
    open_trace(page, viewer, trace)
    span_row(page, "root").click()
    tabs = page.get_by_role("tablist", name="About the span")
    tabs.get_by_role("tab", name="Details").focus()
    page.keyboard.press("ArrowRight")
    expect(tabs.get_by_role("tab", name="Logs")).to_have_attribute("aria-selected", "true")
    expect(tabs.get_by_role("tab", name="Logs")).to_be_focused()
    expect(detail(page)).to_contain_text("No log records have come for this span.")


def test_the_names_are_given_more_room(page: Page, viewer: Viewer, trace: bytes) -> None:
    open_trace(page, viewer, trace)
    name = page.get_by_role("columnheader", name="Span")

    def width() -> float:
        return float(name.evaluate("element => element.getBoundingClientRect().width"))

    before = width()
    edge = page.get_by_role("separator", name="Width of the names")
    for _ in range(3):
        edge.press("ArrowLeft")
    expect(edge).to_have_attribute("aria-valuenow", re.compile(r"\d+"))
    after = width()
    assert after < before
    page.reload()
    expect(span_row(page, "root")).to_be_visible()
    assert width() == pytest.approx(after, abs=2)
