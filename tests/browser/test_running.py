"""Spans that haven't ended, of programs under `otelagent-run`, and what becomes of them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.sight import expect_traces, span_row, trace_rows
from tests.browser.viewer import Viewer, outside

PROGRAM = """
from opentelemetry import trace
with trace.get_tracer("jobs").start_as_current_span("long job"):
    input()
"""
RUNNING, LOST = re.compile(", running$"), re.compile(", lost$")
LOST_WITHIN_MS = 60_000


@pytest.fixture
def program(viewer: Viewer, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A program inside a span, until it reads a line. Its service is called like the test."""
    options = ["--running-spans", "--endpoint", viewer.base, "--service-name", request.node.name]
    command = [sys.executable, "-m", "otelagent.cli.run", *options, sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=outside()) as process:
        yield process
        process.kill()


def open_job(page: Page, viewer: Viewer, service: str) -> None:
    """Shows the trace of its span, once it has come."""
    page.goto(f"{viewer.base}/#/traces?service={service}")
    expect_traces(page, "long job")
    expect(trace_rows(page)).to_contain_text(["running"])
    trace_rows(page).get_by_role("link").click()
    expect(span_row(page, "long job")).to_have_accessible_name(RUNNING)


def test_a_span_runs_until_it_ends(
    page: Page, viewer: Viewer, program: subprocess.Popen[str], request: pytest.FixtureRequest
) -> None:
    open_job(page, viewer, request.node.name)
    expect(page.get_by_text("1 span running")).to_be_visible()
    program.communicate("\n", timeout=60)
    expect(page.get_by_text("1 span running")).to_have_count(0)
    expect(span_row(page, "long job")).not_to_have_accessible_name(RUNNING)


def test_a_span_of_a_process_that_was_killed_is_lost(
    page: Page, viewer: Viewer, program: subprocess.Popen[str], request: pytest.FixtureRequest
) -> None:
    open_job(page, viewer, request.node.name)
    program.kill()
    expect(span_row(page, "long job")).to_have_accessible_name(LOST, timeout=LOST_WITHIN_MS)
    expect(page.get_by_text("1 span lost")).to_be_visible()
