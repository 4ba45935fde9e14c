"""A stranger gets nothing: not one frame of Bokeh's, and no session is made for it."""

from __future__ import annotations

import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id
from tornado.httpclient import AsyncHTTPClient

from tests.integrations.bokeh.client import Peer, cookie_of, session_token
from tests.support import CLOSE, RawClient, jwt_message, make_jwt, settle
from tornado_wsauth.testing import assert_gate_holds


@pytest.fixture
def knock(bokeh, io_loop):
    """Ask for an upgrade and go no further: ``client, response = await knock(token=None, **headers)``."""
    clients: list[RawClient] = []

    async def ask(token: str | None = None, **headers: str):
        client = await RawClient.connect(bokeh.port)
        clients.append(client)
        query = "" if token is None else f"?token={token}"
        headers = {
            "Host": f"localhost:{bokeh.port}",
            "Sec_WebSocket_Protocol": f"bokeh, {session_token(bokeh, 'alice')}",
            **headers,
        }
        return client, await client.upgrade(f"/dashboard/ws{query}", **headers)

    yield ask

    async def close() -> None:
        for client in clients:
            await client.close()

    io_loop.run_sync(close)


async def nothing_but_close(client: RawClient) -> tuple[int, str]:
    """Return code and reason of the close frame, which must be the very next frame."""
    opcode, payload = await client.read_frame()
    assert opcode == CLOSE, payload
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


async def nothing_happened(bokeh) -> None:
    await settle()
    assert bokeh.get_sessions() == []
    assert bokeh._tornado._clients == set()


@pytest.mark.gen_test
@pytest.mark.parametrize("token", [None, "", "A" * 43])
async def test_bokehs_own_token_alone_opens_nothing(bokeh, knock, token):
    _, response = await knock(token)
    assert (response.status, response.json()) == (401, {"error": "token_invalid"})
    await nothing_happened(bokeh)


@pytest.mark.gen_test
async def test_the_cookie_of_a_user_alone_opens_nothing(bokeh, knock):
    _, response = await knock(Cookie=f"member={cookie_of(bokeh, 'alice')}")
    assert response.status == 401
    await nothing_happened(bokeh)


@pytest.mark.gen_test
async def test_a_token_without_a_jwt_gets_nothing_until_its_time_is_up(bokeh, auth, knock, clock):
    client, response = await knock(await auth.issue_token("alice"))
    assert response.status == 101
    assert response.headers["sec-websocket-protocol"] == "bokeh"
    await nothing_happened(bokeh)
    clock.advance(auth.auth_timeout)
    assert await nothing_but_close(client) == (4408, "auth_timeout")
    await nothing_happened(bokeh)


@pytest.mark.gen_test
async def test_a_message_of_bokehs_instead_of_the_jwt_is_refused(bokeh, auth, knock):
    client, _ = await knock(await auth.issue_token("alice"))
    client.send_text('{"msgid": "1000", "msgtype": "PULL-DOC-REQ"}')
    assert await nothing_but_close(client) == (4400, "bad_message")
    await nothing_happened(bokeh)


@pytest.mark.gen_test
async def test_a_token_with_the_jwt_of_somebody_else_is_refused(bokeh, auth, knock, credentials):
    client, _ = await knock(await auth.issue_token("alice"))
    client.send_text(jwt_message(credentials.jwt("bob")))
    assert await nothing_but_close(client) == (4403, "user_mismatch")
    await nothing_happened(bokeh)


@pytest.mark.gen_test
async def test_a_jwt_signed_with_another_key_is_refused(bokeh, auth, knock):
    client, _ = await knock(await auth.issue_token("alice"))
    client.send_text(jwt_message(make_jwt("alice")))
    assert await nothing_but_close(client) == (4401, "jwt_invalid")
    await nothing_happened(bokeh)


@pytest.mark.gen_test
async def test_a_user_with_the_session_token_of_somebody_elses_page_is_refused(bokeh, auth, enter, knock, credentials):
    hers = session_token(bokeh, "alice")
    await enter("alice", session=hers)
    client, _ = await knock(await auth.issue_token("bob"), Sec_WebSocket_Protocol=f"bokeh, {hers}")
    client.send_text(jwt_message(credentials.jwt("bob")))
    assert await nothing_but_close(client) == (4403, "forbidden")
    (session,) = bokeh.get_sessions()
    assert session.connection_count == 1


@pytest.mark.gen_test
async def test_a_session_token_that_nobody_signed_makes_no_session(bokeh, auth, credentials):
    page = {"cookies": {"member": cookie_of(bokeh, "bob")}, "headers": {}, "arguments": {}}
    forged = generate_jwt_token(generate_session_id(), extra_payload=page)
    peer = await Peer.open(bokeh, token=await auth.issue_token("bob"), jwt=credentials.jwt("bob"), session=forged)
    await peer.connection.wait_closed()
    await nothing_happened(bokeh)


@pytest.mark.gen_test
@pytest.mark.parametrize("offer", [None, "bokeh", "bokeh, nonsense"])
async def test_a_user_without_a_session_token_gets_no_session(bokeh, auth, knock, credentials, offer):
    client, _ = await knock(await auth.issue_token("alice"), Sec_WebSocket_Protocol=offer)
    client.send_text(jwt_message(credentials.jwt("alice")))
    assert await nothing_but_close(client) == (1011, "internal")
    await nothing_happened(bokeh)


@pytest.mark.gen_test
async def test_bokehs_list_of_origins_decides_as_before(bokeh, auth, knock):
    token = await auth.issue_token("alice")
    _, response = await knock(token, Origin="https://evil.example")
    assert response.status == 403
    _, response = await knock(token, Origin=f"http://localhost:{bokeh.port}")
    assert response.status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "path", ["/dashboard", "/dashboard/metadata", "/dashboard/autoload.js?bokeh-autoload-element=1"]
)
async def test_a_page_that_nobody_logged_in_for_makes_no_session(bokeh, path):
    url = f"http://localhost:{bokeh.port}{path}"
    answer = await AsyncHTTPClient().fetch(url, follow_redirects=False, raise_error=False)
    assert answer.code == 302
    assert answer.headers["Location"].startswith("/login")
    await nothing_happened(bokeh)


@pytest.mark.gen_test
async def test_nobody_gets_neither_a_jwt_nor_a_token(bokeh):
    base = f"http://localhost:{bokeh.port}"
    xsrf = {"Cookie": "_xsrf=1", "X-XSRFToken": "1"}
    for path, status in (("/ws/jwt", 403), ("/ws/token", 401)):
        answer = await AsyncHTTPClient().fetch(base + path, method="POST", body="", headers=xsrf, raise_error=False)
        assert answer.code == status


@pytest.mark.gen_test
async def test_a_jwt_that_outlived_its_login_gets_no_token(bokeh, credentials):
    url, bearer = f"http://localhost:{bokeh.port}/ws/token", f"Bearer {credentials.jwt('alice')}"
    headers = {"Authorization": bearer}
    ask = AsyncHTTPClient().fetch
    assert (await ask(url, method="POST", body="", headers=headers, raise_error=False)).code == 401
    headers["Cookie"] = f"member={cookie_of(bokeh, 'alice')}"
    assert (await ask(url, method="POST", body="", headers=headers)).code == 200


@pytest.mark.gen_test
async def test_a_login_without_the_xsrf_token_gets_no_jwt(bokeh):
    url, cookie = f"http://localhost:{bokeh.port}/ws/jwt", f"member={cookie_of(bokeh, 'alice')}"
    ask = AsyncHTTPClient().fetch
    answer = await ask(url, method="POST", body="", headers={"Cookie": cookie}, raise_error=False)
    assert answer.code == 403
    xsrf = {"Cookie": f"{cookie}; _xsrf=1", "X-XSRFToken": "1"}
    assert (await ask(url, method="POST", body="", headers=xsrf)).code == 200


@pytest.mark.gen_test(timeout=60)
async def test_every_attack_of_the_conformance_kit_fails(bokeh, credentials):
    attacks = await assert_gate_holds(
        f"ws://localhost:{bokeh.port}/dashboard/ws",
        new_token=lambda: credentials.token("alice"),
        make_jwt=lambda: credentials.jwt("alice"),
        other_jwt=lambda: credentials.jwt("bob"),
        expired_jwt=lambda: credentials.jwt("alice", expires_in=-60),
        headers={"Sec-WebSocket-Protocol": f"bokeh, {session_token(bokeh, 'alice')}"},
    )
    assert len(attacks) > 30
