"""What is no handshake is refused, and burns no token."""

from __future__ import annotations

import asyncio
import base64

import pytest

from tests.handshakes import SpyStore, ask
from tests.support import (
    PING,
    PONG,
    Echo,
    RawClient,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    until,
    upgrade_request,
)


def key_of(length: int) -> str:
    return base64.b64encode(b"k" * length).decode()


NO_WEBSOCKET: dict[str, tuple[dict[str, str | None], int, dict[str, str]]] = {
    "POST": ({"method": "POST", "Content_Length": "0"}, 405, {"allow": "GET"}),
    "HEAD": ({"method": "HEAD"}, 405, {}),
    "PUT": ({"method": "PUT", "Content_Length": "0"}, 405, {"allow": "GET"}),
    "DELETE": ({"method": "DELETE"}, 405, {"allow": "GET"}),
    "OPTIONS": ({"method": "OPTIONS"}, 405, {"allow": "GET"}),
    "no Upgrade": ({"Upgrade": None}, 426, {"upgrade": "websocket"}),
    "Upgrade to something else": ({"Upgrade": "h2c"}, 426, {"upgrade": "websocket"}),
    "no Connection": ({"Connection": None}, 400, {}),
    "Connection: keep-alive": ({"Connection": "keep-alive"}, 400, {}),
    "version 12": ({"Sec_WebSocket_Version": "12"}, 426, {"sec-websocket-version": "13"}),
    "version 8": ({"Sec_WebSocket_Version": "8"}, 426, {"sec-websocket-version": "13"}),
    "two versions": ({"Sec_WebSocket_Version": "13, 8"}, 426, {"sec-websocket-version": "13"}),
    "no key": ({"Sec_WebSocket_Key": None}, 400, {}),
    "an empty key": ({"Sec_WebSocket_Key": ""}, 400, {}),
    "a key that is no base64": ({"Sec_WebSocket_Key": "!" * 24}, 400, {}),
    "a key of 15 bytes": ({"Sec_WebSocket_Key": key_of(15)}, 400, {}),
    "a key of 17 bytes": ({"Sec_WebSocket_Key": key_of(17)}, 400, {}),
    "foreign Origin": ({"Origin": "https://evil.example"}, 403, {}),
    "Origin null": ({"Origin": "null"}, 403, {}),
}


@pytest.mark.gen_test
@pytest.mark.parametrize(("request_", "status", "headers"), NO_WEBSOCKET.values(), ids=NO_WEBSOCKET.keys())
async def test_a_request_that_cannot_become_a_websocket_leaves_the_token_as_it_was(serve, request_, status, headers):
    # A9
    class Chat(Echo):
        pass

    store = SpyStore()
    server = serve(Chat, auth=make_auth(tokens=store))
    token = await server.auth.issue_token("alice")
    answer = await ask(server, f"/ws?token={token}", **request_)
    assert answer.status == status
    assert {name: answer.headers.get(name) for name in headers} == headers
    if request_.get("method") != "HEAD":
        assert answer.headers["content-type"].startswith("application/json")
        body = answer.json()
        assert set(body) == {"error"}
        assert isinstance(body["error"], str)
    assert store.redeemed == []
    assert len(server.auth.pending) == 0
    assert (await ask(server, f"/ws?token={token}")).status == 101
    assert Chat.events == []


@pytest.mark.gen_test
@pytest.mark.parametrize("version", [None, "", "13.0", "+13", "013"])
async def test_a_version_other_than_13_leaves_the_token_as_it_was(serve, version):
    # A9
    server = serve()
    token = await server.auth.issue_token("alice")
    assert (await ask(server, f"/ws?token={token}", Sec_WebSocket_Version=version)).status in (400, 426)
    assert (await ask(server, f"/ws?token={token}")).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize("host", [None, ""])
async def test_a_request_without_a_host_leaves_the_token_as_it_was(serve, host):
    # A9: Tornado looks at Host as late as the upgrade itself
    server = serve()
    token = await server.auth.issue_token("alice")
    answer = await ask(server, f"/ws?token={token}", Host=host)
    assert answer.status == 400
    assert (await ask(server, f"/ws?token={token}")).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "extensions",
    [
        "permessage-deflate; nonsense=1",
        "permessage-deflate; server_max_window_bits=99",
        "permessage-deflate; server_max_window_bits=x",
        "permessage-deflate; client_max_window_bits=7",
    ],
)
async def test_an_extension_offer_tornado_chokes_on_leaves_the_token_as_it_was(serve, extensions):
    # A9: Tornado parses the offer after everything else and aborts without an answer
    class Chat(Echo):
        def get_compression_options(self):
            return {}

    server = serve(Chat)
    token = await server.auth.issue_token("alice")
    try:
        status = (await ask(server, f"/ws?token={token}", Sec_WebSocket_Extensions=extensions)).status
    except asyncio.IncompleteReadError:
        status = None
    if status != 101:
        assert (await ask(server, f"/ws?token={token}")).status == 101
    await until(lambda: len(server.auth.pending) == 0)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "fields",
    [
        {"Upgrade": "WebSocket"},
        {"Upgrade": "WEBSOCKET", "Connection": "UPGRADE"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "keep-alive,upgrade"},
        {"Origin": None},
    ],
)
async def test_an_unusual_but_correct_handshake_is_accepted(serve, fields):
    # A9: RFC 6455 §4.2.1 compares the tokens of Upgrade and Connection without regard to case
    server = serve()
    token = await server.auth.issue_token("alice")
    assert (await ask(server, f"/ws?token={token}", **fields)).status == 101


@pytest.mark.gen_test
async def test_over_max_pending_the_answer_is_503_and_the_token_waits(serve, connect, login):
    # A9
    server = serve(auth=make_auth(max_pending=2))
    waiting = [(await connect(server))[0] for _ in range(2)]
    token = await server.auth.issue_token("bob")
    answer = await ask(server, f"/ws?token={token}")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert set(answer.json()) == {"error"}
    await waiting[0].close()
    await until(lambda: len(server.auth.pending) == 1)
    client, response = await connect(server, path=f"/ws?token={token}")
    assert response.status == 101
    client.send_text(jwt_message(make_jwt("bob")))
    assert (await client.read_json())["type"] == "auth_ok"
    await login(server)  # bob is no longer pending


@pytest.mark.gen_test
async def test_clients_inside_the_store_count_against_max_pending(serve, connect):
    # A9: a slow store is exactly when the limit is needed
    store = SpyStore()
    store.block()
    server = serve(auth=make_auth(max_pending=1, tokens=store))
    token = await server.auth.issue_token("bob")
    first = asyncio.ensure_future(connect(server))
    await store.entered.wait()
    assert (await ask(server, f"/ws?token={token}")).status == 503
    store.release.set()
    assert (await first)[1].status == 101


@pytest.mark.gen_test
async def test_a_refused_client_may_try_again_on_the_same_tcp_connection(serve):
    # A9
    server = serve()
    token = await server.auth.issue_token("alice")
    client = await RawClient.connect(server.port)
    for request, status in (
        ({"Upgrade": None}, 426),
        ({"Origin": "https://evil.example"}, 403),
        ({"method": "PUT"}, 405),
    ):
        assert (await client.upgrade(f"/ws?token={token}", **request)).status == status
    assert (await client.upgrade("/ws?token=x")).status == 401
    assert (await client.upgrade(f"/ws?token={token}")).status == 101
    await client.close()


@pytest.mark.gen_test
async def test_on_finish_is_called_once_for_each_answer(serve):
    class Chat(Echo):
        def on_finish(self):
            self.events.append(self.get_status())

    server = serve(Chat)
    token = await server.auth.issue_token("alice")
    for path, request in ((f"/ws?token={token}", {}), ("/ws", {}), ("/ws", {"Upgrade": None})):
        await ask(server, path, **request)
    assert Chat.events == [101, 401, 426]


@pytest.mark.gen_test
async def test_an_upgrade_by_http_1_0_is_refused(serve):
    # A9: RFC 6455 §4.2.1
    server = serve()
    token = await server.auth.issue_token("alice")
    client = await RawClient.connect(server.port)
    client.send(upgrade_request(f"/ws?token={token}").replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (await client.read_response()).status == 400
    await client.close()
    assert (await ask(server, f"/ws?token={token}")).status == 101


@pytest.mark.gen_test
async def test_callbacks_for_control_frames_may_be_async(serve, login):
    class Chat(Echo):
        async def on_ping(self, data):
            self.events.append("ping")

        async def on_pong(self, data):
            self.events.append("pong")

    client = await login(serve(Chat))
    client.send(frame(b"", PING) + frame(b"", PONG))
    await until(lambda: Chat.events == ["open", "ping", "pong"])
