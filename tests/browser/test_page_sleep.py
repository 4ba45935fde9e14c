"""Time passes, a laptop sleeps, the network goes away: the connection is renewed, or comes back by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser import console
from tests.browser.chromium import asleep
from tests.browser.site import Site, hurried
from tests.browser.visitor import Visit, expect, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.page

JWT_LIFETIME = 3  # seconds; the server says `auth_expiring` at half of it


@pytest.fixture(scope="module")
def shortlived_site(built_page: object) -> Iterator[Site]:
    site = hurried(jwt_lifetime=JWT_LIFETIME)
    yield site
    site.kill()


@pytest.fixture
def site(shortlived_site: Site) -> Site:
    """A server whose JWTs live for three seconds."""
    shortlived_site.forget()
    return shortlived_site


def test_a_live_connection_is_renewed_again_and_again(tab: Visit, site: Site) -> None:
    tab.left.enter()
    tab.left.history("renewed").nth(1).wait_for()
    expect(tab.left.history("close")).to_have_count(0)
    assert site.count_requests("POST", "/ws/token") == 1
    assert site.count_requests("POST", "/jwt") >= 3


def test_who_slept_beyond_the_end_of_its_jwt_comes_back_with_a_new_one(
    browser: Browser, tab: Visit, site: Site
) -> None:
    for pane in tab.panes:
        pane.enter()
    with asleep(browser):
        site.wait_for("closed", reason="jwt_expired", times=2)
    for pane in tab.panes:
        pane.has_ended(4401, "retry")
        pane.is_now("ready")
    assert site.count_requests("POST", "/ws/token") == 4
    assert site.count("refused") == 0, "nobody came with old credentials"


def test_after_a_sleep_that_nobody_noticed_the_client_asks_whether_the_server_is_there(
    visit: Callable[..., Visit], shared_site: Site
) -> None:
    tab = visit(shared_site.url)  # its JWTs live for a minute: nothing else renews them in this test
    tab.page.clock.install()
    tab.left.enter()
    expect(tab.left.history("renewed")).to_have_count(0)
    tab.page.clock.fast_forward(20_000)  # as closing the lid does: each timer at most once
    wait_for(tab.left.history("renewed"))
    tab.left.is_now("ready")
    expect(tab.left.history("close")).to_have_count(0)


def test_while_the_browser_is_offline_nobody_tries_and_online_again_it_is_ready(tab: Visit, site: Site) -> None:
    tab.page.clock.install()
    tab.left.enter()
    tab.left.stop_the_clock()
    tab.left.press("Lose the connection")
    tab.left.has_ended(1006, "retry")
    tab.context.set_offline(True)
    tab.page.clock.fast_forward(60_000)  # longer than any wait
    tab.left.is_now("waiting")
    wait_for(tab.left.history("close"))
    tab.console.allow(console.REQUEST_OFFLINE)  # what the server card asks
    assert site.count_requests("POST", "/ws/token") == 1
    tab.context.set_offline(False)
    tab.page.clock.resume()
    tab.left.is_now("ready")
    assert site.count_requests("POST", "/ws/token") == 2
