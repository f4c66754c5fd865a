"""The address that ``otelagent demo`` ends with: its traces are there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, expect

from tests.browser.sight import detail, expect_traces, span_rows, trace_rows
from tests.browser.watch import Watch

COMMAND = [sys.executable, "-m", "otelagent.cli.main"]


def test_the_shop_is_on_the_page(tmp_path: Path, new_context: Callable[..., BrowserContext], watch: Watch) -> None:
    home = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    try:
        done = subprocess.run(
            [*COMMAND, "demo"], env=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100
        )
        assert done.returncode == 0, done.stdout
        address = done.stdout.splitlines()[-1]
        watch.hosts.add(urlsplit(address).netloc)
        context = new_context(None)
        page = context.new_page()
        page.goto(address)
        expect_traces(
            page,
            "GET /report",
            "GET /products/{sku}",
            "GET /prices",
            "GET /products/{sku}",
            "POST /orders",
            "GET /basket",
            "GET /products",
        )
        trace_rows(page).nth(1).get_by_role("link").click()
        span_rows(page).filter(has_text="GET /products/<sku>").click()
        expect(detail(page)).to_contain_text("ValueError: invalid literal for int() with base 10: 'ask us'")
        context.close()  # before its viewer goes
    finally:
        subprocess.run([*COMMAND, "ui", "--stop"], env=home, stdout=subprocess.DEVNULL, timeout=60)
