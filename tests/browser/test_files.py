"""A trace as a file: exported and imported as OTLP/JSON, and shared as one HTML file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.sight import detail, download, open_span, open_trace, span_row, span_rows, trace_rows
from tests.browser.viewer import Viewer, outside
from tests.browser.watch import Watch

DROPPING = """async ([text, name]) => {
    const data = new DataTransfer();
    data.items.add(new File([text], name, {type: "application/json"}));
    for (const type of ["dragenter", "dragover", "drop"])
        document.querySelector("main").dispatchEvent(
            new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: data}));
}"""
PICTURE = "rows => rows.map(row => [row.getAttribute('aria-level'), row.getAttribute('aria-label')])"


@pytest.fixture(scope="module")
def other(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """Another viewer, for what is imported."""
    started = Viewer(tmp_path_factory.mktemp("other"))
    yield started
    started.close()


def picture(page: Page) -> list[list[str]]:
    """What the rows of the waterfall say."""
    found: list[list[str]] = span_rows(page).evaluate_all(PICTURE)
    return found


def test_what_is_exported_is_the_same_trace_where_it_is_imported(
    page: Page,
    viewer: Viewer,
    other: Viewer,
    checkout: dict[str, bytes],
    new_context: Callable[..., BrowserContext],
    tmp_path: Path,
) -> None:
    open_trace(page, viewer, checkout["checkout"])
    before = picture(page)
    file = download(page, "Export", tmp_path)
    assert file.suffix == ".json"
    there = new_context(other).new_page()
    there.goto(other.address)
    there.get_by_label("Files to import").set_input_files(file)
    expect(there.get_by_role("status").filter(has_text="Imported 4 spans")).to_be_visible()
    expect(span_row(there, "POST /checkout")).to_be_visible()
    assert picture(there) == before
    told = open_span(there, "charge card")
    expect(told.get_by_label("Stack trace", exact=True)).to_contain_text("in charge")
    assert other.ask(f"traces/{checkout['checkout'].hex()}/otlp") == json.loads(file.read_text())


def test_a_file_is_dropped_on_the_page(
    page: Page, viewer: Viewer, other: Viewer, checkout: dict[str, bytes], new_context: Callable[..., BrowserContext]
) -> None:
    exported = viewer.ask(f"traces/{checkout['worker'].hex()}/otlp")
    there = new_context(other).new_page()
    there.goto(other.address)
    expect(there.get_by_role("navigation", name="Pages")).to_be_visible()
    there.evaluate(DROPPING, [json.dumps(exported), "worker.json"])
    expect(span_row(there, "work off order")).to_be_visible()


def test_a_file_of_the_file_exporter_is_imported(
    other: Viewer, new_context: Callable[..., BrowserContext], tmp_path: Path
) -> None:
    file = tmp_path / "spans.jsonl"
    program = "from opentelemetry import trace\nfor n in 1, 2: trace.get_tracer('t').start_span(f'written {n}').end()"
    command = [sys.executable, "-m", "otelagent.cli.run", "--exporter", "file", "--file", str(file)]
    subprocess.run([*command, sys.executable, "-c", program], env=outside(), check=True, timeout=60)
    there = new_context(other).new_page()
    there.goto(other.address)
    there.get_by_label("Files to import").set_input_files(file)
    told = there.get_by_role("status").filter(has_text="Imported 2 spans")
    told.get_by_role("link", name="Show the 2 traces").click()
    expect(trace_rows(there).filter(has_text="written")).to_have_count(2)


def test_a_file_of_something_else_is_told(page: Page, watch: Watch) -> None:
    watch.expect("status of 400")
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    page.evaluate(DROPPING, ['{"holidays": []}', "holidays.json"])
    expect(page.get_by_role("status").filter(has_text="holidays.json")).to_contain_text("OTLP/JSON")


def test_a_shared_trace_is_one_file_that_needs_nobody(
    page: Page, viewer: Viewer, checkout: dict[str, bytes], new_context: Callable[..., BrowserContext], tmp_path: Path
) -> None:
    open_trace(page, viewer, checkout["checkout"])
    before = picture(page)
    file = download(page, "Share", tmp_path)
    assert file.suffix == ".html"
    there = new_context(None, offline=True).new_page()
    there.goto(file.as_uri())
    expect(span_row(there, "POST /checkout")).to_be_visible()
    assert picture(there) == before
    told = open_span(there, "charge card")
    expect(told.get_by_label("Stack trace", exact=True)).to_contain_text("in charge")
    there.get_by_role("searchbox", name="Search in this trace").fill("bank.example")
    expect(there.get_by_text("of 1")).to_be_visible()
    there.keyboard.press("Enter")
    expect(there.get_by_text("1 of 1")).to_be_visible()
    there.get_by_role("tablist", name="Views of the trace").get_by_role("tab", name="Logs 2").click()
    expect(there.get_by_text("order goes to the queue")).to_be_visible()
    expect(detail(there)).to_contain_text("charge card")
