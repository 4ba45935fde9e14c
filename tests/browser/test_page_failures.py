"""The failures one can provoke: what each ends with, and what the client does about it. The next attempt is honest.

Most of these tests share one tab; none depends on what the others left there.
"""

from __future__ import annotations

import re

import pytest

from tests.browser.console import REFUSED_UPGRADE_401
from tests.browser.site import Site
from tests.browser.visitor import Visit, expect

pytestmark = pytest.mark.page

REFUSED = {
    "No token": {"token_missing"},
    "Expired token": {"token_expired", "token_unknown"},  # a store may have forgotten it by then
    "Used token": {"token_replayed"},
}
REJECTED = {
    "Forged JWT": (4401, "jwt_invalid"),
    "Expired JWT": (4401, "jwt_expired"),
    "Silence": (4408, "auth_timeout"),
}
HOPELESS = {"Other user's JWT": (4403, "user_mismatch"), "Not JSON first": (4400, "bad_message")}
LIVE = {"Lose the connection": 1006, "Server error": 1011, "Flood": 4429}

EXPECTED = {
    **dict.fromkeys(REFUSED, 1006),
    **{name: code for name, (code, _) in {**REJECTED, **HOPELESS}.items()},
    **LIVE,
    "Too many connections": 4409,
}


def count_attempts(site: Site) -> int:
    """Return how many tokens were fetched, which each honest attempt does once."""
    return site.count_requests("POST", "/ws/token")


@pytest.mark.parametrize("name", REFUSED)
def test_a_token_that_is_not_good_is_1006_and_the_next_attempt_is_honest(company: Visit, site: Site, name: str) -> None:
    company.console.allow(REFUSED_UPGRADE_401)
    company.left.provoke(name, 1006, "retry")
    company.left.is_now("ready")
    (refusal,) = [record for record in site.records if record["event"] == "refused"]
    assert refusal["code"] == 401
    assert refusal["reason"] in REFUSED[name]
    assert site.count("accepted", user_id="alice") == 1


@pytest.mark.parametrize("name", REJECTED)
def test_a_first_message_that_may_be_better_next_time_is_tried_again(company: Visit, site: Site, name: str) -> None:
    code, reason = REJECTED[name]
    company.left.provoke(name, code, "retry")
    expect(company.left.history("close", code=str(code)).first).to_contain_text(reason)
    company.left.is_now("ready")
    assert count_attempts(site) == 2
    assert site.count("accepted") == 1


@pytest.mark.parametrize("name", HOPELESS)
def test_a_first_message_that_will_not_be_better_stops_the_client(company: Visit, site: Site, name: str) -> None:
    code, reason = HOPELESS[name]
    company.left.provoke(name, code, "stop")
    expect(company.left.history("close", code=str(code)).first).to_contain_text(reason)
    company.left.is_now("stopped")
    assert (count_attempts(site), site.count("accepted")) == (1, 0)
    company.left.press("Connect")
    company.left.is_now("ready")
    company.right.is_now("ready")  # whom all of this is no concern of


@pytest.mark.parametrize("name", LIVE)
def test_a_live_connection_that_ends_is_ready_again_with_a_new_token(company: Visit, site: Site, name: str) -> None:
    company.left.provoke(name, LIVE[name], "retry")
    company.left.is_now("ready")
    assert site.count_requests("POST", "/jwt") == count_attempts(site) == site.count("accepted") == 1


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013, 4408])
def test_whatever_the_server_closes_with_the_client_comes_back(company: Visit, site: Site, code: int) -> None:
    company.left.root.get_by_role("combobox", name="Close code").select_option(str(code))
    company.left.provoke("Server closes with…", code, "retry")
    company.left.is_now("ready")
    assert site.count("accepted") == 1


def test_a_lie_is_told_once(company: Visit, site: Site) -> None:
    company.left.provoke("Forged JWT", 4401, "retry")
    company.left.is_now("ready")
    lies = company.left.history("close", code="4401")
    told = lies.count()
    company.left.provoke("Server error", 1011, "retry")
    company.left.is_now("ready")
    assert lies.count() == told
    assert site.count("accepted") == 2


def test_a_failed_attempt_shows_which_step_failed(company: Visit) -> None:
    company.left.provoke("Not JSON first", 4400, "stop")
    done = dict.fromkeys(("jwt", "token", "upgrade"), "done")
    assert company.left.steps() == {**done, "authenticate": "failed", "ready": "todo"}


def test_the_history_says_what_comes_next(company: Visit) -> None:
    company.left.provoke("Lose the connection", 1006, "retry")
    retry = company.left.history("close", code="1006", reaction="retry").first
    expect(retry).to_contain_text(re.compile(r"again in \d[\d.]* m?s with a new token"))
    company.left.is_now("ready")
    company.left.provoke("Not JSON first", 4400, "stop")
    expect(company.left.history("close", code="4400").first).to_contain_text("stopped")


def test_each_button_says_which_code_is_to_be_expected(company: Visit) -> None:
    for name, code in EXPECTED.items():
        expect(company.left.button(name)).to_have_accessible_description(re.compile(rf"\b{code}\b"))


def test_while_it_waits_one_sees_for_how_long_and_can_try_now(tab: Visit, site: Site) -> None:
    tab.page.clock.install()
    tab.left.enter()
    tab.left.stop_the_clock()
    tab.left.provoke("Lose the connection", 1006, "retry")
    tab.left.is_now("waiting")
    expect(tab.left.root.get_by_text(re.compile(r"again in \d\.\d s")).first).to_be_visible()
    assert site.count("accepted") == 1
    tab.left.press("Try now")
    tab.left.is_now("ready")
    assert site.count("accepted") == 2


def test_a_newer_connection_in_its_place_stops_the_client(tab: Visit) -> None:
    tab.left.enter()
    tab.left.provoke("Too many connections", 4409, "stop")
    tab.left.is_now("stopped")
