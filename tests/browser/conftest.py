"""Fixtures of the tests in a browser: one Chromium and one server for all, a tab of its own for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import BrowserMissing, chromium_running, playwright_running
from tests.browser.site import Site, hurried
from tests.browser.visitor import Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser


# Of the package, not of the session: Playwright's event loop counts as running, and other tests run theirs.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all of these tests."""
    try:
        with playwright_running() as playwright, chromium_running(playwright) as browser:
            yield browser
    except BrowserMissing as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="package")
def built_page() -> Path:
    """The folder of the page, built from its sources as they are."""
    from example_app.build import BuildError, ensure_page

    try:
        return ensure_page()
    except BuildError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="package")
def shared_site(built_page: Path) -> Iterator[Site]:
    site = hurried()
    yield site
    site.kill()


@pytest.fixture
def site(shared_site: Site) -> Site:
    """A server for many tests, whose log begins with this one."""
    shared_site.forget()
    return shared_site


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Callable[..., Visit]]:
    """Open the page in a tab: ``visit(url=None, **options of a Playwright context)``.

    Afterwards, the tab's console must be clean.
    """
    visits: list[Visit] = []
    online = site.status()["online"]

    def open_one(url: str = "", **options: object) -> Visit:
        visits.append(Visit(browser, url or site.url, **options))
        return visits[-1]

    yield open_one
    for each in visits:
        each.leave()
    site.wait_until_online(online)  # so that what the next test reads in the log is its own
    for each in visits:
        each.console.assert_clean()


@pytest.fixture
def tab(visit: Callable[..., Visit]) -> Visit:
    """The page of the shared server, in a tab of this test's own."""
    return visit()


@pytest.fixture(scope="module")
def company_of_module(browser: Browser, shared_site: Site) -> Iterator[Visit]:
    visit = Visit(browser, shared_site.url)
    # The wait before each retry is up to a second, at random; it is others who test that.
    visit.page.evaluate("Math.random = () => 0.2")
    for pane in visit.panes:
        pane.enter()
    yield visit
    visit.leave()


@pytest.fixture
def company(company_of_module: Visit, site: Site) -> Iterator[Visit]:
    """A tab in which alice and bob are ready, as the test before left it: opening one takes longer than most tests."""
    for pane in company_of_module.panes:
        if pane.state.inner_text() != "ready":
            pane.press("Connect")
            pane.is_now("ready")
    site.forget()
    yield company_of_module
    company_of_module.console.assert_clean()
