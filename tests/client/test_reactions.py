"""What is done about each end: the client's column of ``docs/protocol.md`` §5, as a function and on real sockets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.client.kit import Obedient, Scripted
from tests.support import Echo, make_jwt, until
from tornado_wsauth.client import LoggedOut, Stopped, TryLater, describe_close
from tornado_wsauth.client.reactions import usual_reaction

STOP = [4400, 4403, 4409, 1002, 1003, 1007, 1008, 1009, 1010]
RETRY = [1000, 1001, 1005, 1006, 1011, 1012, 1013, 1014, 3000, 4000, 4402, 4408, 4429, 4999]
PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"


@pytest.mark.parametrize("during", ["connecting", "authenticating", "ready"])
@pytest.mark.parametrize(("code", "reaction"), [(code, "stop") for code in STOP] + [(code, "retry") for code in RETRY])
def test_a_code_has_its_reaction_wherever_the_connection_stood(code, reaction, during):
    assert usual_reaction(code, "", during) == reaction


@pytest.mark.parametrize(
    ("reason", "during", "can_renew", "reaction"),
    [
        ("jwt_expired", "ready", True, "now"),
        ("jwt_expired", "authenticating", True, "retry"),
        ("jwt_invalid", "authenticating", True, "once"),
        ("jwt_invalid", "ready", True, "once"),
        ("token_invalid", "authenticating", True, "once"),
        ("", "authenticating", True, "once"),
        ("jwt_expired", "ready", False, "stop"),
        ("jwt_invalid", "authenticating", False, "stop"),
        ("token_invalid", "authenticating", False, "once"),  # the token is another one each time
    ],
)
def test_4401_depends_on_its_reason_and_on_whether_there_is_another_jwt(reason, during, can_renew, reaction):
    assert usual_reaction(4401, reason, during, can_renew=can_renew) == reaction


@pytest.mark.parametrize("code", [None, 1006])
@pytest.mark.parametrize("reason", ["jwt_unavailable", "token_unavailable", "spent_token", "timeout", "unreachable"])
def test_what_this_side_could_not_get_is_tried_again(code, reason):
    assert usual_reaction(code, reason, "connecting") == "retry"


def test_a_server_cannot_make_the_client_stop_by_using_its_words():
    assert usual_reaction(None, "bad_server", "authenticating") == "stop"
    assert usual_reaction(4999, "bad_server", "authenticating") == "retry"


@pytest.mark.parametrize(
    ("status", "reaction"),
    [(400, "stop"), (403, "stop"), (404, "stop"), (405, "stop"), (426, "stop")]
    + [(status, "retry") for status in (200, 302, 401, 408, 429, 500, 502, 503, 504)],
)
def test_a_status_instead_of_an_upgrade_has_its_reaction(status, reaction):
    assert usual_reaction(1006, "", "connecting", status=status) == reaction


def test_every_code_of_the_protocol_has_words_and_a_reaction_that_the_document_gives():
    rows = re.findall(r"^\| (\d{4}) \| (?:`(\w+)`)? ?\|.*\| (.*) \|$", PROTOCOL.read_text(), re.MULTILINE)
    assert len(rows) == 15
    for code, reason, advice in rows:
        reaction = usual_reaction(int(code), reason, "authenticating")
        assert advice.startswith("stop") == (reaction == "stop"), (code, reason)
        assert ("once" in advice) == (reaction == "once"), (code, reason)
        assert describe_close(int(code), reason).endswith(".")
        assert code not in describe_close(int(code), reason)


def test_words_are_found_for_what_nobody_has_heard_of():
    assert describe_close(4242, "lunch break") == "The connection was closed with 4242 lunch break."
    assert describe_close(4242) == "The connection was closed with 4242."
    assert describe_close(None) == "The connection was closed with no code."
    assert describe_close(None, "jwt_unavailable") == "No JWT could be had."


# --- on real sockets -------------------------------------------------------------------------------------------------


class Chat(Obedient):
    pass


@pytest.mark.gen_test
@pytest.mark.parametrize("code", [1002, 1008, 1009, 4400, 4403, 4409])
async def test_a_stopping_code_ends_a_ready_connection_for_good(serve, client, code):
    one = client(serve(Chat))
    await one.connection
    await one.connection.send(f"close {code} because")
    with pytest.raises(Stopped) as stopped:
        await one.connection.recv()
    close = stopped.value.close
    assert (close.code, close.reason, close.during, close.reaction) == (code, "because", "ready", "stop")
    assert (close.retry_in, close.error, close.words) == (None, None, describe_close(code, "because"))
    assert (len(one.jwts), one.seams.pauses) == (1, [])


@pytest.mark.gen_test
@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 4408, 4429, 4321])
async def test_a_passing_code_is_followed_by_another_connection(serve, client, code):
    one = client(serve(Chat))
    await one.connection
    await one.connection.send(f"close {code} because")
    await until(lambda: one.steps.count("ready") == 2)
    assert one.ends == [(code, "because", "retry")]
    assert one.states == ["authenticating", "ready", "waiting", "connecting", "authenticating", "ready"]
    assert one.seams.pauses == [one.closes[0].retry_in] == [1.0]


@pytest.mark.gen_test
async def test_a_connection_that_is_cut_is_1006(serve, client):
    class Other(Scripted):
        pass

    Other.script = ["cut"]
    one = client(serve(Echo, routes=[(r"/other", Other)]), "/other")
    await one.connection
    Other.live[1].ws_connection.stream.close()
    await until(lambda: one.steps.count("ready") == 2)
    assert one.ends == [(1006, "", "retry"), (1006, "", "retry")]
    assert [close.during for close in one.closes] == ["authenticating", "ready"]


@pytest.mark.gen_test
async def test_a_jwt_that_expired_on_a_ready_connection_is_replaced_at_once(serve, client):
    one = client(serve(Chat))
    await one.connection
    await one.connection.send("close 4401 jwt_expired")
    await until(lambda: one.steps.count("ready") == 2)
    assert (one.seams.limits, one.seams.pauses, one.closes[0].retry_in) == ([], [0.0], 0.0)


@pytest.mark.gen_test
async def test_a_jwt_that_was_expired_from_the_start_is_replaced_with_backoff(serve, client):
    class Other(Scripted):
        pass

    Other.script = ["close 4401 jwt_expired"] * 3
    one = client(serve(Echo, routes=[(r"/other", Other)]), "/other")
    await one.connection
    assert one.seams.pauses == [1.0, 2.0, 4.0]


@pytest.mark.gen_test
@pytest.mark.parametrize("reason", ["jwt_invalid", "token_invalid"])
async def test_credentials_that_are_not_valid_have_one_second_chance_until_the_next_auth_ok(serve, client, reason):
    class Other(Scripted):
        pass

    refused = f"close 4401 {reason}"
    Other.script = [refused, "ok", refused, "ok", refused, "close 1012", refused]
    one = client(serve(Echo, routes=[(r"/other", Other)]), "/other")
    await one.connection
    for number in (2, 3):
        Other.live[-1].close(1001)
        if number == 2:
            await until(lambda: one.steps.count("ready") == 2)
    with pytest.raises(Stopped):
        await one.connection.recv()
    assert [end[2] for end in one.ends] == ["retry"] * 6 + ["stop"]
    assert [end[0] for end in one.ends] == [4401, 1001, 4401, 1001, 4401, 1012, 4401]
    assert len(set(one.jwts)) == len(set(one.tokens)) == 7


@pytest.mark.gen_test
@pytest.mark.parametrize("reason", ["jwt_expired", "jwt_invalid"])
async def test_a_jwt_that_is_a_text_ends_with_4401(serve, client, reason):
    one = client(serve(Chat), jwt=make_jwt())
    await one.connection
    await one.connection.send(f"close 4401 {reason}")
    with pytest.raises(Stopped):
        await one.connection.recv()
    assert one.ends == [(4401, reason, "stop")]


@pytest.mark.gen_test
@pytest.mark.parametrize("where", ["jwt", "get_token"])
async def test_logged_out_stops_and_says_so(serve, client, where):
    def raise_it(*args: str) -> str:
        raise LoggedOut("the session is over")

    one = client(serve(Chat), **{where: raise_it})
    with pytest.raises(Stopped) as stopped:
        await one.connection
    close = stopped.value.close
    assert (close.code, close.during, close.reaction, type(close.error)) == (None, "connecting", "stop", LoggedOut)
    assert close.words.endswith("could be had: the session is over.")


@pytest.mark.gen_test
@pytest.mark.parametrize("where", ["jwt", "get_token"])
async def test_try_later_is_not_tried_earlier(serve, client, where):
    def raise_it(*args: str) -> str:
        raise TryLater("busy", 120)

    one = client(serve(Chat), **{where: raise_it}, retries=2, max_retry_interval=3)
    with pytest.raises(Stopped):
        await one.connection
    assert one.seams.pauses == [121, 122]


# --- decide ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_decide_has_the_last_word_both_ways(serve, client):
    seen = []

    def decide(close):
        seen.append((close.code, close.reaction))
        return {4403: "retry", 1012: None, 1001: "stop"}[close.code]

    one = client(serve(Chat), decide=decide)
    await one.connection
    for number, code in enumerate((4403, 1012), 2):
        await one.connection.send(f"close {code} x")
        await until(lambda number=number: one.steps.count("ready") == number)
    await one.connection.send("close 1001 x")
    with pytest.raises(Stopped):
        await one.connection.recv()
    assert seen == [(4403, "stop"), (1012, "retry"), (1001, "retry")]
    assert one.ends == [(4403, "x", "retry"), (1012, "x", "retry"), (1001, "x", "stop")]
    assert [close.retry_in for close in one.closes] == [1.0, 1.0, None]


@pytest.mark.gen_test
@pytest.mark.parametrize("answer", ["maybe", True, ZeroDivisionError])
async def test_a_decide_that_goes_wrong_is_logged_and_changes_nothing(serve, client, caplog, answer):
    def decide(close):
        if answer is ZeroDivisionError:
            raise answer
        return answer

    one = client(serve(Chat), decide=decide)
    await one.connection
    await one.connection.send("close 4403 revoked")
    with pytest.raises(Stopped):
        await one.connection.recv()
    assert one.ends == [(4403, "revoked", "stop")]
    (logged,) = [record for record in caplog.records if record.name == "tornado_wsauth.client"]
    assert logged.getMessage().startswith("decide() r")
