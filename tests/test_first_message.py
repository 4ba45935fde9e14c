"""From the 101 to ``auth_ok``: nothing goes out, and frames that come together are taken one by one."""

from __future__ import annotations

import asyncio

import jwt
import pytest

from tests.first_messages import CONTINUATION, HangingVerifier, held_jwt
from tests.support import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Echo,
    RawClient,
    frame,
    jwt_message,
    make_jwt,
    nothing_is_left,
    settle,
    until,
    upgrade_request,
)
from tornado_wsauth import WSAuth


@pytest.mark.gen_test
async def test_no_data_frame_comes_before_auth_ok_while_1000_broadcasts_run(serve, connect):
    # A12
    verifier = HangingVerifier()
    server = serve(auth=WSAuth(verifier))
    connections = server.auth.connections
    client, _ = await connect(server)
    for number in range(500):
        connections.broadcast(f"early {number}")
        connections.send_to_user("alice", "early")
        await asyncio.sleep(0)
    client.send_text(jwt_message(held_jwt(verifier)))
    await verifier.entered.wait()
    for number in range(500):
        connections.broadcast(f"late {number}")
        connections.send_to_user("alice", "late")
        await asyncio.sleep(0)
    verifier.release.set()
    assert (await client.read_json())["type"] == "auth_ok"
    assert connections.broadcast("to all").sent == 1
    assert connections.send_to_user("alice", "to alice").sent == 1
    assert await client.read_frame() == (TEXT, b"to all")
    assert await client.read_frame() == (TEXT, b"to alice")


@pytest.mark.gen_test
async def test_from_auth_ok_on_no_broadcast_is_missed_and_none_comes_before(serve, connect):
    # A12
    server = serve()
    stop = asyncio.Event()
    sent = 0

    async def broadcast_all_the_time() -> None:
        nonlocal sent
        while not stop.is_set():
            server.auth.connections.broadcast(str(sent))
            sent += 1
            await asyncio.sleep(0)

    broadcasting = asyncio.ensure_future(broadcast_all_the_time())
    client, _ = await connect(server)
    client.send_text(jwt_message(make_jwt()))
    assert (await client.read_json())["type"] == "auth_ok"
    first = int((await client.read_frame())[1])
    stop.set()
    await broadcasting
    received = [int((await client.read_frame())[1]) for _ in range(sent - first - 1)]
    assert received == list(range(first + 1, sent))


@pytest.mark.gen_test
async def test_a_client_is_no_recipient_before_it_is_authenticated(serve, connect):
    # A12
    server = serve()
    await connect(server)
    connections = server.auth.connections
    assert connections.broadcast("x").sent == 0
    assert connections.send_to_user("alice", "x").sent == 0
    assert (len(connections), list(connections), connections.for_user("alice")) == (0, [], [])


@pytest.mark.gen_test
async def test_auth_ok_says_who_and_until_when_before_anything_open_writes(serve, connect):
    class Chat(Echo):
        def open(self):
            self.write_message("welcome")
            super().open()

    server = serve(Chat)
    client, _ = await connect(server)
    token = make_jwt("alice")
    client.send_text(jwt_message(token))
    expires_at = jwt.decode(token, options={"verify_signature": False})["exp"]
    assert await client.read_json() == {"type": "auth_ok", "user_id": "alice", "expires_at": expires_at}
    assert await client.read_frame() == (TEXT, b"welcome")


@pytest.mark.gen_test
async def test_a_bad_jwt_is_the_end_even_if_a_good_one_and_a_message_are_right_behind_it(serve, connect):
    # A13
    class Chat(Echo):
        pass

    server = serve(Chat)
    client, _ = await connect(server)
    bad = frame(jwt_message(make_jwt(secret="k" * 40)).encode())
    good = frame(jwt_message(make_jwt()).encode())
    client.send(bad + good + frame(b"hello"))
    assert await client.read_close() == (4401, "jwt_invalid")
    client.send(good + frame(b"hello"))
    await nothing_is_left(server)
    await settle()
    assert Chat.events == []


@pytest.mark.gen_test
async def test_a_bad_message_is_the_end_even_if_the_verifier_would_be_slow_with_the_next(serve, connect):
    # A13
    class Chat(Echo):
        pass

    verifier = HangingVerifier()
    server = serve(Chat, auth=WSAuth(verifier))
    client, _ = await connect(server)
    client.send(frame(b"hello") + frame(jwt_message(held_jwt(verifier)).encode()) + frame(b"hello"))
    assert await client.read_close() == (4400, "bad_message")
    verifier.release.set()
    await nothing_is_left(server)
    assert not verifier.entered.is_set()
    assert Chat.events == []


@pytest.mark.gen_test
async def test_a_message_right_behind_the_jwt_is_handled_once_and_after_open(serve, connect):
    # A14
    class Chat(Echo):
        pass

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"one") + frame(b"two"))
    assert (await client.read_json())["type"] == "auth_ok"
    assert [(await client.read_frame())[1] for _ in range(2)] == [b"one", b"two"]
    assert Chat.events == ["open", "one", "two"]


@pytest.mark.gen_test
@pytest.mark.parametrize("together_with_the_upgrade", [False, True])
async def test_messages_behind_a_jwt_that_is_slow_to_verify_wait_until_open_and_delay_nobody_else(
    serve, connect, login, together_with_the_upgrade
):
    # A14
    class Chat(Echo):
        def open(self):
            self.events.append(("open", self.auth_session.user_id))

    verifier = HangingVerifier()
    server = serve(Chat, auth=WSAuth(verifier))
    frames = frame(jwt_message(held_jwt(verifier)).encode()) + b"".join(frame(b"%d" % n) for n in range(10))
    if together_with_the_upgrade:
        client = await RawClient.connect(server.port)
        client.send(upgrade_request(f"/ws?token={await server.auth.issue_token('alice')}") + frames)
        assert (await client.read_response()).status == 101
    else:
        client, _ = await connect(server)
        client.send(frames)
    await verifier.entered.wait()
    other = await login(server, "bob")
    other.send_text("from bob")
    assert (await other.read_frame())[1] == b"from bob"
    assert Chat.events == [("open", "bob"), "from bob"]
    Chat.events.clear()
    verifier.release.set()
    assert (await client.read_json())["type"] == "auth_ok"
    assert [(await client.read_frame())[1] for _ in range(10)] == [b"%d" % n for n in range(10)]
    assert Chat.events == [("open", "alice"), *(str(n) for n in range(10))]
    await client.close()


@pytest.mark.gen_test
async def test_messages_behind_a_slow_load_auth_user_wait_until_open(serve, connect):
    # A14
    loading, loaded = asyncio.Event(), asyncio.Event()

    class Chat(Echo):
        async def load_auth_user(self, claims):
            loading.set()
            await loaded.wait()
            return claims["sub"]

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"one"))
    await loading.wait()
    await settle()
    assert Chat.events == []
    assert server.auth.connections.broadcast("x").sent == 0
    loaded.set()
    assert (await client.read_json())["type"] == "auth_ok"
    assert (await client.read_frame())[1] == b"one"
    assert Chat.events == ["open", "one"]


@pytest.mark.gen_test
async def test_a_fragmented_jwt_authenticates(serve, connect):
    # A14
    server = serve()
    client, _ = await connect(server)
    first = jwt_message(make_jwt()).encode()
    client.send(frame(first[:50], fin=False) + frame(b"x", PING) + frame(first[50:], CONTINUATION))
    assert await client.read_frame() == (PONG, b"x")
    assert (await client.read_json())["type"] == "auth_ok"


@pytest.mark.gen_test
async def test_a_client_that_leaves_while_its_jwt_is_verified_leaves_nothing_behind(serve, connect):
    # A10
    class Chat(Echo):
        pass

    verifier = HangingVerifier()
    server = serve(Chat, auth=WSAuth(verifier))
    client, _ = await connect(server)
    client.send_text(jwt_message(held_jwt(verifier)))
    await verifier.entered.wait()
    client.abort()
    verifier.release.set()
    await nothing_is_left(server)
    # While a message is handled Tornado does not look whether its client is still there, so open() may come first.
    await until(lambda: Chat.events in ([], ["open", "close"]))


@pytest.mark.gen_test
async def test_a_goodbye_behind_a_jwt_that_is_slow_to_verify_is_heard_after_open(serve, connect):
    # A14
    class Chat(Echo):
        pass

    verifier = HangingVerifier()
    server = serve(Chat, auth=WSAuth(verifier))
    client, _ = await connect(server)
    client.send(frame(jwt_message(held_jwt(verifier)).encode()) + frame(b"hello") + frame(b"\x03\xe8", CLOSE))
    await verifier.entered.wait()
    verifier.release.set()
    await until(lambda: "close" in Chat.events)
    assert Chat.events == ["open", "hello", "close"]
    await nothing_is_left(server)
