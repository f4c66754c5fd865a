"""What there is to see of the page: for the accessibility rules, and for pictures of it."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.sight import span_row, span_rows, trace_rows
from tests.browser.viewer import Viewer

__all__ = ["PLACES", "Places"]


class Places:
    """Goes there.

    :param order: the trace of an order in the shop, which goes through both services.
    :param checkout: the trace of a checkout, with an exception, logs and metrics.
    :param marked: two traces to compare.
    """

    def __init__(self, viewer: Viewer, order: str, checkout: str, marked: tuple[str, str]) -> None:
        self.base = viewer.base
        self.order = order
        self.checkout = checkout
        self.marked = marked

    def show(self, page: Page, name: str) -> None:
        """Goes to a place of PLACES and waits until it is there."""
        PLACES[name](self, page)

    def go(self, page: Page, place: str) -> None:
        page.goto(f"{self.base}/#/{place}")


def _list(places: Places, page: Page) -> None:
    places.go(page, "traces?service=gateway")
    expect(trace_rows(page).nth(5)).to_be_visible()


def _nothing(places: Places, page: Page) -> None:
    places.go(page, "traces?service=gateway&q=aardvark&attr=a%3Db")
    expect(page.get_by_role("heading", name="No trace is like that")).to_be_visible()


def _waterfall(places: Places, page: Page) -> None:
    places.go(page, f"trace/{places.order}")
    expect(span_row(page, "POST /orders")).to_be_visible()


def _search(places: Places, page: Page) -> None:
    _waterfall(places, page)
    page.get_by_role("searchbox", name="Search in this trace").fill("apple")
    expect(page.get_by_text(re.compile(r"of \d"))).to_be_visible()


def _checkout(places: Places, page: Page, span: str = "charge card", tab: str = "Details") -> None:
    places.go(page, f"trace/{places.checkout}")
    expect(span_row(page, "POST /checkout")).to_be_visible()
    span_row(page, span).click()
    page.get_by_role("tablist", name="About the span").get_by_role("tab", name=tab).click()


def _span(places: Places, page: Page) -> None:
    _checkout(places, page)
    expect(page.get_by_role("heading", name="ValueError")).to_be_visible()


def _query(places: Places, page: Page) -> None:
    _checkout(places, page, "SELECT stock")
    expect(page.get_by_label("Query", exact=True)).to_be_visible()


def _span_logs(places: Places, page: Page) -> None:
    _checkout(places, page, "POST /checkout", "Logs")
    expect(page.get_by_text("the bank said no").first).to_be_visible()


def _span_metrics(places: Places, page: Page) -> None:
    _checkout(places, page, "POST /checkout", "Metrics")
    expect(page.get_by_role("img", name=re.compile("around the span")).first).to_be_visible()


def _view(places: Places, page: Page, view: str, text: str) -> None:
    places.go(page, f"trace/{places.checkout}?view={view}")
    expect(page.get_by_role("region", name=re.compile("Errors|Log records"))).to_contain_text(text)
    expect(span_rows(page)).to_have_count(0)


def _errors(places: Places, page: Page) -> None:
    _view(places, page, "errors", "charge card")


def _trace_logs(places: Places, page: Page) -> None:
    _view(places, page, "logs", "the bank said no")


def _map(places: Places, page: Page) -> None:
    places.go(page, "map")
    expect(page.get_by_role("table", name="Calls between services")).to_be_visible()


def _logs(places: Places, page: Page) -> None:
    places.go(page, "logs?service=checkout")
    expect(page.get_by_text("order goes to the queue")).to_be_visible()


def _metrics(places: Places, page: Page) -> None:
    places.go(page, "metrics")
    page.get_by_role("navigation", name="Metrics").get_by_role("link", name="checkout.duration").click()
    page.get_by_role("combobox", name="Shown").select_option("Average")
    expect(page.get_by_role("row", name=re.compile("payment=card"))).to_be_visible()


def _compare(places: Places, page: Page) -> None:
    places.go(page, f"compare/{places.marked[0]}/{places.marked[1]}")
    expect(page.get_by_role("table", name=re.compile("Spans of both traces"))).to_be_visible()


def _help(places: Places, page: Page) -> None:
    _list(places, page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()


PLACES: dict[str, Callable[[Places, Page], None]] = {
    "list": _list,
    "nothing": _nothing,
    "waterfall": _waterfall,
    "search": _search,
    "span": _span,
    "query": _query,
    "span-logs": _span_logs,
    "span-metrics": _span_metrics,
    "errors": _errors,
    "trace-logs": _trace_logs,
    "map": _map,
    "logs": _logs,
    "metrics": _metrics,
    "compare": _compare,
    "help": _help,
}
"""The places by name; the help, a dialog over everything, is the last one."""
