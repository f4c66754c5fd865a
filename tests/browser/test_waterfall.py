"""A trace as rows of bars: where they are, what is folded, what is missing, what is found, what the end waited for."""

from __future__ import annotations

import os
import re
import time

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.sight import detail, open_span, open_trace, span_row, span_rows
from tests.browser.viewer import Viewer
from tests.browser.watch import Watch
from tests.viewer.requests import Traces, logs


@pytest.fixture(scope="module")
def trace(viewer: Viewer) -> bytes:
    """A trace whose times are known, in ms: its end waits for `early`, then `long`; `beside` runs along.

    root 0-100, below it early 0-30, long 30-90 (below it deep 50-60, below that deepest 52-54), beside 40-60.
    """
    traces = Traces("waterfall", time.time_ns())
    root = traces.span("root", kind=2, start_us=0, duration_us=100_000)
    ids = {"trace": root.trace_id}
    traces.span("early", parent=root.span_id, start_us=0, duration_us=30_000, **ids)
    long = traces.span("long", parent=root.span_id, start_us=30_000, duration_us=60_000, **ids)
    deep = traces.span("deep", parent=long.span_id, start_us=50_000, duration_us=10_000, **ids)
    traces.span("deepest", parent=deep.span_id, start_us=52_000, duration_us=2_000, error=True, **ids)
    traces.span("beside", parent=root.span_id, start_us=40_000, duration_us=20_000, **ids)
    viewer.send("traces", traces.body)
    return bytes(root.trace_id)


ALL = ("root", "early", "long", "deep", "deepest", "beside")


def names(page: Page) -> list[str]:
    """The names of the rows that are there, from above."""
    found = (re.match(r"[\w ]+", label) for label in labels(span_rows(page)))
    return [match[0] for match in found if match]


def labels(rows: Locator) -> list[str]:
    return [label or "" for label in rows.evaluate_all("rows => rows.map(row => row.getAttribute('aria-label'))")]


def part(row: Locator, selector: str) -> tuple[float, float]:
    """Where something begins and ends, as percentages of the row's time."""
    found: list[float] = row.evaluate(
        """(row, selector) => {
            const area = [...row.querySelectorAll('[role=gridcell]')].at(-1).getBoundingClientRect();
            const bar = row.querySelector(selector).getBoundingClientRect();
            return [bar.left, bar.right].map(x => 100 * (x - area.left) / area.width);
        }""",
        selector,
    )
    return found[0], found[1]


def test_the_rows_are_the_tree(page: Page, viewer: Viewer, trace: bytes) -> None:
    open_trace(page, viewer, trace)
    expect(span_rows(page)).to_have_count(6)
    assert names(page) == ["root", "early", "long", "deep", "deepest", "beside"]
    levels = span_rows(page).evaluate_all("rows => rows.map(row => row.getAttribute('aria-level'))")
    assert levels == ["1", "2", "2", "3", "4", "2"]
    expect(page.get_by_role("heading", name="root")).to_be_visible()
    for fact in ("100 ms", trace.hex()):
        expect(page.get_by_text(fact, exact=True).first).to_be_visible()


def test_the_bars_are_where_the_time_was(page: Page, viewer: Viewer, trace: bytes) -> None:
    open_trace(page, viewer, trace)
    for name, begin, end in (("root", 0, 100), ("early", 0, 30), ("long", 30, 90), ("beside", 40, 60)):
        assert part(span_row(page, name), ".bar") == pytest.approx((begin, end), abs=1.5), name


def test_the_critical_path_is_what_the_end_waited_for(page: Page, viewer: Viewer, trace: bytes) -> None:
    open_trace(page, viewer, trace)
    button = page.get_by_role("button", name="Critical path")
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(span_row(page, "beside").locator(".crit")).to_have_count(0)
    assert part(span_row(page, "root"), ".crit") == pytest.approx((90, 100), abs=1.5)
    assert part(span_row(page, "early"), ".crit") == pytest.approx((0, 30), abs=1.5)
    button.click()
    expect(page.locator(".crit")).to_have_count(0)


def test_what_ran_beside_the_last_was_not_waited_for(page: Page, viewer: Viewer) -> None:
    request = Traces("shop")
    trace = os.urandom(16)
    root = request.span("root", trace=trace, start_us=0, duration_us=100_000).span_id
    request.span("first", trace=trace, parent=root, start_us=0, duration_us=60_000)
    request.span("last", trace=trace, parent=root, start_us=50_000, duration_us=50_000)
    request.span("outlasts", trace=trace, parent=root, start_us=100_000, duration_us=20_000)
    viewer.send("traces", request.body)
    open_trace(page, viewer, trace)
    expect(span_row(page, "first").locator(".crit")).to_have_count(0)
    expect(span_row(page, "outlasts").locator(".crit")).to_have_count(0)
    bars = {name: part(span_row(page, name), ".bar") for name in ("root", "last")}
    assert part(span_row(page, "last"), ".crit") == pytest.approx(bars["last"], abs=1.5)
    assert part(span_row(page, "root"), ".crit") == pytest.approx((0, bars["last"][0]), abs=1.5)


def test_self_time_is_without_the_children(page: Page, viewer: Viewer, trace: bytes) -> None:
    open_trace(page, viewer, trace)
    expect(open_span(page, "root")).to_contain_text(re.compile(r"Self\s*10\.0 ms"))
    expect(open_span(page, "long")).to_contain_text(re.compile(r"Self\s*50\.0 ms"))


def test_a_failed_span_is_marked(page: Page, viewer: Viewer, trace: bytes) -> None:
    open_trace(page, viewer, trace)
    expect(page.get_by_role("row", name=re.compile("deepest.*failed"))).to_be_visible()


def test_what_is_below_a_span_is_put_away_and_brought_back(page: Page, viewer: Viewer, trace: bytes) -> None:
    open_trace(page, viewer, trace)
    long = span_row(page, "long")
    expect(long).to_have_attribute("aria-expanded", "true")
    long.get_by_role("button", name="Collapse").click()
    expect(long).to_have_attribute("aria-expanded", "false")
    expect(span_rows(page)).to_have_count(4)
    expect(long).to_contain_text("1 failed")
    long.get_by_role("button", name="Expand").click()
    expect(span_rows(page)).to_have_count(6)
    tools = page.get_by_role("toolbar", name="Trace")
    tools.get_by_role("button", name="Collapse").click()
    expect(span_rows(page)).to_have_count(4)
    tools.get_by_role("button", name="Expand").click()
    expect(span_rows(page)).to_have_count(6)


def test_repeated_siblings_are_one_row_until_it_is_opened(page: Page, viewer: Viewer) -> None:
    traces = Traces("waterfall-fold", time.time_ns())
    root = traces.span("GET /list", kind=2, start_us=0, duration_us=50_000)
    for number in range(20):
        traces.span(
            "SELECT item",
            trace=root.trace_id,
            parent=root.span_id,
            kind=3,
            start_us=2000 * number,
            duration_us=1000,
            error=number == 7,
        )
    traces.span("render", trace=root.trace_id, parent=root.span_id, start_us=45_000, duration_us=4000)
    viewer.send("traces", traces.body)
    open_trace(page, viewer, root.trace_id)
    expect(span_rows(page)).to_have_count(3)
    group = page.get_by_role("row", name="20 times SELECT item")
    expect(group).to_contain_text("1 failed")
    expect(group).to_have_attribute("aria-expanded", "false")
    group.click()
    expect(group).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_role("treegrid")).to_have_attribute("aria-rowcount", "24")
    expect(span_row(page, "SELECT item").nth(1)).to_have_attribute("aria-level", "3")
    group.click()
    expect(span_rows(page)).to_have_count(3)
    page.get_by_role("button", name="Fold repeated").click()
    expect(page.get_by_role("treegrid")).to_have_attribute("aria-rowcount", "23")
    expect(group).to_have_count(0)


def test_spans_whose_parent_has_not_come_are_kept_and_marked(page: Page, viewer: Viewer) -> None:
    traces = Traces("waterfall-parents", time.time_ns())
    root = traces.span("root", duration_us=1000)
    lost = os.urandom(8)
    orphan = traces.span("orphan", trace=root.trace_id, parent=lost, start_us=10, duration_us=100)
    traces.span("below it", trace=root.trace_id, parent=orphan.span_id, start_us=20, duration_us=10)
    viewer.send("traces", traces.body)
    open_trace(page, viewer, root.trace_id)
    expect(span_rows(page)).to_have_count(3)
    expect(span_row(page, "orphan")).to_contain_text("parent missing")
    expect(page.get_by_role("note")).to_contain_text("1 span's parent has not come")
    expect(open_span(page, "orphan")).to_contain_text(lost.hex())
    # It comes at last.
    late = Traces("waterfall-parents", time.time_ns())
    parent = late.span("late parent", trace=root.trace_id, parent=root.span_id, duration_us=500)
    parent.span_id = lost
    viewer.send("traces", late.body)
    expect(span_row(page, "late parent")).to_be_visible()
    expect(page.get_by_role("note")).to_have_count(0)
    expect(span_row(page, "orphan")).to_have_attribute("aria-level", "3")


def test_a_growing_trace_grows_on_the_page(page: Page, viewer: Viewer) -> None:
    traces = Traces("waterfall-grows", time.time_ns())
    root = traces.span("root", duration_us=1000)
    viewer.send("traces", traces.body)
    open_trace(page, viewer, root.trace_id)
    expect(span_rows(page)).to_have_count(1)
    more = Traces("waterfall-grows-too", time.time_ns())
    more.span("elsewhere", trace=root.trace_id, parent=root.span_id, duration_us=900)
    viewer.send("traces", more.body)
    expect(span_row(page, "elsewhere")).to_be_visible()


def test_search_goes_through_what_it_finds_wherever_it_is_hidden(page: Page, viewer: Viewer) -> None:
    traces = Traces("waterfall-search", time.time_ns())
    root = traces.span("root", duration_us=90_000)
    hidden = traces.span("outer", trace=root.trace_id, parent=root.span_id, start_us=10, duration_us=1000)
    traces.span("needle one", trace=root.trace_id, parent=hidden.span_id, start_us=20, duration_us=100)
    for number in range(10):
        item = traces.span("item", trace=root.trace_id, parent=root.span_id, start_us=2000 + number, duration_us=100)
    traces.span("needle two", trace=root.trace_id, parent=item.span_id, start_us=2020, duration_us=10)
    viewer.send("traces", traces.body)
    open_trace(page, viewer, root.trace_id)
    page.get_by_role("toolbar", name="Trace").get_by_role("button", name="Collapse").click()
    expect(span_row(page, "needle")).to_have_count(0)
    field = page.get_by_role("searchbox", name="Search in this trace")
    field.fill("needle")
    expect(page.get_by_text("of 2")).to_be_visible()
    field.press("Enter")
    expect(page.get_by_text("1 of 2")).to_be_visible()
    expect(span_row(page, "needle one")).to_have_attribute("aria-selected", "true")
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("2 of 2")).to_be_visible()
    expect(span_row(page, "needle two")).to_have_attribute("aria-selected", "true")
    expect(detail(page)).to_contain_text("needle two")
    page.get_by_role("button", name="Previous").click()
    expect(span_row(page, "needle one")).to_have_attribute("aria-selected", "true")
    field.fill("nowhere")
    expect(page.get_by_text("nothing", exact=True)).to_be_visible()


def test_a_part_of_the_minimap_is_the_time_that_is_shown(page: Page, viewer: Viewer, trace: bytes) -> None:
    open_trace(page, viewer, trace)
    map_ = page.get_by_role("group", name="Time shown")
    box = map_.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20, steps=4)
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 20, steps=4)
    page.mouse.up()
    start, end = (page.get_by_role("slider", name=f"{which} of the time shown") for which in ("Start", "End"))
    expect(start).to_have_attribute("aria-valuetext", re.compile(r"^(29|30)\.\d ms$"))
    expect(end).to_have_attribute("aria-valuetext", re.compile(r"^(89|90)\.\d ms$"))
    assert part(span_row(page, "long"), ".bar") == pytest.approx((0, 100), abs=2)
    page.get_by_role("button", name="Whole trace").click()
    assert part(span_row(page, "long"), ".bar") == pytest.approx((30, 90), abs=1.5)


def test_a_trace_that_is_not_there_is_told(page: Page, viewer: Viewer, watch: Watch) -> None:
    watch.expect("status of 404")
    page.goto(f"{viewer.base}/#/trace/{'ab' * 16}")
    expect(page.get_by_role("heading", name="This trace is not here")).to_be_visible()
    page.get_by_role("link", name="All traces").click()
    expect(page.get_by_role("search", name="Filter traces")).to_be_visible()


def test_ids_are_copied(context: BrowserContext, page: Page, viewer: Viewer, trace: bytes) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_trace(page, viewer, trace)
    page.get_by_role("button", name="Copy the trace id").click()
    expect(page.get_by_role("status").filter(has_text="Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == trace.hex()


def test_what_is_not_shown_of_a_trace_is_told(page: Page, viewer: Viewer) -> None:
    traces = Traces("waterfall-logs", time.time_ns())
    span = traces.span("talks")
    viewer.send("traces", traces.body)
    lines = (f"line {number}" for number in range(5003))
    viewer.send("logs", logs(*lines, service="waterfall-logs", trace=span.trace_id, span=span.span_id))
    open_trace(page, viewer, span.trace_id)
    note = page.get_by_role("note").filter(has_text="3 more log records than are shown here")
    note.get_by_role("link").click()
    expect(page.get_by_role("main").get_by_role("listitem")).to_have_count(200)
    page.get_by_role("button", name="Show more").click()
    expect(page.get_by_role("main").get_by_role("listitem")).to_have_count(400)


def test_a_long_service_leaves_a_short_name_its_room(page: Page, viewer: Viewer) -> None:
    service = "waterfall-of-a-service-with-a-name-that-is-very-long-indeed"
    traces = Traces(service, time.time_ns())
    root = traces.span("GET", kind=2)
    for name in ("GET", "redis GET", "GET /recommendations"):
        traces.span(name, trace=root.trace_id, parent=root.span_id, kind=3)
    viewer.send("traces", traces.body)
    page.goto(f"{viewer.base}/#/traces?service={service}")
    expect(page.get_by_role("table", name="Traces").get_by_role("link")).to_have_count(1)
    cut = "rows => rows.filter(row => row.scrollWidth > row.clientWidth).map(row => row.textContent)"
    assert page.get_by_role("table", name="Traces").locator("b").evaluate_all(cut) == []
    open_trace(page, viewer, root.trace_id, root.span_id)
    expect(detail(page)).to_be_visible()
    assert page.get_by_role("treegrid").locator("b").evaluate_all(cut) == []
