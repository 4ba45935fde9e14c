"""Logging out reaches what is open: everywhere, or this login alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.site import Site
from tests.browser.visitor import Visit, expect, wait_for

pytestmark = pytest.mark.page


def test_logging_out_everywhere_ends_all_connections_of_the_user(tab: Visit, site: Site) -> None:
    for pane in tab.panes:
        pane.enter("alice")
    tab.left.press("Log out everywhere")
    expect(tab.left.button("Log in")).to_be_visible()
    for pane in tab.panes:
        pane.has_ended(4403, "stop")
        pane.is_now("stopped")
        expect(pane.history("close", code="4403")).to_contain_text("revoked")
    site.wait_for("closed", reason="revoked", user_id="alice", times=2)


def test_logging_out_everywhere_leaves_other_users_alone(tab: Visit, site: Site) -> None:
    tab.left.enter("alice")
    tab.right.enter("bob")
    tab.left.press("Log out everywhere")
    site.wait_for("closed", user_id="alice")
    tab.right.say("still here", "echo")
    wait_for(tab.right.stream("echo", "still here"))
    expect(tab.right.history("close")).to_have_count(0)


def test_logging_out_here_ends_this_login_alone(tab: Visit, site: Site) -> None:
    for pane in tab.panes:
        pane.enter("alice")
    tab.left.press("Log out here")
    expect(tab.left.button("Log in")).to_be_visible()
    site.wait_for("closed", user_id="alice")
    tab.right.say("still here", "echo")
    wait_for(tab.right.stream("echo", "still here"))
    assert site.count("closed") == 1


def test_in_another_tab_one_sees_that_one_was_logged_out(tab: Visit, visit: Callable[..., Visit]) -> None:
    other = visit()
    other.left.enter("alice")
    tab.left.enter("alice")
    tab.left.press("Log out everywhere")
    other.left.has_ended(4403, "stop")
    other.left.is_now("stopped")


def test_after_a_logout_one_can_log_in_as_somebody_else(tab: Visit, site: Site) -> None:
    tab.left.enter("alice")
    tab.left.say("a word of alice's", "echo")
    wait_for(tab.left.stream("echo", "a word of alice's"))
    tab.left.press("Log out here")
    tab.left.enter("bob")
    expect(tab.left.stream("echo")).to_have_count(0)
    assert site.count("accepted", user_id="bob") == 1
