"""What is said on the page, who hears it, and what of it is shown."""

from __future__ import annotations

import re

import pytest

from tests.browser.visitor import Visit, expect, wait_for

pytestmark = pytest.mark.page


def test_what_one_says_comes_back_to_oneself_alone(company: Visit) -> None:
    company.left.say("of the left", "echo")
    company.right.say("of the right", "echo")
    wait_for(company.left.stream("echo", "of the left"))
    wait_for(company.right.stream("echo", "of the right"))
    expect(company.right.stream("echo", "of the left")).to_have_count(0)
    expect(company.left.stream("echo", "of the right")).to_have_count(0)


def test_what_was_said_is_gone_from_the_field_and_the_newest_message_is_the_first(company: Visit) -> None:
    for text in ("older", "newer"):
        company.left.say(text, "echo")
        wait_for(company.left.stream("echo", text))
        expect(company.left.root.get_by_role("textbox", name="Message")).to_have_value("")
    assert "newer" in company.left.stream("echo").first.inner_text()


def test_markup_in_a_message_is_shown_as_it_was_written(company: Visit) -> None:
    markup = "<b>bold</b> & <img src=x onerror=alert(1)>"
    company.left.say(markup, "echo")
    wait_for(company.left.stream("echo", markup))


def test_ticks_and_broadcasts_come_to_both_and_are_counted(company: Visit) -> None:
    for pane in company.panes:
        for kind in ("tick", "broadcast"):
            pane.stream(kind).nth(1).wait_for()
            expect(pane.root.locator(f"[data-count={kind}]")).to_have_text(re.compile(r"^([2-9]|\d\d+)$"))


def test_each_kind_of_message_is_counted(company: Visit) -> None:
    count = company.left.root.locator("[data-count=echo]")
    before = int(count.inner_text())
    for text in ("one", "two", "three"):
        company.left.say(text, "echo")
    expect(count).to_have_text(str(before + 3))


def test_a_message_to_a_group_reaches_its_members_alone_until_they_leave(company: Visit) -> None:
    left, right = company.panes
    right.join("red")
    left.join("blue")
    left.say("to the red ones", "red")
    right.say("to the blue ones", "blue")
    wait_for(right.stream("group", "to the red ones"))
    wait_for(left.stream("group", "to the blue ones"))
    left.join("red")
    right.leave("red")
    left.say("are you still red?", "red")
    wait_for(left.stream("group", "are you still red?"))
    left.leave("red")
    left.leave("blue")
    expect(left.stream("group", "to the red ones")).to_have_count(0)
    expect(right.stream("group", "to the blue ones")).to_have_count(0)
    expect(right.stream("group", "are you still red?")).to_have_count(0)


def test_groups_are_joined_again_after_a_lost_connection(company: Visit) -> None:
    left, right = company.panes
    left.join("red")
    left.provoke("Lose the connection", 1006, "retry")
    left.is_now("ready")
    expect(left.group("red")).to_be_checked()
    wait_for(left.stream("session", "opened"), 2)
    right.say("welcome back", "red")
    wait_for(left.stream("group", "welcome back"))
    left.leave("red")


def test_the_round_trip_of_a_ping_is_shown_in_milliseconds_and_as_a_line(company: Visit) -> None:
    expect(company.left.root.get_by_test_id("latency")).to_have_text(re.compile(r"^\d+(\.\d+)?\sms$"))
    # Two seconds are two points; a polyline has them as "x,y x,y".
    expect(company.left.root.locator("svg polyline")).to_have_attribute("points", re.compile(r"\d,[\d.]+ \d"))


def test_a_long_stream_is_cut_at_its_end_and_counted_whole(company: Visit) -> None:
    messages = company.left.root.locator("li[data-kind]")
    for _ in range(4):  # some 50 messages of each come back, and the rest is refused
        company.left.provoke("Flood", 4429, "retry")
        company.left.is_now("ready")
    expect(messages).to_have_count(200)
    assert sum(map(int, company.left.root.locator("[data-count]").all_inner_texts())) > 200
