"""Every page in both themes and at three widths: no serious violation of the rules of axe-core, nothing cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.places import PLACES, Places
from tests.browser.viewer import Viewer

AXE = Path(__file__).parents[2] / ".ci" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = {1280: 800, 1920: 1080, 390: 844}
GRAVE = ("serious", "critical")
RUN = """async () => {
    // What fades in is looked at when it is there.
    await Promise.all(document.getAnimations().map(one => one.finished.catch(() => null)));
    const found = await axe.run(document, {resultTypes: ["violations"]});
    return found.violations.map(one => [one.impact, one.id, one.nodes.map(node => node.html.slice(0, 200))]);
}"""


def violations(page: Page) -> list[Any]:
    """The grave ones."""
    return [one for one in page.evaluate(RUN) if one[0] in GRAVE]


def opened(context: BrowserContext, viewer: Viewer) -> Page:
    """A page with axe-core in it."""
    page = context.new_page()
    page.goto(viewer.address)
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    page.evaluate(AXE.read_text())
    return page


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_can_be_used_by_everyone(
    theme: str, width: int, viewer: Viewer, places: Places, new_context: Callable[..., BrowserContext]
) -> None:
    page = opened(new_context(viewer, color_scheme=theme, viewport={"width": width, "height": WIDTHS[width]}), viewer)
    found: dict[str, Any] = {}
    for name in PLACES:
        places.show(page, name)
        if grave := violations(page):
            found[name] = grave
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if wide > 0:
            found[f"{name}, wider than the window"] = wide
    assert found == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_empty_page_too(theme: str, own: Viewer, new_context: Callable[..., BrowserContext]) -> None:
    page = opened(new_context(own, color_scheme=theme), own)
    expect(page.get_by_role("heading", name="Is the way here free?")).to_be_visible()
    assert violations(page) == []


def test_a_violation_would_be_found(page: Page) -> None:
    page.evaluate(AXE.read_text())
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    assert [one[1] for one in violations(page)] == ["button-name"]


def test_the_theme_follows_the_system_until_it_is_chosen(
    viewer: Viewer, new_context: Callable[..., BrowserContext]
) -> None:
    context = new_context(viewer, color_scheme="dark")
    page = context.new_page()
    page.goto(viewer.address)
    background = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(background)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(background)
    assert light != dark
    button = page.get_by_role("button", name="Colours")
    button.click()
    expect(button).to_have_accessible_name("Colours: light")
    button.click()
    expect(button).to_have_accessible_name("Colours: dark")
    assert page.evaluate(background) == dark
    page.reload()
    expect(button).to_have_accessible_name("Colours: dark")
    assert page.evaluate(background) == dark
    button.click()
    assert page.evaluate(background) == light
