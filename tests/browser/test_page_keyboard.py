"""The page with the keyboard alone: one gets everywhere, sees where one is, and is never lost."""

from __future__ import annotations

import pytest

from tests.browser import looks
from tests.browser.visitor import Visit, expect, wait_for

pytestmark = pytest.mark.page

FAR_ENOUGH = 80  # presses of Tab, within which everything is reached


def tab_to(tab: Visit, name: str, pane: str = "Left pane", key: str = "Tab") -> None:
    """Press Tab until the focus is on what is called ``name``, and see a ring at each stop."""
    passed = []
    for _ in range(FAR_ENOUGH):
        tab.page.keyboard.press(key)
        at = looks.focus(tab.page)
        if at["tag"] == "BODY":  # behind the last one it begins again
            continue
        assert at["ring"], f"the focus is on {at}, and nothing shows it"
        if (at["name"], at["pane"]) == (name, pane):
            return
        passed.append(at["name"])
    pytest.fail(f"{name!r} cannot be reached with {key}; these can: {passed}")


def test_with_the_keyboard_alone_one_logs_in_connects_and_sends_a_message(tab: Visit) -> None:
    expect(tab.left.button("Log in")).to_be_visible()
    keyboard = tab.page.keyboard
    tab_to(tab, "alice")
    keyboard.press("ArrowRight")
    expect(tab.left.root.get_by_role("radio", name="bob")).to_be_checked()
    tab_to(tab, "Log in")
    keyboard.press("Enter")
    expect(tab.left.root).to_contain_text("Logged in as bob")
    tab_to_or_at(tab, "Connect")
    keyboard.press("Space")
    tab.left.is_now("ready")
    tab_to(tab, "Message")
    keyboard.type("typed")
    keyboard.press("Enter")
    wait_for(tab.left.stream("echo", "typed"))
    assert looks.focus(tab.page)["name"] == "Message", "one who writes goes on writing"


def tab_to_or_at(tab: Visit, name: str) -> None:
    if looks.focus(tab.page)["name"] != name:
        tab_to(tab, name)


def test_the_first_stop_skips_to_the_panes(tab: Visit) -> None:
    expect(tab.left.button("Log in")).to_be_visible()
    tab.page.keyboard.press("Tab")
    assert "Skip" in looks.focus(tab.page)["name"]
    skip = tab.page.get_by_role("link", name="Skip to")
    expect(skip).to_be_in_viewport()
    tab.page.keyboard.press("Enter")
    tab.page.keyboard.press("Tab")
    assert looks.focus(tab.page)["pane"] == "Left pane"


def test_the_focus_is_never_lost(tab: Visit) -> None:
    """Each of these replaces what was pressed, or what it can do."""
    for name, state in (
        ("Log in", "stopped"),
        ("Connect", "ready"),
        ("Disconnect", "stopped"),
        ("Connect", "ready"),
        ("Log out here", "stopped"),
        ("Log in", "stopped"),
        ("Log out everywhere", "stopped"),
    ):
        tab.left.button(name).focus()
        tab.page.keyboard.press("Enter")

        tab.left.is_now(state)
        if name.startswith("Log"):
            expect(tab.left.button(name)).to_have_count(0)
        at = looks.focus(tab.page)
        assert at["pane"] == "Left pane", f"after {name!r} the focus is on {at}"


def test_a_failure_can_be_provoked_again_and_again_without_looking_for_its_button(company: Visit) -> None:
    company.left.button("Lose the connection").focus()
    for times in (1, 2):
        company.page.keyboard.press("Enter")
        company.left.has_ended(1006, "retry", times=times)
        company.left.is_now("ready")
        assert looks.focus(company.page)["name"] == "Lose the connection"


def test_wherever_one_goes_with_tab_one_comes_back_with_shift(company: Visit) -> None:
    company.left.button("Disconnect").focus()
    tab_to(company, "Message")
    tab_to(company, "Disconnect", key="Shift+Tab")
