"""The list of traces: what is in it, what it leaves out when asked to, and what comes while one looks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import BrowserContext, Page, Request, expect

from tests.browser.sight import expect_traces, span_row, trace_rows
from tests.browser.viewer import Viewer
from tests.browser.watch import Watch
from tests.viewer.requests import Traces, logs


@pytest.fixture(scope="module")
def filtered(viewer: Viewer) -> str:
    """The service of four traces, each of which another filter finds."""
    service = "list-filters"
    traces = Traces(service, time.time_ns() - 10**9)
    traces.span("GET /fast", kind=2, start_us=0, duration_us=2_000, tier="gold", size=3)
    slow = traces.span("GET /slow", kind=2, start_us=10, duration_us=700_000, tier="silver", size=5)
    traces.span("GET /failed", kind=2, start_us=20, duration_us=30_000, error=True)
    spoken = traces.span("GET /spoken", kind=2, start_us=30, duration_us=30_000)
    traces.span("SELECT deep", trace=slow.trace_id, parent=slow.span_id, kind=3, start_us=20, db__system="sqlite")
    viewer.send("traces", traces.body)
    viewer.send("logs", logs("the platypus is out", service=service, trace=spoken.trace_id, span=spoken.span_id))
    return service


ALL = ("GET /spoken", "GET /failed", "GET /slow", "GET /fast")
FILTERS: dict[str, tuple[Callable[[Page], object], str, tuple[str, ...]]] = {
    "operation": (
        lambda page: page.get_by_label("Operation").select_option("SELECT deep"),
        "operation=SELECT",
        ("GET /slow",),
    ),
    "errors": (lambda page: page.get_by_role("button", name="Errors only").click(), "error=1", ("GET /failed",)),
    "at least": (lambda page: _fill(page, "At least, ms", "500"), "min_ms=500", ("GET /slow",)),
    "at most": (lambda page: _fill(page, "At most, ms", "5"), "max_ms=5", ("GET /fast",)),
    "words": (lambda page: page.get_by_label("Words").fill("platypus"), "q=platypus", ("GET /spoken",)),
    "attribute": (lambda page: _fill(page, "Attribute", "tier=gold"), "attr=tier", ("GET /fast",)),
    "attribute, compared": (lambda page: _fill(page, "Attribute", "size>3"), "attr=size", ("GET /slow",)),
    "attribute, there": (lambda page: _fill(page, "Attribute", "tier"), "attr=tier", ("GET /slow", "GET /fast")),
}


def _fill(page: Page, label: str, text: str) -> None:
    field = page.get_by_label(label, exact=True)
    field.fill(text)
    field.press("Enter")


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_is_in_the_address_and_survives(name: str, page: Page, viewer: Viewer, filtered: str) -> None:
    act, address, found = FILTERS[name]
    page.goto(f"{viewer.base}/#/traces?service={filtered}")
    expect_traces(page, *ALL)
    act(page)
    expect_traces(page, *found)
    assert address in page.url
    page.reload()
    expect_traces(page, *found)
    page.go_back()
    if name != "words":  # Of what is typed letter by letter there are no steps.
        expect_traces(page, *ALL)
        page.go_forward()
        expect_traces(page, *found)


def test_the_service_is_chosen_from_those_there_are(page: Page, filtered: str) -> None:
    expect(page.get_by_label("Operation")).to_be_disabled()
    page.get_by_label("Service").select_option(filtered)
    expect_traces(page, *ALL)
    assert f"service={filtered}" in page.url
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_label("Service")).to_have_value("")
    assert "service" not in page.url


def test_the_slowest_stand_first_when_asked_to(page: Page, viewer: Viewer, filtered: str) -> None:
    page.goto(f"{viewer.base}/#/traces?service={filtered}")
    expect_traces(page, *ALL)
    page.get_by_label("Order").select_option("Slowest first")
    expect_traces(page, "GET /slow", "GET /spoken", "GET /failed", "GET /fast")
    assert "sort=slowest" in page.url
    page.reload()
    expect(page.get_by_label("Order")).to_have_value("slowest")
    expect_traces(page, "GET /slow", "GET /spoken", "GET /failed", "GET /fast")
    expect(page.get_by_text("4 traces · that is all")).to_be_visible()
    page.get_by_label("Order").select_option("Latest first")
    expect_traces(page, *ALL)
    assert "sort" not in page.url


def test_a_trace_that_hangs_grows_and_is_found_when_it_has_taken_long_enough(page: Page, viewer: Viewer) -> None:
    hangs = Traces("list-hangs", time.time_ns())
    hangs.span("hangs").end_time_unix_nano = 0
    viewer.send("traces", hangs.body)
    page.goto(f"{viewer.base}/#/traces?service=list-hangs&min_ms=3000")
    # No change of the store tells the page of it.
    expect_traces(page, "hangs")
    took = re.compile(r"(\d+(?:\.\d+)?) s\b")
    cell = trace_rows(page).locator(".c-duration")
    expect(cell).to_have_text(took)
    before = took.search(cell.inner_text())
    assert before is not None
    expect(cell).not_to_have_text(before[0])


def test_filters_that_find_nothing_say_so(page: Page, viewer: Viewer, filtered: str) -> None:
    page.goto(f"{viewer.base}/#/traces?service={filtered}&q=aardvark")
    expect(page.get_by_role("heading", name="No trace is like that")).to_be_visible()
    expect(trace_rows(page)).to_have_count(0)


def test_an_attribute_filter_is_taken_away(page: Page, viewer: Viewer, filtered: str) -> None:
    page.goto(f"{viewer.base}/#/traces?service={filtered}&attr=tier%3Dgold")
    expect_traces(page, "GET /fast")
    page.get_by_role("button", name="Remove tier=gold").click()
    expect_traces(page, *ALL)


def test_a_wrong_filter_is_told(page: Page, viewer: Viewer, filtered: str, watch: Watch) -> None:
    watch.expect("status of 400")
    page.goto(f"{viewer.base}/#/traces?service={filtered}&attr=%3Dgold")
    expect(page.get_by_role("alert")).to_contain_text("'=gold'")


def test_a_row_tells_its_trace_and_opens_it(page: Page, viewer: Viewer, filtered: str) -> None:
    page.goto(f"{viewer.base}/#/traces?service={filtered}&operation=SELECT+deep")
    expect_traces(page, "GET /slow")
    row = trace_rows(page)
    expect(row).to_contain_text(filtered)
    expect(row).to_contain_text("700 ms")
    expect(row.get_by_role("cell", name="2", exact=True)).to_be_visible()
    row.get_by_role("link", name="GET /slow").click()
    expect(span_row(page, "SELECT deep")).to_be_visible()
    page.go_back()
    expect_traces(page, "GET /slow")


@pytest.fixture(scope="module")
def timed(viewer: Viewer) -> str:
    """The service of traces of now, of a minute and of two hours ago."""
    service = "list-time"
    for name, ago_s in ("two hours ago", 7200), ("a minute ago", 60), ("now", 0):
        traces = Traces(service, time.time_ns() - ago_s * 10**9)
        traces.span(name, duration_us=1000)
        viewer.send("traces", traces.body)
    return service


def test_the_last_hour_is_in_the_address(page: Page, viewer: Viewer, timed: str) -> None:
    page.goto(f"{viewer.base}/#/traces?service={timed}")
    expect_traces(page, "now", "a minute ago", "two hours ago")
    page.get_by_role("combobox", name="Time").select_option("Last hour")
    expect_traces(page, "now", "a minute ago")
    assert "last=" in page.url
    page.reload()
    expect_traces(page, "now", "a minute ago")


def test_a_part_of_the_picture_is_the_time_that_is_listed(page: Page, viewer: Viewer, timed: str) -> None:
    page.goto(f"{viewer.base}/#/traces?service={timed}&last=1h")
    expect_traces(page, "now", "a minute ago")
    picture = page.locator(".u-over")
    box = picture.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 20, steps=5)
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 20, steps=5)
    page.mouse.up()
    expect_traces(page, "now")
    assert "from=" in page.url
    assert "to=" in page.url
    page.get_by_role("button", name=re.compile("^Remove ")).click()
    expect_traces(page, "now", "a minute ago", "two hours ago")


def test_more_than_a_page_of_traces(page: Page, viewer: Viewer) -> None:
    traces = Traces("list-many", time.time_ns())
    for number in range(150):
        traces.span(f"work {number}")
    viewer.send("traces", traces.body)
    page.goto(f"{viewer.base}/#/traces?service=list-many")
    expect(trace_rows(page)).to_have_count(100)
    page.get_by_role("button", name="Show more").click()
    expect(trace_rows(page)).to_have_count(150)
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)


def test_a_new_trace_comes_without_a_reload(page: Page, viewer: Viewer) -> None:
    page.goto(f"{viewer.base}/#/traces?service=list-live")
    expect(page.get_by_role("button", name="Live")).to_be_visible()
    page.evaluate("window.notReloaded = true")
    for number in range(3):
        traces = Traces("list-live", time.time_ns())
        traces.span(f"visit {number}")
        viewer.send("traces", traces.body)
        expect_traces(page, *(f"visit {seen}" for seen in range(number, -1, -1)))
    assert page.evaluate("window.notReloaded")


def test_what_is_being_typed_stays_while_traces_come(page: Page, viewer: Viewer) -> None:
    page.goto(f"{viewer.base}/#/traces?service=list-typed")
    page.get_by_label("Attribute").fill("tier=")
    page.get_by_label("At least, ms").press_sequentially("12")
    traces = Traces("list-typed", time.time_ns())
    traces.span("meanwhile")
    viewer.send("traces", traces.body)
    expect_traces(page, "meanwhile")
    expect(page.get_by_label("At least, ms")).to_have_value("12")
    expect(page.get_by_label("Attribute")).to_have_value("tier=")


def test_paused_nothing_moves_until_it_is_live_again(page: Page, viewer: Viewer) -> None:
    def send(name: str) -> None:
        traces = Traces("list-paused", time.time_ns())
        traces.span(name)
        viewer.send("traces", traces.body)

    send("before")
    page.goto(f"{viewer.base}/#/traces?service=list-paused")
    expect_traces(page, "before")
    page.wait_for_timeout(1200)
    send("first")
    expect_traces(page, "first", "before")
    send("second")
    page.wait_for_timeout(200)  # The list is about to be asked for again, a second after it was.
    page.get_by_role("button", name="Live").click()
    with page.expect_response("**/api/status"):  # The notification has come when the page asks for this.
        send("meanwhile")
    page.wait_for_timeout(1500)
    expect(trace_rows(page).filter(has_text="meanwhile")).to_have_count(0)
    page.get_by_role("button", name="Paused").click()
    expect_traces(page, "meanwhile", "second", "first", "before")


def test_tabs_share_one_stream_and_the_other_takes_it_over(context: BrowserContext, viewer: Viewer) -> None:
    streams: list[Request] = []
    context.on("request", lambda request: streams.append(request) if "/api/events" in request.url else None)
    tabs = [context.new_page(), context.new_page()]
    for tab in tabs:
        tab.goto(viewer.address)
        tab.goto(f"{viewer.base}/#/traces?service=list-tabs")
        expect(tab.get_by_role("button", name="Live")).to_be_visible()

    def send(name: str) -> None:
        traces = Traces("list-tabs", time.time_ns())
        traces.span(name)
        viewer.send("traces", traces.body)

    send("to both")
    for tab in tabs:
        expect_traces(tab, "to both")
    assert len(streams) == 1
    tabs[0].close()
    send("to the other")
    expect_traces(tabs[1], "to the other", "to both")
    assert len(streams) == 2


def test_the_token_is_in_the_address_only_once(page: Page, viewer: Viewer) -> None:
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    assert page.url.startswith(viewer.base)
    assert "token" not in page.url


def test_without_the_token_the_page_says_how_to_get_in(
    new_context: Callable[..., BrowserContext], viewer: Viewer, watch: Watch
) -> None:
    watch.expect("401")
    page = new_context(viewer).new_page()
    page.goto(viewer.base)
    expect(page.get_by_role("alert")).to_contain_text("open the page by the address that otelagent printed")


def test_a_dot_of_the_picture_is_a_trace(page: Page, viewer: Viewer) -> None:
    traces = Traces("list-dot", time.time_ns())
    traces.span("the dot")
    viewer.send("traces", traces.body)
    page.goto(f"{viewer.base}/#/traces?service=list-dot")
    expect_traces(page, "the dot")
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    # Alone, it is in the middle of the time; how high it is depends on the scale.
    for step in range(1, 20):
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] * step / 20)
        if "#/trace/" in page.url:
            break
    expect(span_row(page, "the dot")).to_be_visible()


def test_services_stand_in_one_order(page: Page, viewer: Viewer) -> None:
    began = time.time_ns()
    for offset, others in (0, ("order-a", "order-c")), (1, ("order-c", "order-a", "order-a")):
        traces = Traces("order-b", began + offset * 10**9)
        root = traces.span("ordered")
        viewer.send("traces", traces.body)
        for other in others:
            traces = Traces(other, began + offset * 10**9)
            traces.span("part", trace=root.trace_id, parent=root.span_id)
            viewer.send("traces", traces.body)
    page.goto(f"{viewer.base}/#/traces?service=order-b")
    expect_traces(page, "ordered", "ordered")
    for row in trace_rows(page).all():
        expect(row.get_by_role("cell").nth(2)).to_have_text(re.compile(r"order-b\s*order-a\s*order-c"))


def test_that_a_trace_may_have_more_services_is_told(page: Page, viewer: Viewer) -> None:
    root = Traces("crowd-0", time.time_ns())
    trace = root.span("crowd").trace_id
    viewer.send("traces", root.body)
    for number in range(1, 102):
        traces = Traces(f"crowd-{number}", time.time_ns())
        traces.span("part", trace=trace, parent=b"p" * 8)
        viewer.send("traces", traces.body)
    page.goto(f"{viewer.base}/#/traces?service=crowd-0")
    expect(trace_rows(page)).to_contain_text(["+97 or more"])


def test_one_trace_alone_has_an_axis_of_its_own_time(own: Viewer, new_context: Callable[..., BrowserContext]) -> None:
    traces = Traces("alone", time.time_ns())
    traces.span("the only one", duration_us=1000)
    own.send("traces", traces.body)
    page = new_context(own).new_page()
    page.goto(own.address)
    expect_traces(page, "the only one")
    picture = page.get_by_role("img", name=re.compile("Duration over time of 1 trace"))
    box = picture.locator(".u-over").bounding_box()
    assert box is not None
    # Dragged over the whole picture, the time that is chosen has both its ends within seconds of the trace.
    page.mouse.move(box["x"] + 2, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 10, steps=5)
    page.mouse.up()
    expect(page).to_have_url(re.compile("from=.*to="))
    chosen = parse_qs(page.url.partition("?")[2])
    assert int(chosen["to"][0]) - int(chosen["from"][0]) < 60 * 10**9


CUT = """() => {
  const ruler = document.createElement("canvas").getContext("2d");
  return [...document.querySelectorAll("input[placeholder]")].filter(one => one.offsetWidth).filter(one => {
    const { font, paddingLeft, paddingRight } = getComputedStyle(one);
    ruler.font = font;
    const room = one.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
    return ruler.measureText(one.placeholder).width > room;
  }).map(one => one.placeholder);
}"""


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_no_hint_is_cut(width: int, page: Page, viewer: Viewer, filtered: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(f"{viewer.base}/#/traces?service={filtered}")
    if width < 760:
        page.get_by_role("button", name="Filters").click()
    expect(page.get_by_label("Attribute", exact=True)).to_be_visible()
    assert page.evaluate(CUT) == []
    page.goto(f"{viewer.base}/#/logs")
    expect(page.get_by_label("Text", exact=True)).to_be_visible()
    assert page.evaluate(CUT) == []
