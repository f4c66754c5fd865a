"""The example shop under `otelagent-run`, two services and a database, as the page shows them."""

from __future__ import annotations

import re
import time

from playwright.sync_api import Page, expect

from tests.browser.places import Places
from tests.browser.sight import detail, span_row, span_rows, trace_rows
from tests.browser.viewer import Viewer
from tests.viewer.requests import Traces


def open_order(page: Page, viewer: Viewer) -> None:
    page.goto(f"{viewer.base}/#/traces?service=gateway&operation=POST+%2Forders")
    trace_rows(page).get_by_role("link", name="POST /orders").first.click()


def test_an_order_goes_through_both_services(page: Page, viewer: Viewer, shop: None) -> None:
    open_order(page, viewer)
    expect(span_row(page, "POST /orders")).to_contain_text("gateway")
    expect(span_row(page, "POST /products/<sku>/reservations")).to_contain_text("inventory")
    span_row(page, "UPDATE products").first.click()
    expect(detail(page).locator("pre").filter(has_text="UPDATE")).to_be_visible()
    assert span_rows(page).count() > 8


def test_an_unhandled_exception_has_its_stack(page: Page, viewer: Viewer, shop: None) -> None:
    page.goto(f"{viewer.base}/#/traces?service=gateway&operation=GET+%2Fproducts%2F%7Bsku%7D&error=1")
    page.reload()  # Until the list of failures is there, the one before is shown.
    trace_rows(page).get_by_role("link").first.click()
    span_row(page, "GET /products/<sku>").click()
    expect(detail(page).get_by_label("Stack trace", exact=True)).to_contain_text("Traceback")


def test_the_map_has_who_calls_whom(page: Page, viewer: Viewer, shop: None) -> None:
    page.goto(f"{viewer.base}/#/map")
    table = page.get_by_role("table", name="Calls between services")
    call = table.get_by_role("row").filter(has=page.get_by_role("cell", name="gateway", exact=True))
    expect(call.filter(has=page.get_by_role("cell", name="inventory", exact=True))).to_have_count(1)
    expect(table.get_by_role("row", name=re.compile("^inventory sqlite"))).to_be_visible()
    # Who sends no spans has no colour of its own, on the map and in the table.
    paints = [
        table.get_by_role("cell", name=re.compile(name)).first.locator(".dot") for name in ("sqlite", "inventory")
    ]
    remote, service = (one.evaluate("dot => dot.style.background") for one in paints)
    assert (remote, service == remote) == ("var(--dim)", False)
    page.get_by_role("region", name="Service map").get_by_role("link", name=re.compile("gateway")).first.click()
    expect(page.get_by_role("combobox", name="Service")).to_have_value("gateway")
    expect(trace_rows(page).first).to_be_visible()


def test_two_traces_beside_each_other(page: Page, viewer: Viewer, shop: None) -> None:
    page.goto(f"{viewer.base}/#/traces?service=gateway")
    for name in ("Mark GET /products to compare", "Mark GET /products/{sku} to compare"):
        page.get_by_role("checkbox", name=name, exact=True).first.check()
    page.get_by_role("link", name="Compare the two").click()
    table = page.get_by_role("table", name=re.compile("Spans of both traces"))
    expect(table.get_by_role("row", name=re.compile("only in A")).first).to_be_visible()
    expect(table.get_by_role("row", name=re.compile("only in B")).first).to_be_visible()
    first = page.url
    page.get_by_role("link", name="Swap").click()
    expect(page).not_to_have_url(first)
    page.reload()
    expect(table).to_be_visible()


def test_only_what_differs_is_compared(page: Page, viewer: Viewer, places: Places) -> None:
    places.show(page, "compare")
    rows = page.get_by_role("table", name=re.compile("Spans of both traces")).get_by_role("row")
    expect(rows.filter(has_text="failed 0 / 1")).to_have_count(3)
    page.get_by_role("button", name="Differences only").click()
    expect(page.get_by_role("button", name="Differences only")).to_have_attribute("aria-pressed", "true")
    expect(rows.filter(has_text="failed 0 / 1")).to_have_count(3)


def test_another_trace_of_the_same_kind_is_offered(page: Page, viewer: Viewer, places: Places) -> None:
    places.show(page, "waterfall")
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("combobox", name="Service")).to_have_value("gateway")
    expect(page.get_by_role("combobox", name="Operation")).to_have_value("POST /orders")
    page.get_by_role("checkbox", name="Mark POST /orders to compare", checked=False).first.check()
    expect(page.get_by_role("link", name="Compare the two")).to_be_visible()


def test_the_map_is_readable(page: Page, viewer: Viewer, shop: None) -> None:
    """Three services that all call two others: names are within their boxes, and no text lies on another."""
    began = time.time_ns()
    for caller in ("unknown_service:python3", "map-with-a-very-long-name-indeed", "map-c"):
        for called in ("map-d", "map-e"):
            traces = Traces(caller, began)
            call = traces.span("call", kind=3)
            viewer.send("traces", traces.body)
            traces = Traces(called, began)
            traces.span("answer", trace=call.trace_id, parent=call.span_id, kind=2)
            viewer.send("traces", traces.body)
    page.goto(f"{viewer.base}/#/map")
    canvas = page.get_by_role("region", name="Service map")
    expect(canvas.get_by_role("link", name="map-with-a-very-long")).to_be_visible()
    found = canvas.evaluate("""canvas => {
      const boxes = [...canvas.querySelectorAll("rect.box")].map(one => one.getBoundingClientRect());
      const names = [...canvas.querySelectorAll("text.name")].map(one => one.getBoundingClientRect());
      const texts = [...canvas.querySelectorAll("svg > text")].map(one => one.getBoundingClientRect());
      const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
      return {
        over: names.filter((name, i) => name.right > boxes[i].right).length,
        texts: texts.length,
        covered: texts.filter((one, i) => [...texts.slice(i + 1), ...boxes].some(other => !apart(one, other))).length,
      };
    }""")
    assert found["texts"] >= 6
    assert (found["over"], found["covered"]) == (0, 0)


def test_a_phone_has_everything_behind_a_button(page: Page, viewer: Viewer, places: Places) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    places.show(page, "map")
    heading = page.get_by_role("heading", name="Services")
    assert heading.evaluate("element => element.scrollWidth - element.clientWidth") == 0
    page.get_by_role("button", name="Menu").click()
    expect(page.get_by_role("button", name="Colours")).to_be_visible()
    with page.expect_file_chooser():
        page.get_by_role("button", name="Import").click()
    expect(page.get_by_role("button", name="Import")).to_have_count(0)
    page.get_by_role("button", name="Menu").press("Enter")
    page.get_by_role("button", name="Keys").press("Enter")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Menu").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Keys")).to_have_count(0)


def test_a_call_of_itself_is_seen_on_the_map(page: Page, viewer: Viewer, shop: None) -> None:
    """Its line and its numbers lie on no box, also where another stands above it, and on no other line's numbers."""
    began = time.time_ns()
    front = Traces("itself-front", began)
    for name in ("itself-a", "itself-b", "itself-c"):
        traces = Traces(name, began)
        served = traces.span("GET /items", kind=2)
        call = traces.span("GET", trace=served.trace_id, parent=served.span_id, kind=3, server__address="127.0.0.1")
        traces.span("GET /items", trace=call.trace_id, parent=call.span_id, kind=2)
        traces.span("SELECT", trace=call.trace_id, parent=call.span_id, kind=3, db__system__name=f"db-of-{name}")
        front.span("GET", trace=served.trace_id, kind=3).span_id = served.parent_span_id = name[-1].encode() * 8
        viewer.send("traces", traces.body)
    viewer.send("traces", front.body)
    page.goto(f"{viewer.base}/#/map")
    canvas = page.get_by_role("region", name="Service map")
    expect(canvas.get_by_role("link", name="itself-c")).to_be_visible()
    found = canvas.evaluate("""canvas => {
      const around = (what) => [...canvas.querySelectorAll(what)].map(one => one.getBoundingClientRect());
      const title = (one) => one.querySelector("title")?.textContent ?? "";
      const own = [...canvas.querySelectorAll("g")].filter(one => /^(itself-.) → \\1:/.test(title(one)));
      const lines = own.map(one => one.querySelector("path.call").getBoundingClientRect());
      const [boxes, texts] = [around("rect.box"), around("svg > text")];
      const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
      const on = (some, others) => some.filter(one => others.some(other => other !== one && !apart(one, other))).length;
      const whole = canvas.querySelector("svg").getBoundingClientRect();
      return {
        lines: lines.filter(one => one.width > 20 && one.height > 10 && one.top >= whole.top).length,
        told: lines.filter(line => texts.some(one => !apart({...one.toJSON(), right: one.right + 20}, line))).length,
        covered: [on(lines, boxes), on(lines, texts), on(texts, boxes), on(texts, texts)],
      };
    }""")
    assert found == {"lines": 3, "told": 3, "covered": [0, 0, 0, 0]}
    expect(canvas.get_by_text("127.0.0.1")).to_have_count(0)
