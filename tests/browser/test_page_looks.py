"""Whoever comes: with a phone, at night, with a screen reader, with no liking for things that move."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser import looks
from tests.browser.visitor import Visit, expect, wait_for

pytestmark = pytest.mark.page

PHONE = {"width": 360, "height": 740}


def check_width(tab: Visit) -> None:
    assert not looks.scrolls_sideways(tab.page)
    assert not looks.sticking_out(tab.page)


def test_a_phone_never_has_to_scroll_sideways(visit: Callable[..., Visit]) -> None:
    tab = visit(viewport=PHONE, has_touch=True, is_mobile=True)
    expect(tab.left.button("Log in")).to_be_visible()
    check_width(tab)
    tab.left.enter()
    tab.left.say("x" * 400, "echo")
    wait_for(tab.left.stream("echo"))
    tab.left.stream("broadcast").first.wait_for()
    check_width(tab)
    tab.page.clock.install()
    tab.left.stop_the_clock()
    tab.left.press("Lose the connection")
    tab.left.is_now("waiting")
    check_width(tab)
    tab.left.press("Not JSON first")
    tab.left.is_now("stopped")
    check_width(tab)


def test_on_a_phone_the_panes_are_one_above_the_other_and_else_side_by_side(visit: Callable[..., Visit]) -> None:
    for viewport, is_stacked in ((PHONE, True), ({"width": 1280, "height": 800}, False)):
        tab = visit(viewport=viewport)
        left, right = (pane.root.bounding_box() for pane in tab.panes)
        assert left is not None
        assert right is not None
        assert (right["y"] >= left["y"] + left["height"]) == is_stacked
        assert (right["x"] >= left["x"] + left["width"]) == (not is_stacked)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(visit: Callable[..., Visit], scheme: str) -> None:
    tab = visit(color_scheme=scheme)
    expect(tab.left.button("Log in")).to_be_visible()
    assert not looks.faint_texts(tab.page)
    tab.left.enter()
    tab.left.join("red")
    tab.left.say("one", "echo")
    tab.left.say("two", "red")
    wait_for(tab.left.stream("group"))
    tab.left.stream("tick").first.wait_for()
    tab.right.log_in()
    tab.right.press("Not JSON first")
    tab.right.is_now("stopped")
    assert not looks.faint_texts(tab.page)
    tab.page.clock.install()
    tab.left.stop_the_clock()
    tab.left.press("Silence")
    tab.left.is_now("authenticating")
    assert not looks.faint_texts(tab.page)
    tab.left.is_now("waiting")
    assert not looks.faint_texts(tab.page)


def test_the_page_is_dark_for_those_who_want_it_dark_alone(visit: Callable[..., Visit]) -> None:
    for scheme in ("light", "dark"):
        tab = visit(color_scheme=scheme)
        expect(tab.left.button("Log in")).to_be_visible()
        assert looks.is_dark(tab.page) == (scheme == "dark")


def test_nothing_moves_for_those_who_do_not_like_that(visit: Callable[..., Visit]) -> None:
    tab = visit(reduced_motion="reduce")
    tab.page.get_by_label("Slow motion").check()
    tab.left.log_in()
    tab.left.press("Connect")
    tab.left.step("token").and_(tab.page.locator("[data-status=now]")).wait_for()
    assert not looks.moving(tab.page)
    tab.left.is_now("ready")
    tab.left.stream("tick").first.wait_for()
    assert not looks.moving(tab.page)


def test_the_step_that_is_under_way_moves_for_all_others(visit: Callable[..., Visit]) -> None:
    tab = visit(reduced_motion="no-preference")
    tab.page.get_by_label("Slow motion").check()
    tab.left.log_in()
    tab.left.press("Connect")
    tab.left.step("token").and_(tab.page.locator("[data-status=now]")).wait_for()
    assert looks.moving(tab.page)


def test_everything_that_can_be_used_has_a_name(tab: Visit) -> None:
    expect(tab.left.button("Log in")).to_be_visible()
    assert not looks.nameless(tab.page)
    for pane in tab.panes:
        pane.enter()
    assert not looks.nameless(tab.page)


def test_the_page_has_a_language_a_title_and_one_first_heading(company: Visit) -> None:
    assert company.page.locator("html").get_attribute("lang") == "en"
    assert "tornado_wsauth" in company.page.title()
    expect(company.page.get_by_role("heading", level=1)).to_have_count(1)
    expect(company.page.get_by_role("main")).to_have_count(1)


def test_a_screen_reader_hears_of_ends_and_not_of_every_tick(company: Visit) -> None:
    ticks = company.left.stream("tick")
    ticks.first.wait_for()
    before, spoken = ticks.count(), looks.spoken(company.page)
    assert any("ready" in text for text in spoken)
    ticks.nth(before + 3).wait_for()
    assert looks.spoken(company.page) == spoken
    company.left.provoke("Not JSON first", 4400, "stop")
    assert any("bad_message" in text for text in looks.spoken(company.page))


def test_the_page_keeps_no_credentials_where_they_would_stay(company: Visit) -> None:
    kept = company.page.evaluate(
        "JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie + location.href"
    )
    assert kept == "{}" + company.url + "/"
