"""The reference page on a good day: two users log in, connect, talk, and leave."""

from __future__ import annotations

import re

import pytest

from tests.browser.site import Site
from tests.browser.visitor import STEPS, Visit, expect

pytestmark = pytest.mark.page


def test_alice_is_proposed_on_the_left_and_bob_on_the_right(tab: Visit) -> None:
    for pane, user in zip(tab.panes, ("alice", "bob"), strict=True):
        expect(pane.root.get_by_role("radio", name=user)).to_be_checked()
        pane.enter()
        expect(pane.root).to_contain_text(f"Logged in as {user}")


def test_both_panes_may_be_the_same_users(tab: Visit, site: Site) -> None:
    tab.left.enter("alice")
    tab.right.enter("alice")
    assert site.count("accepted", user_id="alice") == 2


def test_logging_in_connects_nothing_until_one_asks_for_it(tab: Visit, site: Site) -> None:
    tab.left.log_in("alice")
    expect(tab.left.button("Connect")).to_be_enabled()
    tab.right.enter("bob")  # as alice would have done by now
    tab.left.is_now("stopped")
    assert site.count("accepted", user_id="alice") == 0
    assert site.count_requests("POST", "/ws/token") == 1


def test_whoever_logs_in_again_is_not_connected_by_that_either(tab: Visit, site: Site) -> None:
    tab.left.enter("alice")
    tab.left.press("Log out here")
    tab.left.log_in("alice")
    expect(tab.left.button("Connect")).to_be_enabled()
    tab.right.enter("bob")
    tab.left.is_now("stopped")
    assert site.count("accepted", user_id="alice") == 1


def test_the_steps_of_the_handshake_are_done_in_order_and_say_how_long_they_took(tab: Visit) -> None:
    tab.left.log_in()
    assert tab.left.steps() == dict.fromkeys(STEPS, "todo")
    assert tuple(tab.left.steps()) == STEPS
    tab.left.press("Connect")
    tab.left.is_now("ready")
    assert tab.left.steps() == dict.fromkeys(STEPS, "done")
    for name in STEPS[:-1]:
        expect(tab.left.step(name)).to_contain_text(re.compile(r"\d\s*m?s\b"))


def test_what_went_over_the_wire_is_shown_and_the_token_is_abbreviated(tab: Visit) -> None:
    tab.left.enter()
    expect(tab.left.step("upgrade")).to_contain_text("?token=")
    expect(tab.left.root).to_contain_text("auth_ok")
    shown = tab.page.locator("body").inner_text()
    assert not re.search(r"token=[\w-]{43}", shown), "a whole token is on the screen"
    assert not re.search(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", shown), "a whole JWT is on the screen"


def test_in_slow_motion_one_sees_each_step_under_way(tab: Visit) -> None:
    tab.page.get_by_label("Slow motion").check()
    tab.left.log_in()
    tab.left.press("Connect")
    for name in ("jwt", "token", "authenticate"):  # the upgrade is the browser's own affair
        tab.left.step(name).and_(tab.page.locator("[data-status=now]")).wait_for()
    tab.left.is_now("ready")


def test_one_login_and_connect_spends_one_token_and_opens_one_socket(tab: Visit, site: Site) -> None:
    tab.left.enter()
    tab.left.stream("tick").first.wait_for()  # a second socket would be there by now
    assert site.count_requests("POST", "/ws/token") == 1
    assert site.count("accepted") == 1
    assert site.count("refused") == 0
    assert tab.console.count("/demo") == 1


def test_disconnecting_stops_and_connecting_again_takes_a_new_token(tab: Visit, site: Site) -> None:
    tab.left.enter()
    tab.left.press("Disconnect")
    tab.left.is_now("stopped")
    site.wait_for("closed")
    tab.left.press("Connect")
    tab.left.is_now("ready")
    assert site.count_requests("POST", "/ws/token") == 2
    assert site.count("accepted") == 2
