"""When the next attempt comes, and when none does."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import re
from typing import Any

import pytest
import tornado.httpserver
import tornado.testing
from tornado.httputil import HTTPHeaders

from tests.client.kit import Answering, Obedient, QuickPauses, Scripted, hanging_steps
from tests.support import Echo, make_auth, until
from tornado_wsauth.backoff import Backoff, Seams
from tornado_wsauth.client import LoggedOut, Refused, Stopped, TimedOut, TryLater, connect
from tornado_wsauth.client.requests import retry_after_of


class Chat(Obedient):
    pass


def fail(*args: Any) -> str:
    raise OSError("no way")


@pytest.mark.gen_test
async def test_the_limit_of_the_wait_doubles_up_to_the_longest(serve, client):
    one = client(serve(Chat), get_token=fail, retries=6, retry_interval=0.5, max_retry_interval=10)
    with pytest.raises(Stopped):
        await one.connection
    assert one.seams.pauses == [0.5, 1, 2, 4, 8, 10]
    assert one.seams.limits == [0.5, 1, 2, 4, 8, 10, 10]


def test_a_wait_is_anywhere_from_zero_to_its_limit():
    backoff = Backoff(1.0, 30.0, Seams())
    backoff.failures = 2
    drawn = [backoff.delay() for _ in range(500)]
    assert 0 <= min(drawn) < 0.5
    assert 3.5 < max(drawn) <= 4


def test_the_wait_is_a_number_after_any_number_of_failures():
    backoff = Backoff(0.1, 30.0, Seams())
    backoff.failures = 100_000
    assert 0 <= backoff.delay() <= 30


@pytest.mark.gen_test
@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_so_many_attempts_in_a_row_may_fail_and_be_followed(serve, client, retries):
    one = client(serve(Chat), get_token=fail, retries=retries)
    with pytest.raises(Stopped):
        await one.connection
    assert [end[2] for end in one.ends] == ["retry"] * retries + ["stop"]
    assert len(one.jwts) == retries + 1


@pytest.mark.gen_test
async def test_auth_ok_starts_the_count_again_and_an_upgrade_does_not(serve, client):
    class Other(Scripted):
        pass

    busy = "close 1013"
    Other.script = [busy, busy, "ok", busy, busy, busy]
    one = client(serve(Echo, routes=[(r"/other", Other)]), "/other", retries=3)
    await one.connection
    Other.live[-1].close(1012)
    with pytest.raises(Stopped):
        await one.connection.recv()
    assert one.seams.limits == [1, 2, 1, 2, 4, 8]
    assert [end[2] for end in one.ends] == ["retry"] * 5 + ["stop"]


@pytest.mark.gen_test
async def test_retry_now_ends_a_wait_and_only_a_wait(serve, client):
    answers: list[Any] = [fail, fail]
    server = serve(Chat)

    async def get_token(jwt: str) -> str:
        return answers.pop()(jwt) if answers else await server.auth.issue_token("alice")

    one = client(server, get_token=get_token)
    one.seams.holds_pauses = True
    one.connection.retry_now()  # of no effect on the wait to come
    connecting = asyncio.ensure_future(one.connection._begin())
    for number in (1, 2):
        await until(lambda number=number: one.states.count("waiting") == number)
        assert len(one.jwts) == number
        one.connection.retry_now()
    await connecting
    assert one.connection.state == "ready"


@pytest.mark.gen_test
async def test_the_real_wait_is_ended_by_retry_now_and_by_its_time(serve, client):
    woken = asyncio.Event()
    await Seams().pause(0.001, woken)
    woken.set()
    await Seams().pause(3600, woken)


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_token_that_was_returned_before_is_never_sent_again(serve, client):
    server = serve(Chat)
    first, second = await server.auth.issue_token("alice"), await server.auth.issue_token("alice")
    answers = [first, first, first, second]
    one = client(server, get_token=lambda jwt: answers.pop(0))
    await one.connection
    await one.connection.send("close 1012 restart")
    await until(lambda: one.steps.count("ready") == 2)
    assert one.ends == [(1012, "restart", "retry"), (None, "spent_token", "retry"), (None, "spent_token", "retry")]
    assert one.steps.count("upgrade") == 2
    assert first not in repr(vars(one.connection._credentials))


@pytest.mark.gen_test
@pytest.mark.parametrize("token", ["", None, 7, b"bytes", "two words", "line\n", "ü"])
async def test_what_is_no_token_or_no_jwt_is_a_failed_attempt(serve, client, token):
    server = serve(Chat)
    one = client(server, get_token=lambda jwt: token, retries=0)
    other = client(server, jwt=lambda: token, retries=0)
    for each, reason in ((one, "token_unavailable"), (other, "jwt_unavailable")):
        with pytest.raises(Stopped, match=r"expected, and .* came\.$"):
            await each.connection
        assert each.ends == [(None, reason, "stop")]
        assert "upgrade" not in each.steps


# --- deadlines -------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("where", ["jwt", "token", "token_url", "upgrade", "authenticate"])
async def test_each_step_has_its_deadline(serve, client, where):
    class Hanging(Answering):
        pass

    class Other(Scripted):
        pass

    Hanging.answers, Other.script = [None], ["hang", "hang"]
    server = serve(Chat, routes=[(r"/hang", Hanging), (r"/other", Other)])

    one = client(server, **hanging_steps(server)[where], timeout=0.03, retries=1, _seams=QuickPauses())
    with pytest.raises(Stopped):
        await one.connection
    reason = {"jwt": "jwt_unavailable", "token": "token_unavailable", "token_url": "token_unavailable"}.get(where)
    assert one.ends == [(None, reason or "timeout", "retry"), (None, reason or "timeout", "stop")]
    if reason is not None:
        assert isinstance(one.closes[0].error, TimedOut)
        assert re.search(r"could be had: .* (longer than|within) 0\.03 s\.$", one.closes[0].words)
    Hanging.release.set()


@pytest.mark.gen_test
async def test_a_deadline_of_the_application_within_its_own_function_is_a_failed_attempt(serve, client):
    async def jwt() -> str:
        async with asyncio.timeout(0):
            await asyncio.sleep(1)
        return "never"

    async def cancelled(jwt: str) -> str:
        raise asyncio.CancelledError

    for options in ({"jwt": jwt}, {"get_token": cancelled}):
        one = client(serve(Chat), retries=0, **options)
        with pytest.raises(Stopped, match=r"(TimeoutError|CancelledError)\.$"):
            await one.connection


# --- answers over HTTP -----------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("status", "headers", "kind", "pauses"),
    [
        (401, {}, LoggedOut, []),
        (429, {"Retry-After": "7"}, TryLater, [8]),
        (503, {"Retry-After": "100"}, TryLater, [101]),
        (503, {}, TryLater, [1]),
        (500, {}, None, [1]),
        (404, {}, None, [1]),
        (302, {"Location": "/elsewhere"}, None, [1]),
        (200, {}, None, [1]),
    ],
)
async def test_the_token_routes_answers_are_understood(serve, client, status, headers, kind, pauses):
    class Route(Answering):
        pass

    Route.answers = [(status, headers, {"error": "x"})]
    server = serve(Chat, routes=[(r"/token", Route)])
    one = client(server, token_url=f"{server.url}/token", retries=1)
    with pytest.raises(Stopped, match=f"the token route answered {status}"):
        await one.connection
    assert one.closes[0].reason == "token_unavailable"
    assert kind is None or type(one.closes[0].error) is kind
    assert one.seams.pauses == pauses


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("status", "headers", "reaction", "pauses"),
    [
        (401, {}, "retry", [1, 2]),
        (429, {"Retry-After": "30"}, "retry", [31, 32]),
        (503, {"Retry-After": "5"}, "retry", [6, 7]),
        (500, {}, "retry", [1, 2]),
        (200, {}, "retry", [1, 2]),
        (403, {}, "stop", []),
        (404, {}, "stop", []),
        (405, {}, "stop", []),
        (426, {}, "stop", []),
        (400, {}, "stop", []),
    ],
)
async def test_an_upgrade_that_is_refused_is_understood(serve, client, status, headers, reaction, pauses):
    class Route(Answering):
        pass

    Route.answers = [(status, headers, {"error": "because"})]
    one = client(serve(Chat, routes=[(r"/refuse", Route)]), "/refuse", retries=2)
    with pytest.raises(Stopped):
        await one.connection
    assert one.closes[0].reaction == reaction
    assert one.seams.pauses == pauses
    assert len(set(one.tokens)) == len(Route.asked) == len(pauses) + 1
    if status == 200:
        assert (one.closes[0].code, one.closes[0].reason) == (1006, "upgrade_refused")
    else:
        assert (one.closes[0].code, one.closes[0].reason) == (1006, "because")
        assert isinstance(one.closes[0].error, Refused)
        assert one.closes[0].words.startswith(f"The upgrade was refused with HTTP status {status}")
    if status in (404, 405, 426, 400):
        assert "URL" in one.closes[0].words


@pytest.mark.gen_test
async def test_the_servers_own_refusals_are_understood(serve, client):
    server = serve(Chat, make_auth(max_pending=1))
    await server.auth.close()
    one = client(server, retries=0)
    with pytest.raises(Stopped):
        await one.connection
    assert one.closes[0].reason == "closing"
    assert one.seams.limits == [1]


def test_retry_after_is_seconds_or_a_date_and_never_more_than_that():
    def parsed(value: str) -> float:
        return retry_after_of(HTTPHeaders({"Retry-After": value}))

    now = datetime.datetime.now(datetime.UTC)
    later, earlier = (now + datetime.timedelta(seconds=sign * 100) for sign in (1, -1))
    assert parsed(" 12 ") == 12
    assert 90 < parsed(email.utils.format_datetime(later, usegmt=True)) <= 100
    assert parsed(email.utils.format_datetime(earlier, usegmt=True)) == 0
    assert [parsed(value) for value in ("", "soon", "-5", "inf", "nan", "1e9", "9" * 30)] == [0] * 7
    assert retry_after_of(HTTPHeaders()) == 0


# --- a server that is gone -------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_server_that_restarts_is_found_again(serve, client):
    server = serve(Chat)
    one = client(server)
    one.seams.holds_pauses = True
    await one.connection
    await server.auth.close()
    await server.close()
    await until(lambda: one.connection.state == "waiting")
    assert (one.closes[0].code, one.closes[0].reaction) == (1012, "retry")
    one.connection.retry_now()  # nobody is there yet
    await until(lambda: len(one.closes) == 2)
    bound, _ = tornado.testing.bind_unused_port()
    bound.close()
    server.auth = server.app.settings["wsauth"] = make_auth()
    again = tornado.httpserver.HTTPServer(server.app)
    again.listen(server.port, "127.0.0.1")
    await until(lambda: one.connection.state == "waiting")
    one.connection.retry_now()
    await one.connection.send("back?")
    assert await one.connection.recv() == "back?"
    again.stop()
    await one.connection.close()
    await again.close_all_connections()


@pytest.mark.gen_test
async def test_nobody_at_the_url_is_unreachable_and_tried_again(client, serve):
    bound, port = tornado.testing.bind_unused_port()
    bound.close()
    closes: list[Any] = []
    connection = connect(
        f"ws://127.0.0.1:{port}/ws", jwt="a.b.c", get_token=lambda jwt: "t", retries=0, on_close=closes.append
    )
    with pytest.raises(Stopped, match="Nobody could be reached at this URL: ConnectionRefusedError"):
        await connection
    assert (closes[0].code, closes[0].reason) == (1006, "unreachable")
    other = connect(f"ws://127.0.0.1:{port}/ws", jwt="a.b.c", token_url=f"http://127.0.0.1:{port}/token", retries=0)
    with pytest.raises(Stopped, match="the token route could not be reached"):
        await other
