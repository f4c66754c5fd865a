"""A headless Chromium, a viewer with real telemetry in it, and pages of it that are watched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from examples.shop.serve import gateway, inventory
from examples.shop.visits import VISITS
from tests.browser.places import Places
from tests.browser.viewer import Viewer, outside
from tests.browser.watch import Watch

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
NO_CHROMIUM = f"""no Chromium: install it so that {", ".join(CHROMIUMS[:-1])} or {CHROMIUMS[-1]} is on PATH
(Debian: apt-get install chromium), or name its program in OTELAGENT_CHROMIUM"""
WAIT_MS = 15_000
ROUNDS = 3
"""How often the shop is visited in every way."""

expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser. Without one there is nothing to test, and the run ends."""
    names = [os.environ["OTELAGENT_CHROMIUM"]] if "OTELAGENT_CHROMIUM" in os.environ else CHROMIUMS
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.exit(NO_CHROMIUM, returncode=2)
    with sync_playwright() as playwright:
        # No name of any other machine is found; and as root Chromium has no sandbox.
        arguments = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
        sandbox = os.geteuid() != 0
        started = playwright.chromium.launch(executable_path=program, args=arguments, chromium_sandbox=sandbox)
        yield started
        started.close()


@pytest.fixture(scope="session")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """The viewer that tests share; what a test sends to it has a service name of its own."""
    started = Viewer(tmp_path_factory.mktemp("viewer"))
    yield started
    started.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Viewer]:
    """A viewer of one test alone; to be asked for before the browser's contexts, which end before it does."""
    started = Viewer(tmp_path)
    yield started
    started.close()


@pytest.fixture(scope="session")
def checkout(viewer: Viewer) -> dict[str, bytes]:
    """The traces of the program `checkout.py`: ``checkout`` and ``worker``."""
    environment = {**outside(), "OTEL_EXPORTER_OTLP_ENDPOINT": viewer.base}
    # By a relative path, which is what its stack traces have: pictures of the page show them.
    program = "import runpy; runpy.run_path('checkout.py', run_name='__main__')"
    command = [sys.executable, "-c", program]
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return {name: bytes.fromhex(trace) for name, trace in json.loads(done.stdout).items()}


@pytest.fixture(scope="session")
def shop(viewer: Viewer, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The example shop has been visited: both services under `otelagent-run`, all their telemetry in the viewer."""
    folder = tmp_path_factory.mktemp("shop")
    agent = [
        "--endpoint",
        viewer.base,
        "--batch-schedule-delay-ms",
        "100",
        "--excluded-urls",
        "/health$",
        "--logs-exporter",
        "otlp",
    ]
    with (
        inventory(folder, agent=[*agent, "--service-name", "inventory"]) as stock,
        gateway(folder, stock.url, agent=[*agent, "--service-name", "gateway"], health=None) as front,
    ):
        for visit in VISITS * ROUNDS:
            status, _ = front.request(visit.method, visit.path, body=visit.body)
            assert status == visit.status
    # Both have ended, and what they had was sent.
    kept = {one["name"] for one in viewer.ask("traces?service=gateway&limit=500")["traces"]}
    assert kept >= {visit.server_spans[0] for visit in VISITS}


@pytest.fixture(scope="session")
def places(viewer: Viewer, shop: None, checkout: dict[str, bytes]) -> Places:
    """What there is to see of the shop and of the program `checkout.py`."""

    def latest(operation: str, failed: bool = False) -> str:
        query = urlencode({"service": "gateway", "operation": operation})
        traces = viewer.ask(f"traces?{query}")["traces"]
        return str(next(one["id"] for one in traces if bool(one["errors"]) == failed))

    one = "GET /products/{sku}"
    return Places(viewer, latest("POST /orders"), checkout["checkout"].hex(), (latest(one), latest(one, failed=True)))


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Fails a test that has done everything else right if a page of it did what no page may."""
    watch = Watch()
    yield watch
    assert not watch.faults


@pytest.fixture
def new_context(browser: Browser, watch: Watch) -> Iterator[Callable[..., BrowserContext]]:
    """Opens browser contexts that are watched: each like a browser of its own, without cookies."""
    opened: list[BrowserContext] = []

    def open_one(viewer: Viewer | None, **options: Any) -> BrowserContext:
        """One whose pages may talk to a viewer, or to nobody."""
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "locale": "en-GB", **options})
        context.set_default_timeout(WAIT_MS)
        opened.append(context)
        if viewer is not None:
            watch.hosts.add(urlsplit(viewer.base).netloc)
        watch.over(context)
        return context

    yield open_one
    for context in opened:
        context.close()


@pytest.fixture
def context(new_context: Callable[..., BrowserContext], viewer: Viewer) -> BrowserContext:
    """The browser context of most tests."""
    return new_context(viewer)


@pytest.fixture
def page(context: BrowserContext, viewer: Viewer) -> Page:
    """A page of the shared viewer, opened by the address that it printed."""
    page = context.new_page()
    page.goto(viewer.address)
    return page
