"""Pictures of the page for the documentation, in docs/screenshots: `make screenshots`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.places import Places
from tests.browser.viewer import Viewer
from tests.viewer.requests import put

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
SHOWN = ("list", "waterfall", "span", "query", "span-logs", "map", "compare", "logs")
LAPTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
MOST_BYTES = 200_000
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0)
POINTS, EVERY_S = 60, 10


def take(page: Page, name: str) -> None:
    """Writes what the window shows."""
    page.mouse.move(0, 0)
    page.evaluate("Promise.all(document.getAnimations().map(one => one.finished.catch(() => null)))")
    file = FOLDER / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=file)
    assert file.stat().st_size < MOST_BYTES


@pytest.fixture(scope="session")
def history(viewer: Viewer) -> None:
    """Ten minutes of the histogram of a service's request durations."""
    chance = random.Random(4)
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    put(resource.resource.attributes, {"service.name": "gateway"})
    metric = resource.scope_metrics.add().metrics.add(name="http.server.request.duration", unit="s")
    metric.description = "Duration of HTTP server requests."
    metric.histogram.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    began = time.time_ns() - POINTS * EVERY_S * 10**9
    for route, usual_s in ("/products", 0.02), ("/basket", 0.06), ("/orders", 0.09):
        counts, total = [0] * (len(BOUNDS_S) + 1), 0.0
        for number in range(1, POINTS + 1):
            slow = 4 if route == "/orders" and 25 < number < 34 else 1
            for took_s in (slow * chance.lognormvariate(0, 0.4) * usual_s for _ in range(40)):
                counts[sum(took_s > bound for bound in BOUNDS_S)] += 1
                total += took_s
            point = metric.histogram.data_points.add(start_time_unix_nano=began, count=sum(counts), sum=total)
            point.time_unix_nano = began + number * EVERY_S * 10**9
            point.explicit_bounds.extend(BOUNDS_S)
            point.bucket_counts.extend(counts)
            put(point.attributes, {"http.route": route})
    viewer.send("metrics", request.SerializeToString())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_places(
    theme: str, viewer: Viewer, history: None, places: Places, new_context: Callable[..., BrowserContext]
) -> None:
    page = new_context(viewer, color_scheme=theme, viewport=LAPTOP).new_page()
    page.goto(viewer.address)
    for name in SHOWN:
        places.show(page, name)
        take(page, f"{name}-{theme}")
    places.go(page, "metrics")
    page.get_by_role("link", name="http.server.request.duration").click()
    expect(page.get_by_role("row", name="http.route=/orders")).to_be_visible()
    take(page, f"metrics-{theme}")
    page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
    for name in ("list", "waterfall"):
        places.show(page, name)
        take(page, f"phone-{name}-{theme}")


def test_empty(own: Viewer, new_context: Callable[..., BrowserContext]) -> None:
    page = new_context(own, color_scheme="light", viewport=LAPTOP).new_page()
    page.goto(own.address)
    expect(page.get_by_role("heading", name="Is the way here free?")).to_be_visible()
    take(page, "empty-light")
