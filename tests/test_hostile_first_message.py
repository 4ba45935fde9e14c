"""First messages that are none, or too large."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import struct
import tracemalloc
import zlib

import pytest

from tests.first_messages import CONTINUATION, DEFLATE, an_honest_client_is_served, deflate, ending
from tests.support import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    Echo,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    nothing_is_left,
    until,
)

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
