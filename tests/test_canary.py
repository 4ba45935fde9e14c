"""A canary token and a canary JWT are seen nowhere (A38)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import traceback
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import tornado.web
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from tests.support import (
    CLOSE,
    SECRET,
    Echo,
    ManualClock,
    RawClient,
    Response,
    frame,
    http,
    jwt_message,
    make_auth,
    make_jwt,
    until,
)
from tornado_wsauth import MemoryTokenStore, TokenHandler, TokenStoreError, log

CANARY = "CANARY-" + "c" * 29 + "-CANARY"  # as long as a token, and well-formed
assert len(CANARY) == 43


def request_for(uri: str) -> HTTPServerRequest:
    connection = SimpleNamespace(context=SimpleNamespace(remote_ip="192.0.2.1", protocol="http"))
    headers = HTTPHeaders({"Host": "app.example"})
    start_line = RequestStartLine("GET", uri, "HTTP/1.1")
    return HTTPServerRequest(headers=headers, connection=connection, start_line=start_line)  # type: ignore[arg-type]


class Everything:
    """What the outside could see: each log record with all that is in it, and each answer."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog
        self.seen: list[str] = []

    @property
    def records(self) -> list[logging.LogRecord]:
        return self.caplog.records

    def add(self, *things: object) -> None:
        for thing in things:
            text = thing.head + thing.body if isinstance(thing, Response) else thing
            self.seen.append(text.decode("latin1") if isinstance(text, bytes) else str(text))

    def texts(self) -> list[str]:
        formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")
        logged = []
        for record in self.records:
            logged.append(formatter.format(record))
            # exc_info itself is live objects; what the formatter makes of it is what gets out.
            extra = {name: value for name, value in vars(record).items() if name not in ("exc_info",)}
            logged.append(repr(extra))
        return logged + self.seen

    def assert_without(self, *secrets: str) -> None:
        assert self.records, "a path that logs nothing proves nothing"
        for secret in secrets:
            assert [text for text in self.texts() if secret in text] == []


@pytest.fixture
def everything(caplog) -> Everything:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "asyncio")
    for name in ("tornado", "tornado.access", "tornado.application", "tornado.general", "tornado_wsauth"):
        caplog.set_level(logging.DEBUG, name)
    return Everything(caplog)


class CanaryStore(MemoryTokenStore):
    """Knows one token by heart."""

    def __init__(self) -> None:
        super().__init__()
        self.user_id: str | None = "alice"
        self.error: Exception | None = None

    async def redeem(self, token: str, *, consume: bool = True) -> Any:
        if self.error is not None:
            raise self.error
        if self.user_id is None or token != CANARY:
            return await super().redeem(token)
        real = await self.issue(self.user_id, 30)
        return await super().redeem(real)


class Spying(Echo):
    """Collects what a handler can see of its request at every step."""

    spied: ClassVar[list[str]] = []

    def spy(self) -> None:
        request = self.request
        self.spied.extend([repr(request), request.full_url(), str(vars(request)), str(self.__dict__.get("path_args"))])

    def initialize(self) -> None:
        self.spy()

    async def prepare(self) -> None:
        self.spy()
        await super().prepare()  # type: ignore[misc]
        self.spy()

    def open(self, *args: str, **kwargs: str) -> None:
        self.spy()

    def on_auth_failed(self, reason: str) -> None:
        self.spied.append(reason)
        self.spy()


SPELLINGS = [
    f"/ws?token={CANARY}",
    f"/ws?%74oken={CANARY}",
    f"/ws?a=1&tok%65n={CANARY}&b=2",
]


@pytest.mark.gen_test
@pytest.mark.parametrize("path", SPELLINGS)
async def test_a_token_that_opened_a_connection_is_seen_nowhere(serve, connect, everything, path):  # A38
    class Chat(Spying):
        spied: ClassVar[list[str]] = []

    canary_jwt = make_jwt("alice", canary="x")
    server = serve(Chat, make_auth(tokens=CanaryStore()))
    client, response = await connect(server, path=path)
    assert response.status == 101
    client.send_text(jwt_message(canary_jwt))
    everything.add(response, await client.read_json())
    client.send(frame(b"\x03\xe8", CLOSE))
    assert (await client.read_close())[0] == 1000
    await until(lambda: len(server.auth.connections) == 0)
    assert Chat.spied
    everything.add(*Chat.spied)
    everything.assert_without("CANARY", canary_jwt, *canary_jwt.split("."))


REFUSALS = {
    "400 no key": (400, {"Sec_WebSocket_Key": None}, {}),
    "400 bad connection header": (400, {"Connection": "close"}, {}),
    "403 foreign origin": (403, {"Origin": "https://evil.example"}, {}),
    "405 post": (405, {}, {"method": "POST"}),
    "405 delete": (405, {}, {"method": "DELETE"}),
    "426 no upgrade": (426, {"Upgrade": None}, {}),
    "426 old version": (426, {"Sec_WebSocket_Version": "7"}, {}),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("path", SPELLINGS)
async def test_a_token_in_a_request_that_is_refused_is_seen_nowhere(serve, connect, everything, path, name):  # A38
    class Chat(Spying):
        spied: ClassVar[list[str]] = []

    status, headers, options = REFUSALS[name]
    server = serve(Chat, make_auth(tokens=CanaryStore()))
    _, response = await connect(server, path=path, **headers, **options)
    assert response.status == status
    everything.add(response, *Chat.spied)
    everything.assert_without("CANARY")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "path",
    [
        *SPELLINGS,
        f"/ws?token={CANARY}&token={CANARY}",
        f"/ws?token={CANARY}x",
        f"/ws?token={CANARY}#fragment",
        f"/ws?token={CANARY};a=1",
        f"/ws?a=1;token={CANARY}",
        f"/ws?token[$ne]=x&token={CANARY}",
        f"/ws?%74oken={CANARY}&token={CANARY}",
        f"/ws?token=%00{CANARY}",
        f"/ws?token=%ff{CANARY}",
        f"/ws?x=?token={CANARY}",
    ],
)
async def test_a_token_that_is_refused_is_seen_nowhere(serve, connect, everything, path):  # A38, A8
    class Chat(Spying):
        spied: ClassVar[list[str]] = []

    store = CanaryStore()
    store.user_id = None
    server = serve(Chat, make_auth(tokens=store), serve_traceback=True)
    _, response = await connect(server, path=path)
    assert response.status == 401
    everything.add(response)
    if path not in (f"/ws?a=1;token={CANARY}", f"/ws?x=?token={CANARY}"):  # there it is in another argument's value
        everything.add(*Chat.spied)
    everything.assert_without("CANARY")


@pytest.mark.gen_test
async def test_a_token_in_a_request_that_meets_a_broken_store_is_seen_nowhere(serve, connect, everything):  # A38
    class Chat(Spying):
        spied: ClassVar[list[str]] = []

    store = CanaryStore()
    store.error = TokenStoreError("the store is down")
    server = serve(Chat, make_auth(tokens=store), serve_traceback=True)
    _, response = await connect(server, path=f"/ws?token={CANARY}")
    assert response.status == 503
    everything.add(response, *Chat.spied)
    store.error = RuntimeError("the store is buggy")
    _, response = await connect(server, path=f"/ws?token={CANARY}")
    assert response.status == 500
    everything.add(response, *Chat.spied)
    everything.assert_without("CANARY")


@pytest.mark.gen_test
async def test_a_token_in_a_request_while_closing_or_full_is_seen_nowhere(serve, connect, everything):  # A38
    auth = make_auth(tokens=CanaryStore(), max_pending=1)
    server = serve(Spying, auth)
    await connect(server, path=f"/ws?token={CANARY}")
    _, response = await connect(server, path=f"/ws?token={CANARY}")
    assert (response.status, response.json()["error"]) == (503, "too_many_pending")
    everything.add(response)
    await auth.close(grace=0)
    _, response = await connect(server, path=f"/ws?token={CANARY}")
    assert (response.status, response.json()["error"]) == (503, "closing")
    everything.add(response)
    everything.assert_without("CANARY")


class Missing(tornado.web.RequestHandler):
    def get(self) -> None:
        raise tornado.web.HTTPError(404)


class MissingAndSaysSo(tornado.web.RequestHandler):
    def get(self) -> None:
        raise tornado.web.HTTPError(404, "nothing at %s", self.request.uri)


class Broken(tornado.web.RequestHandler):
    def get(self) -> None:
        raise RuntimeError(f"cannot serve {self.request.uri}")


class MissingSocket(Spying):
    async def prepare(self) -> None:
        raise tornado.web.HTTPError(404, "nothing at %s", self.request.uri)


class BrokenSocket(Spying):
    def prepare(self) -> None:
        raise RuntimeError(f"cannot serve {self.request.uri} {self.request!r}")


class NoArgument(tornado.web.RequestHandler):
    def get(self) -> None:
        self.get_argument("absent")


@pytest.mark.gen_test
@pytest.mark.parametrize("query", [spelling.partition("?")[2] for spelling in SPELLINGS])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere", 404),
        ("/missing", 404),
        ("/missing-and-says-so", 404),
        ("/broken", 500),
        ("/no-argument", 400),
        ("/missing-socket", 404),
        ("/broken-socket", 500),
    ],
)
async def test_a_token_sent_to_the_wrong_place_is_not_logged(serve, connect, everything, path, status, query):  # A38
    routes = [
        (r"/missing", Missing),
        (r"/missing-and-says-so", MissingAndSaysSo),
        (r"/broken", Broken),
        (r"/no-argument", NoArgument),
        (r"/missing-socket", MissingSocket),
        (r"/broken-socket", BrokenSocket),
    ]
    server = serve(routes=routes)
    _, response = await connect(server, path=f"{path}?{query}")
    assert response.status == status
    everything.add(response)
    everything.assert_without("CANARY")


@pytest.mark.gen_test
async def test_a_traceback_served_to_the_developer_shows_no_token_of_a_socket(serve, connect, everything):  # A38
    server = serve(routes=[(r"/broken-socket", BrokenSocket)], serve_traceback=True)
    _, response = await connect(server, path=f"/broken-socket?token={CANARY}")
    assert response.status == 500
    assert b"RuntimeError" in response.body
    everything.add(response)
    everything.assert_without("CANARY")


@pytest.mark.gen_test
async def test_a_request_line_that_is_no_http_does_not_log_the_token(serve, everything):  # A38
    server = serve()
    line = f"GET /ws?token={CANARY}"
    for request in (line, f"{line} HTTP/9.9", f"{line} HTTP/1.1\r\nbad"):
        client = await RawClient.connect(server.port)
        client.send(f"{request}\r\nHost: x\r\n\r\n".encode())
        everything.add(await client.reader.read())
        await client.close()
    everything.assert_without("CANARY")


class OpenRaises(Spying):
    def open(self, *args: str, **kwargs: str) -> None:
        raise RuntimeError(f"cannot open {self.request!r}")


class AsyncOpenRaises(Spying):
    async def open(self, *args: str, **kwargs: str) -> None:
        await asyncio.sleep(0)
        raise ValueError(f"cannot open {self.request!r}")


class MessageRaises(Spying):
    def on_message(self, message: str | bytes) -> None:
        raise RuntimeError(f"cannot handle {self.request!r}")


class AsyncMessageRaises(Spying):
    async def on_message(self, message: str | bytes) -> None:
        await asyncio.sleep(0)
        raise RuntimeError(f"cannot handle {self.request!r}")


class LoadRaises(Spying):
    async def load_auth_user(self, claims: dict[str, Any]) -> Any:
        raise RuntimeError(f"no user for {self.request!r}")


class FailedRaises(Spying):
    async def load_auth_user(self, claims: dict[str, Any]) -> Any:
        return None

    def on_auth_failed(self, reason: str) -> None:
        raise RuntimeError(f"{reason}: {self.request!r}")


async def read_to_close(client: RawClient) -> bytes:
    """Return everything up to the close frame, or to the end of a connection that ends without one."""
    read = b""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            opcode, payload = await client.read_frame()
            read += payload + b"\n"
            if opcode == CLOSE:
                break
    return read


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "handler", [OpenRaises, AsyncOpenRaises, MessageRaises, AsyncMessageRaises, LoadRaises, FailedRaises]
)
async def test_what_the_application_raises_shows_neither_credential(serve, connect, everything, handler):  # A38
    canary_jwt = make_jwt("alice", canary="x")
    server = serve(handler, make_auth(tokens=CanaryStore()))
    client, _ = await connect(server, path=f"/ws?token={CANARY}")
    client.send_text(jwt_message(canary_jwt))
    client.send_text("a message")
    everything.add(await read_to_close(client))
    assert any(record.exc_info for record in everything.records), "the exception itself must be logged"
    everything.assert_without("CANARY", canary_jwt, *canary_jwt.split("."))


def broken_signature(jwt: str) -> str:
    head, payload, signature = jwt.split(".")
    return f"{head}.{payload}.{signature[::-1]}"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("make", "close"),
    [
        (lambda: make_jwt("alice", secret=SECRET + "!", canary=CANARY), (4401, "jwt_invalid")),
        (lambda: broken_signature(make_jwt("alice", canary=CANARY)), (4401, "jwt_invalid")),
        (lambda: make_jwt("mallory", canary=CANARY), (4403, "user_mismatch")),
        (lambda: make_jwt("alice", expires_in=-60, canary=CANARY), (4401, "jwt_expired")),
        (lambda: make_jwt(None, canary=CANARY), (4401, "jwt_invalid")),
        (lambda: make_jwt("alice", aud="other", canary=CANARY), (4401, "jwt_invalid")),
        (lambda: CANARY, (4401, "jwt_invalid")),
        (lambda: f"{CANARY}.{CANARY}.{CANARY}", (4401, "jwt_invalid")),
        (lambda: f"\ud800{CANARY}", (4400, "bad_message")),
    ],
    ids=["wrong key", "bad signature", "mismatch", "expired", "no user", "audience", "garbage", "dots", "surrogate"],
)
async def test_a_jwt_that_is_refused_is_seen_nowhere(serve, connect, everything, make, close):  # A38, A16
    jwt = make()
    server = serve(Spying)
    client, _ = await connect(server)
    client.send_text(json.dumps({"type": "jwt", "token": jwt}))
    opcode, payload = await client.read_frame()
    assert opcode == CLOSE
    everything.add(payload[2:])
    assert (int.from_bytes(payload[:2]), payload[2:].decode()) == close
    everything.assert_without(CANARY, *(part for part in jwt.split(".") if part))


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "message",
    [
        f"{CANARY}",
        f'{{"type": "jwt", "token": "{CANARY}"',
        f'{{"type": "jwt", "token": ["{CANARY}"]}}',
        f'{{"type": "jvt", "token": "{CANARY}"}}',
        f'{{"type": "jwt", "token": "{CANARY}", "token": "{CANARY}"}}',
        f'{{"token": "{CANARY}"}}',
    ],
)
async def test_a_first_message_that_is_refused_is_seen_nowhere(serve, connect, everything, message):  # A38, A16
    server = serve(Spying)
    client, _ = await connect(server)
    client.send_text(message)
    everything.add(await read_to_close(client))
    everything.assert_without(CANARY)


@pytest.mark.gen_test
async def test_a_client_that_leaves_or_stays_silent_leaves_no_token_behind(serve, connect, everything):  # A38
    clock = ManualClock()
    auth = make_auth(tokens=CanaryStore(), clock=clock)
    server = serve(Spying, auth)
    client, _ = await connect(server, path=f"/ws?token={CANARY}")
    clock.advance(10)
    assert await client.read_close() == (4408, "auth_timeout")
    client, _ = await connect(server, path=f"/ws?token={CANARY}")
    client.abort()
    await until(lambda: not auth.pending)
    everything.assert_without("CANARY")


@pytest.mark.gen_test
async def test_a_jwt_in_the_authorization_header_is_seen_nowhere(serve, everything):  # A38
    class Oops(TokenHandler):
        def get_user_id(self) -> Any:
            raise RuntimeError(f"no user for {self.request!r}")

    class Nonsense(TokenHandler):
        def get_user_id(self) -> Any:
            return object()

    server = serve(routes=[(r"/oops", Oops), (r"/nonsense", Nonsense)])
    good = make_jwt("alice", canary=CANARY)
    bad = make_jwt("alice", secret=SECRET + "!", canary=CANARY)
    old = make_jwt("alice", expires_in=-60, canary=CANARY)
    for path, jwt, status in [
        ("/ws/token", good, 200),
        ("/ws/token", bad, 401),
        ("/ws/token", old, 401),
        ("/ws/token", CANARY, 401),
        ("/ws/token", f"{CANARY}.{CANARY}.{CANARY}", 401),
        (f"/ws/token?token={CANARY}&%74oken={CANARY}", good, 200),
        (f"/ws/token?token={CANARY}", bad, 401),
        (f"/oops?token={CANARY}", good, 500),
        (f"/nonsense?token={CANARY}", good, 500),
    ]:
        response = await http(server, path, Authorization=f"Bearer {jwt}")
        assert response.status == status, path
        everything.add(response if status != 200 else response.head)
        everything.assert_without(CANARY, *jwt.split("."))
    assert any(record.name == log.logger.name for record in everything.records)


@pytest.mark.gen_test
async def test_the_token_that_the_route_gives_out_is_not_logged(serve, everything):  # A38
    server = serve()
    response = await http(server, Authorization=f"Bearer {make_jwt()}")
    everything.assert_without(response.json()["token"])


@pytest.mark.gen_test
@pytest.mark.parametrize("param", ["ticket", "token_2", "t"])
async def test_a_parameter_of_another_name_is_kept_out_just_as_well(serve, connect, everything, param):  # A38
    class Chat(Spying):
        spied: ClassVar[list[str]] = []

    server = serve(Chat, make_auth(tokens=CanaryStore(), token_param=param))
    client, response = await connect(server, path=f"/ws?{param}={CANARY}")
    assert response.status == 101
    _, elsewhere = await connect(server, path=f"/nowhere?{param}={CANARY}")
    everything.add(response, elsewhere, *Chat.spied)
    everything.assert_without("CANARY")
    await client.close()


@pytest.mark.gen_test
async def test_without_a_wsauth_a_socket_answers_500_and_logs_no_token(everything, connect, serve):  # A38, A11
    class Lost(Spying):
        wsauth_setting = "elsewhere"
        spied: ClassVar[list[str]] = []

    _, response = await connect(serve(Lost), path=f"/ws?token={CANARY}")
    assert response.status == 500
    assert Lost.spied, "its initialize() was called all the same"
    everything.add(response, *Lost.spied)
    everything.assert_without("CANARY")


def test_an_exception_of_the_library_shows_no_token_when_it_is_formatted():  # A38
    async def redeem() -> None:
        await make_auth().redeem_token(CANARY)

    try:
        asyncio.run(redeem())
    except Exception as error:
        text = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    assert "TokenRejected" in text
    assert CANARY not in text
