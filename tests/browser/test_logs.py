"""Log records on a page of their own, and the way from each to its trace."""

from __future__ import annotations

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
