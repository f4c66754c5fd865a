"""Log records on a page of their own, and the way from each to its trace."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.sight import detail
from tests.browser.viewer import Viewer
from tests.viewer.requests import logs


def lines(page: Page) -> Locator:
    return page.get_by_role("main").get_by_role("listitem")


@pytest.fixture(scope="module")
def service(viewer: Viewer) -> str:
    """It has written a record of each level."""
    name = "logs-levels"
    now = time.time_ns()
    for severity, text in (5, "a detail"), (9, "all is well"), (13, "getting full"), (17, "broken"):
        viewer.send("logs", logs(text, service=name, severity=severity, start_ns=now + severity))
    return name


def test_records_are_there_the_latest_first(page: Page, viewer: Viewer, service: str) -> None:
    page.goto(f"{viewer.base}/#/logs")
    page.get_by_role("combobox", name="Service").select_option(service)
    expect(lines(page)).to_contain_text(["broken", "getting full", "all is well", "a detail"])
    assert f"service={service}" in page.url


def test_levels_and_words_are_in_the_address(page: Page, viewer: Viewer, service: str) -> None:
    page.goto(f"{viewer.base}/#/logs?service={service}")
    page.get_by_role("combobox", name="Level").select_option("Warnings and above")
    expect(lines(page)).to_have_count(2)
    page.get_by_role("searchbox").fill("full")
    expect(lines(page)).to_have_count(1)
    page.reload()
    expect(lines(page)).to_contain_text(["getting full"])
    expect(page.get_by_role("combobox", name="Level")).to_have_value("13")


def test_what_was_loaded_below_leaves_no_gap_when_many_come(page: Page, viewer: Viewer) -> None:
    now = time.time_ns()
    viewer.send("logs", logs(*(f"old {number}" for number in range(300)), service="logs-many", start_ns=now))
    page.goto(f"{viewer.base}/#/logs?service=logs-many")
    expect(lines(page)).to_have_count(200)
    page.get_by_role("button", name="Show more").click()
    expect(lines(page)).to_have_count(300)
    # A page of new ones and more: between them and what was loaded there are some that nobody has asked for.
    viewer.send("logs", logs(*(f"new {number}" for number in range(250)), service="logs-many", start_ns=now + 1000))
    expect(lines(page).first).to_contain_text("new 249")
    expect(lines(page)).to_have_count(200)
    for count in 400, 550:
        page.get_by_role("button", name="Show more").click()
        expect(lines(page)).to_have_count(count)
    found = [re.search(r"(old|new) \d+", text) for text in lines(page).all_inner_texts()]
    expected = [f"new {number}" for number in reversed(range(250))] + [
        f"old {number}" for number in reversed(range(300))
    ]
    assert [one and one[0] for one in found] == expected


def test_a_record_comes_without_a_reload(page: Page, viewer: Viewer) -> None:
    page.goto(f"{viewer.base}/#/logs?service=logs-live")
    expect(page.get_by_role("heading", name="No log record is like that")).to_be_visible()
    viewer.send("logs", logs("fresh", service="logs-live", start_ns=time.time_ns()))
    expect(lines(page)).to_contain_text(["fresh"])


def test_a_record_leads_to_its_span(page: Page, viewer: Viewer, checkout: dict[str, bytes]) -> None:
    page.goto(f"{viewer.base}/#/logs?service=checkout")
    lines(page).filter(has_text="order goes to the queue").get_by_role("link").click()
    expect(detail(page).get_by_role("heading", name="send order")).to_be_visible()


def test_a_record_tells_its_exception_and_logger_before_all_else(
    page: Page, viewer: Viewer, checkout: dict[str, bytes]
) -> None:
    page.goto(f"{viewer.base}/#/logs?service=checkout")
    record = lines(page).filter(has_text="the bank said no")
    expect(record).to_contain_text("ValueError: the card was declined")
    expect(record.get_by_role("button")).to_have_text("shop · attempt=1")
    record.get_by_role("button").click()
    expect(record).to_contain_text("exception.stacktrace")


def test_colours_of_a_terminal_are_left_out(page: Page, viewer: Viewer) -> None:
    viewer.send("logs", logs("\x1b[35m\x1b[1mGET /items\x1b[0m 500", service="logs-coloured", start_ns=time.time_ns()))
    page.goto(f"{viewer.base}/#/logs?service=logs-coloured")
    expect(lines(page).get_by_text("GET /items 500", exact=True)).to_be_visible()
