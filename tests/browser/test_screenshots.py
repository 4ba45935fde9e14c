"""Pictures of the page for a person to look at, kept in the folder that ``WSAUTH_TEST_SCREENSHOTS`` names, if any."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.visitor import Visit, expect, wait_for

FOLDER = os.environ.get("WSAUTH_TEST_SCREENSHOTS")

pytestmark = pytest.mark.page


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_each_state_of_the_page_has_its_picture(
    visit: Callable[..., Visit], tmp_path: Path, width: int, scheme: str
) -> None:
    tab = visit(viewport={"width": width, "height": 900}, color_scheme=scheme)

    def take(state: str) -> None:
        picture = Path(FOLDER or tmp_path) / f"{state}-{width}-{scheme}.png"
        tab.page.evaluate("scrollTo(0, 0)")  # what sticks to the window's top is then at the page's
        tab.page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size > 10_000

    expect(tab.right.button("Log in")).to_be_visible()
    take("1-logged-out")
    for pane in tab.panes:
        pane.enter()
        pane.join("red")
    tab.left.say("hello, red ones", "red")
    wait_for(tab.right.stream("group"))
    take("2-ready")
    tab.page.clock.install()
    tab.left.stop_the_clock()
    tab.right.press("Other user's JWT")
    tab.right.is_now("stopped")
    tab.left.press("Server error")
    tab.left.is_now("waiting")
    take("3-waiting-and-stopped")
    tab.left.press("Silence")
    tab.left.is_now("authenticating")
    take("4-authenticating")
