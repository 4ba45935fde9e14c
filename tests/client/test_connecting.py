"""Both steps, in their order, with fresh credentials for each attempt."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from tests.client.kit import Answering, Obedient, QuickPauses, Scripted, hanging_steps
from tests.support import Echo, make_auth, make_jwt, settle, until
from tornado_wsauth import TokenHandler
from tornado_wsauth.client import Connection, Stopped, connect
from tornado_wsauth.errors import WSAuthError


class Chat(Obedient):
    pass


@pytest.mark.gen_test
async def test_the_token_goes_into_the_url_and_the_jwt_into_the_first_message(serve, client):
    class Other(Scripted):
        pass

    one = client(serve(Echo, routes=[(r"/other", Other)]), "/other")
    await one.connection
    assert Other.arguments == [{"token": [one.tokens[0].encode()]}]
    assert [json.loads(text) for text in Other.heard] == [{"type": "jwt", "token": one.jwts[0]}]


@pytest.mark.gen_test
async def test_awaiting_and_entering_are_done_at_auth_ok(serve, client):
    server = serve(Chat)
    awaited = client(server).connection
    assert await awaited is awaited
    async with client(server).connection as entered:
        assert (awaited.state, entered.state) == ("ready", "ready")
        assert isinstance(entered, Connection)
        assert len(server.auth.connections) == 2
    assert entered.state == "stopped"
    await until(lambda: len(server.auth.connections) == 1)


@pytest.mark.gen_test
async def test_nothing_happens_before_it_is_awaited(serve, client):
    one = client(serve(Chat))
    await settle()
    assert (one.jwts, one.states, one.connection.state) == ([], [], "connecting")
    for forgotten in (one.connection.send("hello"), one.connection.recv(), one.connection.renew()):
        with pytest.raises(WSAuthError, match="await what connect"):
            await forgotten


@pytest.mark.gen_test
async def test_it_knows_who_it_is_and_until_when(serve, client):
    exp = 2_000_000_000
    one = client(serve(Chat), jwt=make_jwt("alice", exp=exp))
    assert (one.connection.user_id, one.connection.expires_at) == (None, None)
    await one.connection
    assert (one.connection.user_id, one.connection.expires_at) == ("alice", exp)
    await one.connection.close()
    assert (one.connection.user_id, one.connection.expires_at) == ("alice", exp)


@pytest.mark.gen_test
async def test_the_steps_and_states_are_told_in_their_order(serve, client):
    one = client(serve(Chat))
    await one.connection
    await one.connection.renew()
    await one.connection.close()
    assert one.steps == ["jwt", "token", "upgrade", "authenticate", "ready", "renew", "renewed"]
    assert one.states == ["authenticating", "ready", "stopped"]


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_jwt_and_get_token_may_be_sync_or_async(serve, client, asynchronous):
    server = serve(Chat)
    tokens = [await server.auth.issue_token("alice")]

    async def later(value: str) -> str:
        await asyncio.sleep(0)
        return value

    one = client(
        server,
        jwt=lambda: later(make_jwt()) if asynchronous else make_jwt(),
        get_token=lambda jwt: later(tokens.pop()) if asynchronous else tokens.pop(),
    )
    await one.connection
    assert one.connection.user_id == "alice"


@pytest.mark.gen_test
async def test_the_token_is_posted_for_with_the_jwt_as_bearer(serve, client):
    class Route(Answering):
        pass

    server = serve(Chat, routes=[(r"/token", Route)])
    Route.answers = [(200, {}, {"token": await server.auth.issue_token("alice"), "expires_in": 30})]
    one = client(server, token_url=f"{server.url}/token")
    await one.connection
    assert [headers["Authorization"] for headers in Route.asked] == [f"Bearer {one.jwts[0]}"]


@pytest.mark.gen_test
async def test_the_real_token_route_serves_it(serve, client):
    server = serve(Chat)
    one = client(server, token_url=f"{server.url}/ws/token")
    await one.connection
    await one.connection.send("hello")
    assert await one.connection.recv() == "hello"


@pytest.mark.gen_test
async def test_each_attempt_has_a_fresh_jwt_and_then_a_fresh_token(serve, client):
    one = client(serve(Chat))
    await one.connection
    for number in range(2, 5):
        await one.connection.send("close 1012 restart")
        await until(lambda number=number: one.steps.count("ready") == number)
    assert len(set(one.jwts)) == len(set(one.tokens)) == 4
    assert one.steps == ["jwt", "token", "upgrade", "authenticate", "ready"] * 4


@pytest.mark.gen_test
async def test_the_name_of_the_tokens_argument_and_http_urls_are_understood(serve, client):
    server = serve(Chat, make_auth(token_param="ticket"))
    token = await server.auth.issue_token("alice")
    one = connect(
        f"{server.url}/ws?room=7", jwt=make_jwt(), get_token=lambda jwt: token, token_param="ticket", retries=0
    )
    async with one:
        assert one.state == "ready"


@pytest.mark.gen_test
async def test_a_subprotocol_is_offered_and_the_chosen_one_is_told(serve, client):
    class Choosing(Chat):
        def select_subprotocol(self, subprotocols: list[str]) -> str | None:
            return subprotocols[-1]

    one = client(serve(Choosing), subprotocols=["chat.v1", "chat.v2"])
    assert one.connection.subprotocol is None
    await one.connection
    assert one.connection.subprotocol == "chat.v2"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "first",
    [
        "hello",
        "{}",
        '{"type": "auth_expiring", "expires_in": 3}',
        '{"type": "auth_ok"}',
        '{"type": "auth_ok", "user_id": 7}',
        '["auth_ok"]',
        '{"type": "auth_ok", "user_id": "alice"',
    ],
)
@pytest.mark.parametrize("when", ["greet", "say"])
async def test_a_server_whose_first_message_is_another_one_is_left_for_good(serve, client, first, when):
    class Other(Scripted):
        pass

    Other.script = [f"{when} {first}"]
    one = client(serve(Echo, routes=[(r"/other", Other)]), "/other")
    with pytest.raises(Stopped) as stopped:
        await one.connection
    assert stopped.value.close is one.connection.last_close
    assert one.ends == [(None, "bad_server", "stop")]
    assert one.closes[0].during == "authenticating"
    await until(lambda: Other.live[0].ws_connection is None)


@pytest.mark.gen_test
async def test_stopping_before_auth_ok_is_raised_by_every_way_in(serve, client):
    server = serve(Chat)
    one = client(server, jwt=make_jwt("bob"), get_token=lambda jwt: server.auth.issue_token("alice"))
    with pytest.raises(Stopped, match=r"^The JWT is another user's than the token, or the connection\.$"):
        await one.connection
    with pytest.raises(Stopped):
        await one.connection
    with pytest.raises(Stopped):
        async with one.connection:
            pass
    with pytest.raises(Stopped):
        await one.connection.send("hello")
    with pytest.raises(Stopped):
        await one.connection.recv()
    assert one.ends == [(4403, "user_mismatch", "stop")]


# --- given up --------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("where", ["jwt", "token", "token_url", "upgrade", "authenticate", "waiting"])
async def test_a_cancelled_connect_leaves_nothing_behind(serve, client, where):
    class Hanging(Answering):
        pass

    class Other(Scripted):
        pass

    Hanging.answers, Other.script = [None], ["hang"]
    server = serve(Chat, routes=[(r"/hang", Hanging), (r"/other", Other)])

    options: dict[str, Any] = {
        **hanging_steps(server),
        "upgrade": {"path": "/hang", "timeout": 0.2},  # until then Tornado keeps the TCP connection
        "waiting": {"get_token": lambda jwt: 1 / 0},
    }[where]
    one = client(server, **options)
    one.seams.holds_pauses = True
    connecting = asyncio.ensure_future(one.connection._begin())
    step = "token" if where == "token_url" else where
    await until(lambda: step in one.steps or step in one.states)
    await until(lambda: not options.get("path", options.get("token_url", "")).endswith("/hang") or Hanging.asked != [])
    await settle()
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await settle()
    mine = [task for task in asyncio.all_tasks() if "client" in str(task.get_coro()) or "_HTTPConnection" in repr(task)]
    assert mine == []
    assert one.connection.state == "stopped"
    Hanging.release.set()


@pytest.mark.gen_test
async def test_a_connect_that_is_given_up_at_any_moment_leaves_no_connection_open(serve, client):
    """Tornado forgets a TCP connection that was made in the very moment of the cancellation."""
    server = serve(Chat)
    for moment in range(400):
        one = client(server, timeout=0.0003 + moment % 50 * 0.00004, retries=0, _seams=QuickPauses())
        with contextlib.suppress(Stopped):
            await one.connection
        await one.connection.close()
    async with asyncio.timeout(5):
        await until(lambda: not [task for task in asyncio.all_tasks() if "_server_request_loop" in repr(task)])


@pytest.mark.gen_test
async def test_the_application_may_try_to_connect_for_a_limited_time(serve, client):
    one = client(serve(Chat), get_token=lambda jwt: asyncio.Event().wait())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await one.connection
    assert one.connection.state == "stopped"


@pytest.mark.gen_test
async def test_a_handler_of_two_routes_is_told_apart_by_its_path(serve, client):
    server = serve(Chat, routes=[(r"/a%20b", Chat), (r"/other/token", TokenHandler)])
    one = client(server, "/a%20b", token_url=f"{server.url}/other/token")
    await one.connection
    assert repr(one.connection) == f"<Connection to ws://127.0.0.1:{server.port}/a%20b, ready, user_id='alice'>"


@pytest.mark.gen_test
async def test_the_origin_that_is_given_is_sent_with_both_requests(serve, client):
    server = serve(Chat, auth=make_auth(allowed_origins=["https://app.example"]))
    token_url = f"http://127.0.0.1:{server.port}/ws/token"
    one = client(server, token_url=token_url, origin="https://app.example")
    await one.connection
    assert one.connection.state == "ready"
    for origin in (None, "https://other.example"):
        with pytest.raises(Stopped, match="403"):
            await client(server, token_url=token_url, origin=origin, retries=0).connection
