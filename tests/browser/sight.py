"""Where things are on the page, by the roles and names that a screen reader tells."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.browser.viewer import Viewer

__all__ = ["begins", "detail", "expect_traces", "open_span", "open_trace", "span_row", "span_rows", "trace_rows"]


def begins(words: str, then: str = "") -> re.Pattern[str]:
    """For a name that begins so. A slash, which ends a pattern in JavaScript, is escaped."""
    return re.compile("^" + re.escape(words).replace("/", r"\/") + then)


def trace_rows(page: Page) -> Locator:
    """The rows of the list, without its head."""
    return page.get_by_role("table", name="Traces").get_by_role("row").filter(has=page.get_by_role("cell"))


def expect_traces(page: Page, *names: str) -> None:
    """Waits until these traces are in the list and no others, the newest first."""
    rows = trace_rows(page)
    expect(rows).to_have_count(len(names))
    if names:
        expect(rows).to_contain_text(list(names))


def open_trace(page: Page, viewer: Viewer, trace: bytes, span: bytes = b"") -> None:
    """Goes to a trace, with a span chosen."""
    page.goto(f"{viewer.base}/#/trace/{trace.hex()}" + (f"?span={span.hex()}" if span else ""))
    expect(page.get_by_role("treegrid")).to_be_visible()


def span_rows(page: Page) -> Locator:
    """The rows of the waterfall that are there, without its head."""
    return page.get_by_role("treegrid").get_by_role("row").filter(has=page.get_by_role("gridcell"))


def span_row(page: Page, name: str) -> Locator:
    """The rows of spans whose name begins with these words."""
    return page.get_by_role("treegrid").get_by_role("row", name=begins(name, "[ ,]"))


def open_span(page: Page, name: str) -> Locator:
    """Chooses a span and returns its detail."""
    span_row(page, name).click()
    expect(detail(page)).to_contain_text(name)
    return detail(page)


def detail(page: Page) -> Locator:
    """What is told about the chosen span."""
    return page.get_by_role("complementary", name="Span")


def download(page: Page, name: str, folder: Path) -> Path:
    """The file that a link of this name gives."""
    with page.expect_download() as started:
        page.get_by_role("link", name=name).click()
    file = folder / started.value.suggested_filename
    started.value.save_as(file)
    return file
