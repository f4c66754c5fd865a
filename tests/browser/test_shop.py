"""The example shop under `otelagent-run`, two services and a database, as the page shows them."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.places import Places
from tests.browser.sight import detail, span_row, span_rows, trace_rows
from tests.browser.viewer import Viewer


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
    page.goto(f"{viewer.base}/#/traces?service=gateway&error=1")
    trace_rows(page).get_by_role("link").first.click()
    span_row(page, "GET /products/<sku>").click()
    expect(detail(page).get_by_label("Stack trace", exact=True)).to_contain_text("Traceback")


def test_the_map_has_who_calls_whom(page: Page, viewer: Viewer, shop: None) -> None:
    page.goto(f"{viewer.base}/#/map")
    table = page.get_by_role("table", name="Calls between services")
    call = table.get_by_role("row").filter(has=page.get_by_role("cell", name="gateway", exact=True))
    expect(call.filter(has=page.get_by_role("cell", name="inventory", exact=True))).to_have_count(1)
    expect(table.get_by_role("row", name=re.compile("^inventory sqlite"))).to_be_visible()
    page.get_by_role("region", name="Service map").get_by_role("link", name=re.compile("gateway")).first.click()
    expect(page.get_by_label("Service")).to_have_value("gateway")
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
