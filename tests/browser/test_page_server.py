"""What happens to servers: new keys, a restart, and a death. The page says so, and its clients come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.browser import console
from tests.browser.site import Site
from tests.browser.visitor import Visit, expect, wait_for

pytestmark = pytest.mark.page


@pytest.fixture
def mortal_site(built_page: object) -> Iterator[Site]:
    """The plain example, of this test alone: one may kill it."""
    site = Site("example_app")
    yield site
    site.kill()


def test_the_server_says_which_start_this_is_who_is_online_and_which_key_signs(company: Visit, site: Site) -> None:
    status = site.status()
    server = company.page.get_by_role("region", name="The server")
    expect(server.get_by_test_id("starts")).to_have_text(f"#{status['starts']}")
    expect(server.get_by_test_id("online")).to_have_text("2")
    expect(server.get_by_test_id("key-id")).to_have_text(status["key_id"])


def rotate_keys(visit: Visit, site: Site) -> None:
    before = site.status()["key_id"]
    visit.button("Rotate keys").click()
    shown = visit.page.get_by_role("region", name="The server").get_by_test_id("key-id")
    expect(shown).not_to_have_text(before)
    expect(shown).to_have_text(site.status()["key_id"])


def test_live_connections_go_on_when_the_keys_are_rotated(company: Visit, site: Site) -> None:
    rotate_keys(company, site)
    company.left.say("not even noticed", "echo")
    wait_for(company.left.stream("echo", "not even noticed"))
    assert site.count("closed") == 0


def test_after_two_rotations_one_comes_back_with_a_jwt_of_the_newest_key(company: Visit, site: Site) -> None:
    rotate_keys(company, site)
    rotate_keys(company, site)
    assert site.count("closed") == 0
    company.left.provoke("Lose the connection", 1006, "retry")
    company.left.is_now("ready")
    assert site.count("accepted") == 1
    assert site.count("refused") == 0


def test_a_restart_is_1012_for_both_and_both_come_back_by_themselves(company: Visit, site: Site) -> None:
    company.console.allow(console.REFUSED_UPGRADE_503, console.failed_request(503))  # who comes while it drains
    starts = site.status()["starts"]
    company.button("Restart server").click()
    for pane in company.panes:
        pane.has_ended(1012, "retry")
    for pane in company.panes:
        pane.is_now("ready")
    expect(company.page.get_by_role("region", name="The server")).to_contain_text(f"#{starts + 1}")
    assert site.status()["starts"] == starts + 1
    assert site.count("accepted") == 2
    assert site.count_requests("POST", "/login") == 0, "the logins outlive a restart"


def test_nobody_who_is_not_logged_in_can_rotate_keys_or_restart(tab: Visit, site: Site) -> None:
    before = site.status()
    for name in ("Rotate keys", "Restart server"):
        expect(tab.button(name)).to_be_disabled()
        tab.button(name).click(force=True)
    tab.left.enter()  # by now it would have happened
    after = site.status()
    assert (after["starts"], after["key_id"]) == (before["starts"], before["key_id"])


def test_after_a_death_the_clients_wait_and_say_that_one_must_log_in_again(
    visit: Callable[..., Visit], mortal_site: Site
) -> None:
    tab = visit(mortal_site.url)
    tab.console.allow(console.UPGRADE_TO_NOBODY, console.REQUEST_TO_NOBODY, console.failed_request(401))
    for pane in tab.panes:
        pane.enter()
    mortal_site.kill()
    for pane in tab.panes:
        pane.has_ended(1006, "retry")
    mortal_site.start()
    for pane in tab.panes:  # the logins died with the server
        pane.is_now("stopped")
        expect(pane.root.get_by_role("alert")).to_contain_text("Log in again")
        pane.enter()


def test_who_waits_for_a_dead_server_shows_it(visit: Callable[..., Visit], mortal_site: Site) -> None:
    tab = visit(mortal_site.url)
    tab.console.allow(console.UPGRADE_TO_NOBODY, console.REQUEST_TO_NOBODY)
    tab.left.enter()
    mortal_site.kill()
    tab.left.is_now("waiting")
    tab.left.history("close").filter(has_text="No JWT could be had").first.wait_for()
    tab.left.is_now("waiting")
    mortal_site.start()  # so that leaving finds what it came to
