"""From the 101 to ``auth_ok``: what a client that is not authenticated yet can do, which is nothing."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import struct
import tracemalloc
import zlib
from typing import Any

import jwt
import pytest
from tornado.iostream import StreamClosedError
from tornado.web import Finish, HTTPError
from tornado.websocket import WebSocketClosedError

from tests.support import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    SECRET,
    TEXT,
    Echo,
    ManualClock,
    RawClient,
    Server,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    until,
    upgrade_request,
)
from tornado_wsauth import JWTVerifier, KeySourceError, MemoryTokenStore, WSAuth

CONTINUATION = 0x0
DEFLATE = {"Sec_WebSocket_Extensions": "permessage-deflate"}


class HangingVerifier(JWTVerifier):
    """Verifies only what it is told to; ``held`` JWTs wait for ``release``."""

    def __init__(self) -> None:
        super().__init__(SECRET, algorithms=["HS256"])
        self.held: set[str] = set()
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = False

    async def verify(self, token: str) -> dict[str, Any]:
        if token in self.held:
            self.entered.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        return await super().verify(token)


class FailingVerifier(JWTVerifier):
    """Raises ``error`` instead of an answer, until it is None."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__(SECRET, algorithms=["HS256"])
        self.error = error

    async def verify(self, token: str) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        return await super().verify(token)


def held_jwt(verifier: HangingVerifier, user: str = "alice") -> str:
    token = make_jwt(user, jti="held")
    verifier.held.add(token)
    return token


def deflate(payload: bytes) -> bytes:
    """Compress one message as permessage-deflate does (RFC 7692 §7.2.1)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def settle() -> None:
    """Let everything run that waits for nothing but its turn."""
    for _ in range(20):
        await asyncio.sleep(0)


async def ending(client: RawClient) -> int | None:
    """Wait for the end of the connection; return the close code, or None if it ended without. Data is a failure."""
    try:
        code, _ = await client.read_close()
    except (asyncio.IncompleteReadError, ConnectionError, struct.error):
        return None
    return code


async def nothing_is_left(server: Server) -> None:
    """Wait until the server knows of no connection; one that nobody frees is a timeout here."""
    await until(lambda: len(server.auth.pending) == len(server.auth.connections) == 0)


# Nothing goes out


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


# Frames that come together


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


# The deadline


async def be_silent(client: RawClient, second: int) -> None:
    pass


async def send_one_byte(client: RawClient, second: int) -> None:
    client.send(frame(jwt_message(make_jwt()).encode())[second : second + 1])


async def send_an_empty_fragment(client: RawClient, second: int) -> None:
    client.send(frame(b"", CONTINUATION if second else TEXT, fin=False))


async def ping(client: RawClient, second: int) -> None:
    client.send(frame(b"x", PING))
    assert await client.read_frame() == (PONG, b"x")


async def pong(client: RawClient, second: int) -> None:
    client.send(frame(b"x", PONG))


@pytest.mark.gen_test
@pytest.mark.parametrize("behave", [be_silent, send_one_byte, send_an_empty_fragment, ping, pong])
async def test_whatever_it_sends_a_client_without_a_jwt_is_closed_at_the_same_moment(serve, connect, behave):
    # A15
    class Chat(Echo):
        pass

    clock = ManualClock()
    server = serve(Chat, auth=make_auth(clock=clock, auth_timeout=10))
    client, _ = await connect(server)
    for second in range(10):
        await behave(client, second)
        await settle()
        clock.advance(1 if second < 9 else 0.99)
    await settle()
    assert len(server.auth.pending) == 1
    clock.advance(0.01)
    assert await client.read_close() == (4408, "auth_timeout")
    await nothing_is_left(server)
    assert Chat.events == []
    assert clock.timers == []


@pytest.mark.gen_test
async def test_the_deadline_counts_from_the_101_and_not_from_the_request(serve, connect):
    # A15
    asked, answer = asyncio.Event(), asyncio.Event()

    class SlowStore(MemoryTokenStore):
        async def redeem(self, token, *, consume=True):
            asked.set()
            await answer.wait()
            return await super().redeem(token, consume=consume)

    clock = ManualClock()
    server = serve(auth=make_auth(clock=clock, auth_timeout=10, tokens=SlowStore()))
    connecting = asyncio.ensure_future(connect(server))
    await asked.wait()
    clock.advance(8)
    answer.set()
    client, response = await connecting
    assert response.status == 101
    clock.advance(9.99)
    client.send_text(jwt_message(make_jwt()))
    assert (await client.read_json())["type"] == "auth_ok"


@pytest.mark.gen_test
async def test_the_deadline_is_forgotten_once_the_client_is_authenticated(serve, login):
    # A15
    clock = ManualClock()
    server = serve(auth=make_auth(clock=clock, auth_timeout=10))
    client = await login(server)
    clock.advance(11)
    client.send_text("hello")
    assert (await client.read_frame())[1] == b"hello"


@pytest.mark.gen_test
async def test_the_deadline_ends_a_verifier_that_hangs(serve, connect):
    # A15
    class Chat(Echo):
        pass

    clock = ManualClock()
    verifier = HangingVerifier()
    server = serve(Chat, auth=WSAuth(verifier, clock=clock, auth_timeout=10))
    client, _ = await connect(server)
    clock.advance(5)
    client.send(frame(jwt_message(held_jwt(verifier)).encode()) + frame(b"hello"))
    await verifier.entered.wait()
    clock.advance(4.99)
    await settle()
    assert not verifier.cancelled
    clock.advance(0.01)
    assert await client.read_close() == (4408, "auth_timeout")
    await until(lambda: verifier.cancelled)
    await nothing_is_left(server)
    verifier.release.set()
    await settle()
    assert Chat.events == []


@pytest.mark.gen_test
@pytest.mark.parametrize("stubborn", [False, True], ids=["cancelled", "ignores its cancellation"])
@pytest.mark.parametrize("answer", ["alice", None])
async def test_the_deadline_ends_a_load_auth_user_that_hangs(serve, connect, stubborn, answer):
    # A15
    loading, release, cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Chat(Echo):
        async def load_auth_user(self, claims):
            loading.set()
            try:
                await release.wait()
            except asyncio.CancelledError:
                cancelled.set()
                if not stubborn:
                    raise
            return answer

        def on_auth_failed(self, reason):
            self.events.append(reason)

    clock = ManualClock()
    server = serve(Chat, auth=make_auth(clock=clock))
    client, _ = await connect(server)
    client.send_text(jwt_message(make_jwt()))
    await loading.wait()
    clock.advance(10)
    assert await client.read_close() == (4408, "auth_timeout")
    await cancelled.wait()
    await nothing_is_left(server)
    await settle()
    assert Chat.events == ["auth_timeout"]
    assert len(server.auth.connections) == 0


@pytest.mark.gen_test
async def test_closing_wsauth_ends_a_verifier_that_hangs(serve, connect):
    # A27
    class Chat(Echo):
        pass

    verifier = HangingVerifier()
    server = serve(Chat, auth=WSAuth(verifier))
    client, _ = await connect(server)
    client.send(frame(jwt_message(held_jwt(verifier)).encode()) + frame(b"hello"))
    await verifier.entered.wait()
    await server.auth.close()
    assert (await client.read_close())[0] == 1012
    await until(lambda: verifier.cancelled)
    await nothing_is_left(server)
    await settle()
    assert Chat.events == []


# Hostile first messages

GOOD = make_jwt()

BAD_MESSAGES: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"hello",
    "half JSON": b'{"type":"jwt","token":',
    "two JSON texts": jwt_message(GOOD).encode() * 2,
    "a byte order mark": b"\xef\xbb\xbf" + jwt_message(GOOD).encode(),
    "a list": json.dumps(["jwt", GOOD]).encode(),
    "a string": json.dumps(GOOD).encode(),
    "a number": b"1",
    "null": b"null",
    "true": b"true",
    "NaN": b"NaN",
    "an empty object": b"{}",
    "no token": b'{"type":"jwt"}',
    "no type": json.dumps({"token": GOOD}).encode(),
    "another type": json.dumps({"type": "auth", "token": GOOD}).encode(),
    "type in capitals": json.dumps({"type": "JWT", "token": GOOD}).encode(),
    "type a list": json.dumps({"type": ["jwt"], "token": GOOD}).encode(),
    "type an object": json.dumps({"type": {"jwt": 1}, "token": GOOD}).encode(),
    "type null": json.dumps({"type": None, "token": GOOD}).encode(),
    "token an operator": b'{"type":"jwt","token":{"$ne":null}}',
    "token a list": json.dumps({"type": "jwt", "token": [GOOD]}).encode(),
    "token a number": b'{"type":"jwt","token":1}',
    "token null": b'{"type":"jwt","token":null}',
    "token true": b'{"type":"jwt","token":true}',
    "token empty": b'{"type":"jwt","token":""}',
    "token NaN": b'{"type":"jwt","token":NaN}',
    "token a 5000-digit integer": b'{"type":"jwt","token":' + b"9" * 5000 + b"}",
    "a 5000-digit integer beside": json.dumps({"type": "jwt", "token": GOOD})[:-1].encode()
    + b',"n":'
    + b"9" * 5000
    + b"}",
    "token a huge exponent": b'{"type":"jwt","token":1e999999}',
    "token a lone surrogate": b'{"type":"jwt","token":"\\ud800"}',
    "a lone surrogate in the token": jwt_message(GOOD).encode()[:-2] + b'\\udfff"}',
    "type a lone surrogate": json.dumps({"type": "\ud800", "token": GOOD}).encode(),
    "token duplicate": json.dumps({"type": "jwt", "token": "x"})[:-1].encode() + f',"token":"{GOOD}"}}'.encode(),
    "token duplicate, both good": json.dumps({"type": "jwt", "token": GOOD})[:-1].encode()
    + f',"token":"{GOOD}"}}'.encode(),
    "type duplicate": json.dumps({"type": "x", "token": GOOD})[:-1].encode() + b',"type":"jwt"}',
    "duplicate by escape": json.dumps({"type": "jwt", "token": "x"})[:-1].encode()
    + f',"\\u0074oken":"{GOOD}"}}'.encode(),
    "a list 100 000 deep": b"[" * 100_000,
    "closed, 100 000 deep": b"[" * 100_000 + b"]" * 100_000,
    "an object 100 000 deep": b'{"a":' * 100_000,
    "token 100 000 deep": b'{"type":"jwt","token":' + b"[" * 100_000,
    "NUL": b"\0" * 100,
    "a NUL in the token": jwt_message(GOOD).encode()[:-2] + b'\\u0000"}',
    "no dots": jwt_message("x" * 100).encode(),
    "only dots": jwt_message("..").encode(),
    "four parts": jwt_message(GOOD + ".x").encode(),
    "a JWT with spaces around": jwt_message(f" {GOOD} ").encode(),
    "a JWT whose header is 50 000 deep": jwt_message(
        base64.urlsafe_b64encode(b"[" * 50_000).decode() + ".e30.x"
    ).encode(),
    "a JWT whose header is a number": jwt_message("MQ.e30.x").encode(),
    "Bearer": jwt_message(f"Bearer {GOOD}").encode(),
}


async def an_honest_client_is_served(server: Server, login: Any, handler: type[Echo]) -> None:
    handler.events.clear()
    client = await login(server, "bob")
    client.send_text("hello")
    assert (await client.read_frame())[1] == b"hello"
    assert handler.events == ["open", "hello"]


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


@pytest.mark.gen_test
@pytest.mark.parametrize("message", BAD_MESSAGES.values(), ids=BAD_MESSAGES.keys())
async def test_a_hostile_first_message_is_a_clean_refusal(serve, connect, login, caplog, message):
    # A16
    class Chat(Echo):
        pass

    server = serve(Chat, auth=make_auth(max_preauth_bytes=1_000_000))
    client, _ = await connect(server)
    client.send(frame(message) + frame(b"hello"))
    assert await client.read_close() in ((4400, "bad_message"), (4401, "jwt_invalid"))
    await nothing_is_left(server)
    assert Chat.events == []
    assert tracebacks(caplog) == []
    await an_honest_client_is_served(server, login, Chat)


@pytest.mark.gen_test
async def test_a_first_message_in_a_binary_frame_is_refused(serve, connect, login, caplog):
    # A16
    class Chat(Echo):
        pass

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(frame(jwt_message(make_jwt()).encode(), BINARY))
    assert await client.read_close() == (4400, "bad_message")
    await nothing_is_left(server)
    assert tracebacks(caplog) == []
    await an_honest_client_is_served(server, login, Chat)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "sent",
    [
        frame(b"\xff\xfe\xfd"),
        frame(jwt_message(make_jwt()).encode()[:-3] + b"\xed\xa0\x80"),
        b"\xff" * 64,
        frame(b"x", 0x3),
        frame(b"x", CONTINUATION),
        frame(b"x", rsv1=True),
        frame(b"x" * 126, PING),
        frame(b"\x03", CLOSE),
        frame(jwt_message(make_jwt()).encode(), fin=False) + frame(b"hello"),
    ],
    ids=["UTF-8", "surrogate", "garbage", "opcode", "continuation", "rsv", "long ping", "short close", "interleaved"],
)
async def test_a_frame_that_breaks_the_protocol_ends_the_connection_and_nothing_else(
    serve, connect, login, caplog, sent
):
    # A16
    class Chat(Echo):
        pass

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(sent + frame(jwt_message(make_jwt()).encode()) + frame(b"hello"))
    client.writer.write_eof()
    await ending(client)
    await nothing_is_left(server)
    assert Chat.events == []
    assert tracebacks(caplog) == []
    await an_honest_client_is_served(server, login, Chat)


# The size limit


def padded(size: int) -> bytes:
    """A good first message of exactly ``size`` bytes."""
    message = jwt_message(make_jwt())
    return message.encode() + b" " * (size - len(message))


@pytest.mark.gen_test
async def test_a_first_message_of_exactly_max_preauth_bytes_is_accepted_and_one_more_is_not(serve, connect):
    # A17
    class Chat(Echo):
        pass

    server = serve(Chat, auth=make_auth(max_preauth_bytes=2000))
    client, _ = await connect(server)
    client.send(frame(padded(2000)))
    assert (await client.read_json())["type"] == "auth_ok"
    Chat.events.clear()
    for too_much in (
        frame(padded(2001)),
        frame(padded(2001)[:1000], fin=False) + frame(padded(2001)[1000:], CONTINUATION),
        frame(b"", fin=False) + frame(padded(2001), CONTINUATION),
    ):
        client, _ = await connect(server)
        client.send(too_much + frame(b"hello"))
        assert await ending(client) in (1009, 4400, None)
        assert Chat.events == []
        await until(lambda: len(server.auth.pending) == 0)


class Compressing(Echo):
    def get_compression_options(self):
        return {}


def whole() -> list[bytes]:
    return [struct.pack("!BBQL", 0x80 | TEXT, 0x80 | 127, 10_000_000, 0), *[b" " * 10_000] * 1000]


def fragments() -> list[bytes]:
    return [frame(b"", fin=False), *[frame(b" " * 1000, CONTINUATION, fin=False)] * 3000]


def tiny_fragments() -> list[bytes]:
    return [frame(b"", fin=False), *[frame(b" ", CONTINUATION, fin=False) * 1000] * 3]


def bomb() -> list[bytes]:
    return [frame(deflate(b" " * 10_000_000), rsv1=True)]


def fragmented_bomb() -> list[bytes]:
    compressed = deflate(b" " * 10_000_000)
    return [frame(compressed[:5000], rsv1=True, fin=False), frame(compressed[5000:], CONTINUATION)]


def bomb_of_fragments() -> list[bytes]:
    compressed = deflate(b" " * 10_000_000)
    pieces = [compressed[at : at + 100] for at in range(0, len(compressed), 100)]
    return [
        frame(b"", rsv1=True, fin=False),
        *[frame(p, CONTINUATION, fin=False) for p in pieces],
        frame(b"", CONTINUATION),
    ]


@pytest.mark.gen_test
@pytest.mark.parametrize("build", [whole, fragments, tiny_fragments, bomb, fragmented_bomb, bomb_of_fragments])
async def test_a_first_message_over_the_limit_is_refused_and_takes_no_memory(serve, connect, login, build):
    # A17
    class Chat(Compressing):
        pass

    server = serve(Chat, auth=make_auth(max_preauth_bytes=2000 if build is tiny_fragments else 16384))
    client, response = await connect(server, **DEFLATE)
    assert "permessage-deflate" in response.headers["sec-websocket-extensions"]
    pieces = build()

    async def send() -> None:
        for piece in pieces:
            client.send(piece)
            await client.writer.drain()

    tracemalloc.start()
    try:
        sending = asyncio.ensure_future(send())
        assert await ending(client) in (1009, 4400, None)
        await asyncio.wait([sending])
        await until(lambda: len(server.auth.pending) == 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    sending.exception()  # a reset connection, if it could not send all
    assert peak < 1_000_000
    assert Chat.events == []
    await an_honest_client_is_served(server, login, Chat)


@pytest.mark.gen_test
async def test_a_compressed_jwt_authenticates(serve, connect):
    # A17
    server = serve(Compressing)
    client, _ = await connect(server, **DEFLATE)
    client.send(frame(deflate(jwt_message(make_jwt()).encode()), rsv1=True))
    first, second = await client.reader.readexactly(2)
    assert first & 0x0F == TEXT
    payload = await client.reader.readexactly(second & 0x7F)
    if first & 0x40:
        payload = zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload + b"\0\0\xff\xff")
    assert json.loads(payload)["type"] == "auth_ok"


@pytest.mark.gen_test
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("limit", [None, 100_000, 1000])
async def test_the_applications_own_size_limit_is_in_force_again_after_auth_ok(serve, connect, compressed, limit):
    # A17
    class Chat(Compressing):
        def on_message(self, message):
            self.events.append(len(message))

        def on_close(self):
            self.events.append("close")

    settings = {} if limit is None else {"websocket_max_message_size": limit}
    server = serve(Chat, auth=make_auth(max_preauth_bytes=5000), **settings)
    limit = limit or 10 * 1024 * 1024
    client, _ = await connect(server, **(DEFLATE if compressed else {}))

    def message(size: int) -> bytes:
        return frame(deflate(b" " * size), rsv1=True) if compressed else frame(b" " * size)

    client.send(frame(jwt_message(make_jwt()).encode()))
    await client.read_frame()
    small = min(limit, 200_000)
    client.send(message(small))
    await until(lambda: Chat.events == ["open", small])
    if limit > 200_000:
        return
    client.send(message(limit + 1))
    assert await ending(client) in (1009, None)
    await until(lambda: Chat.events == ["open", small, "close"])


@pytest.mark.gen_test
async def test_a_large_message_right_behind_the_jwt_is_measured_by_the_applications_limit(serve, connect):
    # A17
    class Chat(Compressing):
        def on_message(self, message):
            self.events.append(len(message))

    for compressed in (False, True):
        Chat.events.clear()
        server = serve(Chat)
        client, _ = await connect(server, **(DEFLATE if compressed else {}))
        large = frame(deflate(b" " * 50_000), rsv1=True) if compressed else frame(b" " * 50_000)
        client.send(frame(jwt_message(make_jwt()).encode()) + large)
        assert (await client.read_frame())[0] == TEXT
        await until(lambda: Chat.events == ["open", 50_000])


# Exceptions of ours, of the application and of its libraries


class AppError(Exception):
    pass


ERRORS = [
    ValueError("x"),
    KeyError("x"),
    AppError("x"),
    asyncio.CancelledError(),
    TimeoutError("x"),
    RecursionError(),
    HTTPError(404),
    Finish(),
    WebSocketClosedError(),
    StreamClosedError(),
    StopAsyncIteration(),
]


@pytest.mark.gen_test
@pytest.mark.parametrize("error", [*ERRORS, KeySourceError("no keys")], ids=lambda error: type(error).__name__)
async def test_an_exception_in_the_verifier_closes_1011(serve, connect, login, error):
    # A18
    class Chat(Echo):
        pass

    verifier = FailingVerifier(error)
    server = serve(Chat, auth=WSAuth(verifier))
    client, _ = await connect(server)
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"hello"))
    assert (await client.read_close())[0] == 1011
    await nothing_is_left(server)
    assert Chat.events == []
    verifier.error = None
    await an_honest_client_is_served(server, login, Chat)


@pytest.mark.gen_test
@pytest.mark.parametrize("claims", [None, {}, {"sub": None}, [], "alice", {"sub": 7}], ids=repr)
async def test_a_verifier_that_returns_no_claims_of_the_user_opens_nothing(serve, connect, claims):
    # A18
    class Chat(Echo):
        pass

    class Broken(JWTVerifier):
        async def verify(self, token):
            return claims

    server = serve(Chat, auth=WSAuth(Broken(SECRET, algorithms=["HS256"])))
    client, _ = await connect(server)
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"hello"))
    assert (await client.read_close())[0] in (1011, 4401, 4403)
    await nothing_is_left(server)
    assert Chat.events == []


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["sync", "async", "later"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_exception_in_load_auth_user_closes_1011(serve, connect, login, caplog, error, how):
    # A18
    class Chat(Echo):
        failing = True

        def load_auth_user(self, claims):
            if not self.failing:
                return claims["sub"]
            if how == "sync":
                raise error
            return self.fail()

        async def fail(self):
            if how == "later":
                await asyncio.sleep(0)
            raise error

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"hello"))
    assert (await client.read_close())[0] == 1011
    await nothing_is_left(server)
    assert Chat.events == []
    if not isinstance(error, (asyncio.CancelledError, HTTPError)):  # Tornado writes an HTTPError without its traceback
        assert len([record for record in caplog.records if record.exc_info]) == 1
    Chat.failing = False
    await an_honest_client_is_served(server, login, Chat)


# Whose JWT it is


def unsigned() -> str:
    return jwt.encode({"sub": "alice", "exp": 9_999_999_999}, None, algorithm="none")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("token", "ending_"),
    [
        (unsigned(), (4401, "jwt_invalid")),
        (make_jwt(secret="another secret, long enough for HS256"), (4401, "jwt_invalid")),
        (make_jwt(exp=None), (4401, "jwt_invalid")),
        (make_jwt(None), (4401, "jwt_invalid")),
        (make_jwt(aud="somebody else"), (4401, "jwt_invalid")),
        (make_jwt(nbf=9_999_999_999), (4401, "jwt_invalid")),
        (make_jwt(expires_in=-1), (4401, "jwt_expired")),
        (make_jwt("bob"), (4403, "user_mismatch")),
        (make_jwt("Alice"), (4403, "user_mismatch")),
        (make_jwt("alice "), (4403, "user_mismatch")),
        (make_jwt("alic\u0435"), (4403, "user_mismatch")),
        (make_jwt("bob", expires_in=-1), (4401, "jwt_expired")),
    ],
    ids=["none", "key", "exp", "sub", "aud", "nbf", "expired", "bob", "case", "space", "cyrillic", "expired bob"],
)
async def test_a_jwt_that_does_not_prove_the_tokens_user_is_refused(serve, connect, token, ending_):
    # A20, A22
    class Chat(Echo):
        pass

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(frame(jwt_message(token).encode()) + frame(b"hello"))
    assert await client.read_close() == ending_
    await nothing_is_left(server)
    assert Chat.events == []


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_load_auth_user_returns_becomes_current_user(serve, login, asynchronous):
    seen = []

    class Chat(Echo):
        def load_auth_user(self, claims):
            seen.append(claims["sub"])
            user = {"name": claims["sub"].title(), "role": claims["role"]}
            if not asynchronous:
                return user

            async def load():
                await asyncio.sleep(0)
                return user

            return load()

        def open(self):
            seen.append(self.current_user)

        def on_message(self, message):
            seen.append(self.current_user)
            self.write_message("done")

    server = serve(Chat)
    token = await server.auth.issue_token("alice")
    client = await RawClient.connect(server.port)
    await client.upgrade(f"/ws?token={token}")
    client.send_text(jwt_message(make_jwt("alice", role="admin")))
    await client.read_json()
    client.send_text("who am I?")
    await client.read_frame()
    assert seen == ["alice", {"name": "Alice", "role": "admin"}, {"name": "Alice", "role": "admin"}]
    await client.close()


@pytest.mark.gen_test
async def test_current_user_is_the_user_id_unless_load_auth_user_says_otherwise(serve, login):
    class Chat(Echo):
        def get_current_user(self):
            return "whoever the cookie names"

        def open(self):
            self.events.append(self.current_user)

    server = serve(Chat)
    await login(server)
    await until(lambda: Chat.events == ["alice"])


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_user_that_load_auth_user_does_not_know_is_turned_away(serve, connect, asynchronous):
    class Chat(Echo):
        def load_auth_user(self, claims):
            return self.nobody() if asynchronous else None

        async def nobody(self):
            return None

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"hello"))
    assert await client.read_close() == (4403, "forbidden")
    await nothing_is_left(server)
    assert Chat.events == []


@pytest.mark.gen_test
async def test_a_client_that_load_auth_user_closes_is_not_let_in(serve, connect):
    class Chat(Echo):
        def load_auth_user(self, claims):
            self.close(4999, "banned")
            return claims["sub"]

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"hello"))
    await client.read_close()
    await client.close()
    await nothing_is_left(server)
    assert Chat.events == []


@pytest.mark.gen_test
async def test_load_auth_user_may_ask_for_the_subprotocol(serve, connect):
    class Chat(Echo):
        def select_subprotocol(self, subprotocols):
            return subprotocols[0]

        def load_auth_user(self, claims):
            self.events.append(self.selected_subprotocol)
            return claims["sub"]

    server = serve(Chat)
    client, _ = await connect(server, Sec_WebSocket_Protocol="v2, v1")
    client.send_text(jwt_message(make_jwt()))
    assert (await client.read_json())["type"] == "auth_ok"
    assert Chat.events[0] == "v2"


@pytest.mark.gen_test
@pytest.mark.parametrize("user", [0, "", False, [], {}], ids=repr)
async def test_a_user_that_is_falsy_but_not_none_is_a_user(serve, login, user):
    class Chat(Echo):
        def load_auth_user(self, claims):
            return user

        def open(self):
            self.events.append(self.current_user)

    server = serve(Chat)
    await login(server)
    await until(lambda: Chat.events == [user])


@pytest.mark.gen_test
async def test_auth_session_is_not_there_before_the_client_is_authenticated(serve, login):
    class Chat(Echo):
        async def prepare(self):
            await super().prepare()
            self.look()

        def load_auth_user(self, claims):
            self.look()
            return claims["sub"]

        def look(self):
            try:
                self.events.append(self.auth_session.user_id)
            except RuntimeError as error:
                self.events.append(type(error))

        def open(self):
            self.look()

    server = serve(Chat)
    await login(server)
    await until(lambda: len(Chat.events) == 3)
    assert Chat.events == [RuntimeError, RuntimeError, "alice"]


@pytest.mark.gen_test
@pytest.mark.parametrize("raises", [None, RuntimeError("x"), asyncio.CancelledError()], ids=repr)
@pytest.mark.parametrize(
    ("first", "ending_"),
    [
        (b"hello", (4400, "bad_message")),
        (jwt_message(make_jwt(expires_in=-1)).encode(), (4401, "jwt_expired")),
        (jwt_message("x").encode(), (4401, "jwt_invalid")),
        (jwt_message(make_jwt("bob")).encode(), (4403, "user_mismatch")),
        (jwt_message(make_jwt(role="banned")).encode(), (4403, "forbidden")),
        (None, (4408, "auth_timeout")),
    ],
)
async def test_on_auth_failed_is_told_once_and_cannot_change_the_answer(serve, connect, first, ending_, raises):
    # A39
    class Chat(Echo):
        def load_auth_user(self, claims):
            return None if claims.get("role") == "banned" else claims["sub"]

        def on_auth_failed(self, reason):
            self.events.append(reason)
            if raises:
                raise raises

    clock = ManualClock()
    server = serve(Chat, auth=make_auth(clock=clock))
    client, _ = await connect(server)
    if first is None:
        clock.advance(10)
    else:
        client.send(frame(first) + frame(b"hello"))
    assert await client.read_close() == ending_
    await client.close()
    await nothing_is_left(server)
    await settle()
    assert Chat.events == [ending_[1]]


@pytest.mark.gen_test
async def test_on_auth_failed_is_not_told_of_a_client_that_is_let_in(serve, login):
    class Chat(Echo):
        def on_auth_failed(self, reason):
            self.events.append(reason)

    server = serve(Chat)
    client = await login(server)
    await client.close()
    await until(lambda: Chat.events == ["open", "close"])


# Control frames


@pytest.mark.gen_test
async def test_pings_and_pongs_reach_the_application_only_after_auth_ok(serve, connect):
    # A11
    class Chat(Echo):
        def on_ping(self, data):
            self.events.append(("ping", data))

        def on_pong(self, data):
            self.events.append(("pong", data))

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(frame(b"early", PONG) + frame(b"early", PING))
    assert await client.read_frame() == (PONG, b"early")
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"late", PONG) + frame(b"late", PING))
    assert (await client.read_json())["type"] == "auth_ok"
    assert await client.read_frame() == (PONG, b"late")
    assert Chat.events == ["open", ("pong", b"late"), ("ping", b"late")]


@pytest.mark.gen_test
async def test_a_client_that_leaves_before_its_jwt_never_reaches_the_application(serve, connect):
    # A10
    class Chat(Echo):
        pass

    server = serve(Chat)
    for goodbye in (frame(b"\x03\xe8", CLOSE), None):
        client, _ = await connect(server)
        assert len(server.auth.pending) == 1
        if goodbye:
            client.send(goodbye)
            assert await ending(client) == 1000
        else:
            client.abort()
        await nothing_is_left(server)
    await settle()
    assert Chat.events == []


# A39: what is in the log


@pytest.mark.gen_test
async def test_an_acceptance_and_its_close_are_one_record_each(serve, login, caplog):
    # A39
    caplog.set_level(logging.INFO, "tornado_wsauth")
    server = serve()
    client = await login(server)
    client.send(frame(b"\x03\xe9", CLOSE))
    await ending(client)
    await client.close()
    await until(lambda: len(server.auth.connections) == 0)
    await settle()
    records = [record for record in caplog.records if record.name == "tornado_wsauth"]
    assert [(record.event, record.user_id, record.remote_ip) for record in records] == [
        ("accepted", "alice", "127.0.0.1"),
        ("closed", "alice", "127.0.0.1"),
    ]
    assert records[-1].code == 1001


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("first", "code", "reason"),
    [
        (b"hello", 4400, "bad_message"),
        (jwt_message(make_jwt(expires_in=-1)).encode(), 4401, "jwt_expired"),
        (jwt_message(make_jwt("bob")).encode(), 4403, "user_mismatch"),
    ],
)
async def test_a_refusal_after_the_101_is_one_record(serve, connect, caplog, first, code, reason):
    # A39
    caplog.set_level(logging.INFO, "tornado_wsauth")
    server = serve()
    client, _ = await connect(server)
    client.send(frame(first) + frame(b"hello"))
    await client.read_close()
    await client.close()
    await nothing_is_left(server)
    await settle()
    (record,) = (record for record in caplog.records if record.name == "tornado_wsauth")
    assert (record.event, record.code, record.reason) == ("refused", code, reason)
    assert (record.user_id, record.remote_ip) == ("alice", "127.0.0.1")
