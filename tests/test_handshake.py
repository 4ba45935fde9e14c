"""Up to the 101: which requests become a WebSocket, which do not, and what a refusal costs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import gc
import logging
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any
from unittest.mock import ANY

import pytest
from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from tests.mongod import MONGO_FLAVOURS
from tests.support import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Echo,
    ManualClock,
    RawClient,
    Response,
    Server,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    until,
    upgrade_request,
)
from tornado_wsauth import MemoryTokenStore, TokenRecord, TokenStoreError, WebSocketAuthMixin

ORIGIN = "https://app.example"


class SpyStore(MemoryTokenStore):
    """A memory store that counts what is redeemed, holds it up while ``block()`` says so, or fails with ``error``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.redeemed: list[str] = []
        self.error: BaseException | None = None
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()

    def block(self) -> None:
        self.release.clear()

    async def redeem(self, token: str, *, consume: bool = True) -> TokenRecord:
        self.redeemed.append(token)
        self.entered.set()
        await self.release.wait()
        if self.error is not None:
            raise self.error
        return await super().redeem(token, consume=consume)


async def settle() -> None:
    """Let everything run that waits for nothing but its turn."""
    for _ in range(20):
        await asyncio.sleep(0)


async def ask(server: Server, path: str, **request: str | None) -> Response:
    """Send one opening handshake on a connection of its own, leave, and return the answer."""
    client = await RawClient.connect(server.port)
    try:
        if request.get("method") == "HEAD":  # it has the length of a body, and none
            client.send(upgrade_request(path, **request))
            head = await client.reader.readuntil(b"\r\n\r\n")
            return Response(int(head.split()[1]), head)
        return await client.upgrade(path, **request)
    finally:
        await client.close()


async def status_of(server: Server, path: str) -> int | None:
    """Return the status of a handshake's answer; None if the connection ended, or nothing came, without one."""
    client = await RawClient.connect(server.port)
    client.send(upgrade_request(path))
    try:
        async with asyncio.timeout(0.2):
            return (await client.read_response()).status
    except (asyncio.IncompleteReadError, TimeoutError):
        return None
    finally:
        await client.close()


# Redeeming the token


if MONGO_FLAVOURS:  # where no driver is installed this is no skipped test, it is no test

    @pytest.mark.gen_test(timeout=60)
    async def test_of_200_upgrades_over_two_processes_exactly_one_wins_the_token(mongodb_uri, mongo_collection):
        # A5
        collection = mongo_collection(MONGO_FLAVOURS[0])
        from tornado_wsauth import MongoTokenStore

        auth = make_auth(tokens=MongoTokenStore(collection))
        token = await auth.issue_token("alice")
        command = [sys.executable, "-m", "tests.server_process", mongodb_uri, collection.database.name, collection.name]
        processes = [
            await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        try:
            ports = [int(await process.stdout.readline()) for process in processes]
            clients = [await RawClient.connect(port) for port in ports for _ in range(100)]
            answers = await asyncio.gather(*(client.upgrade(f"/ws?token={token}") for client in clients))
            for client in clients:
                await client.close()
        finally:
            for process in processes:
                await process.communicate(b"")
        assert sorted(answer.status for answer in answers) == [101] + [401] * 199
        assert [process.returncode for process in processes] == [0, 0]


@pytest.mark.gen_test
async def test_a_token_opens_one_connection_and_no_second(serve):
    # A5
    server = serve()
    token = await server.auth.issue_token("alice")
    answers = await asyncio.gather(*(ask(server, f"/ws?token={token}") for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [101] + [401] * 9


@pytest.mark.gen_test
async def test_a_token_that_expired_but_was_not_swept_is_refused(serve):
    # A6
    now = 1_000.0
    server = serve(auth=make_auth(tokens=MemoryTokenStore(clock=lambda: now), token_ttl=30))
    at_the_end = await server.auth.issue_token("alice")
    too_late = await server.auth.issue_token("alice")
    now = 1_029.9
    assert (await ask(server, f"/ws?token={at_the_end}")).status == 101
    now = 1_030.0
    assert (await ask(server, f"/ws?token={too_late}")).status == 401


@pytest.mark.gen_test
async def test_every_401_is_byte_for_byte_the_same(serve):
    # A7
    now = 1_000.0
    server = serve(auth=make_auth(tokens=MemoryTokenStore(clock=lambda: now), token_ttl=30))
    used, expired = [await server.auth.issue_token("alice") for _ in range(2)]
    assert (await ask(server, f"/ws?token={used}")).status == 101
    queries = {
        "missing": "",
        "another parameter": "?t=x",
        "empty": "?token=",
        "unknown": "?token=" + "A" * 43,
        "malformed": "?token=abc",
        "twice": f"?token={expired}&token={expired}",
        "used": f"?token={used}",
    }
    answers = {name: await ask(server, f"/ws{query}") for name, query in queries.items()}
    now = 1_031.0
    answers["expired"] = await ask(server, f"/ws?token={expired}")
    answers["used and expired"] = await ask(server, f"/ws?token={used}")

    def without_date(answer: Response) -> list[bytes]:
        return [line for line in answer.head.split(b"\r\n") if not line.startswith(b"Date:")] + [answer.body]

    assert {answer.status for answer in answers.values()} == {401}
    for name, answer in answers.items():
        assert without_date(answer) == without_date(answers["missing"]), name
    assert answers["missing"].headers["www-authenticate"]
    assert answers["missing"].headers["content-type"].startswith("application/json")
    assert set(answers["missing"].json()) == {"error"}


MALFORMED_QUERIES = {
    "duplicate": "token={token}&token={token}",
    "duplicate, one empty": "token={token}&token=",
    "one character short": "token={short}",
    "one character long": "token={token}A",
    "very long": "token=" + "A" * 4000,
    "empty": "token=",
    "NUL at the end": "token={token}%00",
    "NUL instead of the last": "token={short}%00",
    "%ff at the end": "token={token}%ff",
    "%ff instead of the last": "token={short}%ff",
    "a space": "token={short}%20",
    "a line break": "token={token}%0a",
    "a space before": "token=%20{token}",
    "a wide digit": "token={short}%D9%A3",
    "plus": "token={short}%2B",
    "a MongoDB operator": "token[$ne]=",
    "a MongoDB operator with a token": "token[$eq]={token}",
    "other case": "TOKEN={token}",
    "percent without digits": "token={short}%",
}


@pytest.mark.gen_test
async def test_a_malformed_token_is_refused_without_a_call_to_the_store(serve):
    # A8
    store = SpyStore()
    server = serve(auth=make_auth(tokens=store))
    token = await server.auth.issue_token("alice")
    for name, query in MALFORMED_QUERIES.items():
        answer = await ask(server, "/ws?" + query.format(token=token, short=token[:-1]))
        assert answer.status == 401, name
        assert store.redeemed == [], name
    assert (await ask(server, f"/ws?token={token}")).status == 101


@pytest.mark.gen_test
async def test_a_token_in_the_body_or_a_header_is_no_token(serve):
    # A8
    store = SpyStore()
    server = serve(auth=make_auth(tokens=store))
    token = await server.auth.issue_token("alice")
    form = f"token={token}"
    client = await RawClient.connect(server.port)
    headers = {"Content_Type": "application/x-www-form-urlencoded", "Content_Length": str(len(form))}
    client.send(upgrade_request("/ws", **headers) + form.encode())
    assert (await client.read_response()).status == 401
    await client.close()
    assert (await ask(server, "/ws", token=token, Cookie=f"token={token}")).status == 401
    assert store.redeemed == []


@pytest.mark.gen_test
async def test_a_token_with_single_use_off_opens_connections_until_it_expires(serve):
    now = 1_000.0
    auth = make_auth(single_use=False, token_ttl=30, tokens=MemoryTokenStore(clock=lambda: now))
    server = serve(auth=auth)
    token = await server.auth.issue_token("alice")
    assert [(await ask(server, f"/ws?token={token}")).status for _ in range(3)] == [101] * 3
    now = 1_030.0
    assert (await ask(server, f"/ws?token={token}")).status == 401


@pytest.mark.gen_test
async def test_the_token_is_read_from_the_parameter_token_param_names(serve):
    server = serve(auth=make_auth(token_param="ticket"))
    token = await server.auth.issue_token("alice")
    assert (await ask(server, f"/ws?token={token}")).status == 401
    assert (await ask(server, f"/ws?ticket={token}")).status == 101


@pytest.mark.gen_test
async def test_the_handler_no_longer_finds_the_token_in_its_request(serve):
    # A38
    seen = []

    class Chat(Echo):
        async def prepare(self):
            await super().prepare()
            seen.extend([self.request.uri, self.request.query, repr(self.request), str(self.request.arguments)])
            seen.extend([str(self.request.query_arguments), self.get_argument("token", ""), self.request.full_url()])
            seen.append(self.get_argument("room"))

    server = serve(Chat)
    token = await server.auth.issue_token("alice")
    assert (await ask(server, f"/ws?room=lobby&token={token}")).status == 101
    assert seen[-1] == "lobby"
    assert not [text for text in seen if token in text]


# A request that cannot become a WebSocket


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


# Origin

NEAR_MISSES = [
    "https://app.example.evil.test",
    "https://app.exampl",
    "https://evil-app.example",
    "https://sub.app.example",
    "http://app.example",
    "wss://app.example",
    "https://app.example:443",
    "https://app.example:8443",
    "https://APP.example",
    "HTTPS://app.example",
    "https://app.example/",
    "https://app.example.",
    "https://app.example\\.evil.test",
    "https://app.example@evil.test",
    "https://evil.test#https://app.example",
    "https://app.example https://evil.test",
    "https://app.example, https://evil.test",
    "app.example",
    "null",
    "None",
    "*",
    "",
]


@pytest.mark.gen_test
async def test_an_origin_that_is_nearly_an_allowed_one_is_refused(serve):
    # A9
    server = serve(auth=make_auth(allowed_origins=[ORIGIN]))
    token = await server.auth.issue_token("alice")
    for origin in NEAR_MISSES:
        answer = await ask(server, f"/ws?token={token}", Origin=origin)
        assert answer.status == 403, origin
        assert set(answer.json()) == {"error"}
    assert (await ask(server, f"/ws?token={token}", Origin=ORIGIN)).status == 101


@pytest.mark.gen_test
async def test_two_origin_headers_are_not_an_allowed_one(serve):
    # A9
    server = serve(auth=make_auth(allowed_origins=[ORIGIN]))
    token = await server.auth.issue_token("alice")
    for origins in ([ORIGIN, "https://evil.test"], ["https://evil.test", ORIGIN]):
        client = await RawClient.connect(server.port)
        request = upgrade_request(f"/ws?token={token}")
        extra = "".join(f"Origin: {origin}\r\n" for origin in origins).encode()
        client.send(request.replace(b"\r\n\r\n", b"\r\n" + extra + b"\r\n"))
        assert (await client.read_response()).status in (400, 403)
        await client.close()
    assert (await ask(server, f"/ws?token={token}", Origin=ORIGIN)).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize("fetch_site", [None, "cross-site", "same-site", "same-origin"])
async def test_an_allowed_origin_really_upgrades_whatever_tornado_would_say(serve, login, fetch_site):
    # A9
    class Chat(Echo):
        def check_origin(self, origin):
            return False

    server = serve(Chat, auth=make_auth(allowed_origins=[ORIGIN, "http://localhost:5173"]))
    for origin in (ORIGIN, "http://localhost:5173"):
        client = await login(server, Origin=origin, Sec_Fetch_Site=fetch_site)
        client.send_text("hello")
        assert (await client.read_frame())[1] == b"hello"


@pytest.mark.gen_test
@pytest.mark.parametrize("fetch_site", ["same-origin", "none", "same-site", "cross-site"])
async def test_sec_fetch_site_opens_no_way_around_allowed_origins(serve, fetch_site):
    # A9: Tornado 6.6 believes it and skips its own check
    server = serve(auth=make_auth(allowed_origins=[ORIGIN]))
    token = await server.auth.issue_token("alice")
    for origin in ("https://evil.example", server.url, None):
        answer = await ask(server, f"/ws?token={token}", Origin=origin, Sec_Fetch_Site=fetch_site)
        assert answer.status == 403, origin
    assert (await ask(server, f"/ws?token={token}", Origin=ORIGIN)).status == 101


@pytest.mark.gen_test
async def test_a_client_without_an_origin_needs_none_among_allowed_origins(serve):
    # A9
    for allowed, status in (([ORIGIN], 403), ([], 403), ([ORIGIN, None], 101), ([None], 101)):
        server = serve(auth=make_auth(allowed_origins=allowed))
        token = await server.auth.issue_token("alice")
        assert (await ask(server, f"/ws?token={token}")).status == status, allowed


@pytest.mark.gen_test
async def test_the_origin_header_of_old_drafts_does_not_slip_through(serve):
    # A9: Tornado reads Sec-WebSocket-Origin where there is no Origin
    for allowed in ([ORIGIN], [ORIGIN, None]):
        server = serve(auth=make_auth(allowed_origins=allowed))
        token = await server.auth.issue_token("alice")
        answer = await ask(server, f"/ws?token={token}", Sec_WebSocket_Origin="https://evil.example")
        assert answer.status in (403, 101)
        if answer.status == 403:
            assert (await ask(server, f"/ws?token={token}", Origin=ORIGIN)).status == 101
        else:
            assert None in allowed


@pytest.mark.gen_test
@pytest.mark.parametrize("origin", [None, "same", "https://evil.example", "null", ""])
async def test_without_allowed_origins_the_decision_is_bare_tornados(serve, origin):
    # A9: and where it is a refusal, the token still works
    class Bare(WebSocketHandler):
        def open(self):
            pass

    server = serve(routes=[("/bare", Bare)])
    for fetch_site in (None, "same-origin", "none", "same-site", "cross-site"):
        token = await server.auth.issue_token("alice")
        headers = {"Origin": f"http://127.0.0.1:{server.port}" if origin == "same" else origin}
        headers |= {"Sec_Fetch_Site": fetch_site, "Host": f"127.0.0.1:{server.port}"}
        expected = (await ask(server, "/bare", **headers)).status
        assert (await ask(server, f"/ws?token={token}", **headers)).status == expected, fetch_site
        if expected != 101:
            assert (await ask(server, f"/ws?token={token}")).status == 101, fetch_site


@pytest.mark.gen_test
async def test_without_allowed_origins_a_handlers_own_check_origin_decides(serve):
    # A9
    class Chat(Echo):
        def check_origin(self, origin):
            return origin == "https://partner.example"

    server = serve(Chat)
    token = await server.auth.issue_token("alice")
    assert (await ask(server, f"/ws?token={token}", Origin="https://evil.example")).status == 403
    assert (await ask(server, f"/ws?token={token}", Origin="https://partner.example")).status == 101


@pytest.mark.gen_test
async def test_a_check_origin_that_raises_leaves_the_token_as_it_was(serve):
    # A9
    class Chat(Echo):
        fails = True

        def check_origin(self, origin):
            if self.fails:
                raise RuntimeError("the list of partners is not there")
            return True

    server = serve(Chat)
    token = await server.auth.issue_token("alice")
    assert (await ask(server, f"/ws?token={token}", Origin=ORIGIN)).status == 500
    assert len(server.auth.pending) == 0
    Chat.fails = False
    assert (await ask(server, f"/ws?token={token}", Origin=ORIGIN)).status == 101


# A client that leaves during the handshake


class Leaving(Echo):
    """Says when it learned that its client has left."""

    left: asyncio.Event

    def on_connection_close(self):
        super().on_connection_close()
        self.left.set()


async def leave_during(server: Server, handler: type[Leaving], waits: asyncio.Event) -> None:
    """Connect, and leave once the server waits in the middle of the handshake."""
    handler.left = asyncio.Event()
    client = await RawClient.connect(server.port)
    client.send(upgrade_request(f"/ws?token={await server.auth.issue_token('alice')}"))
    await waits.wait()
    client.abort()
    await handler.left.wait()


@pytest.mark.gen_test
async def test_a_client_that_leaves_while_the_store_is_asked_never_reaches_the_application(serve, login, caplog):
    # A10
    class Chat(Leaving):
        pass

    store = SpyStore()
    server = serve(Chat, auth=make_auth(tokens=store))
    store.block()
    await leave_during(server, Chat, store.entered)
    store.release.set()
    await until(lambda: len(server.auth.pending) == 0)
    await settle()
    assert Chat.events == []
    assert len(server.auth.connections) == 0
    assert [record for record in caplog.records if record.exc_info] == []
    await login(server)
    assert Chat.events == ["open"]


@pytest.mark.gen_test
@pytest.mark.parametrize("error", [TokenStoreError("down"), RuntimeError("bug"), None])
async def test_a_client_that_leaves_before_the_store_fails_leaves_nothing_behind(serve, error):
    # A10
    class Chat(Leaving):
        pass

    store = SpyStore()
    server = serve(Chat, auth=make_auth(tokens=store))
    store.block()
    await leave_during(server, Chat, store.entered)
    store.error = error or asyncio.CancelledError()
    store.release.set()
    await until(lambda: len(server.auth.pending) == 0)
    await settle()
    assert Chat.events == []


class SlowBeforeCheck(Leaving):
    async def prepare(self):
        self.waits.set()
        await self.release.wait()
        await super().prepare()


class SlowAfterCheck(Leaving):
    async def prepare(self):
        await super().prepare()
        self.waits.set()
        await self.release.wait()


class SlowWithoutCheck(Leaving):
    async def prepare(self):
        self.waits.set()
        await self.release.wait()


class SlowGet(Leaving):
    async def get(self, *args, **kwargs):
        self.waits.set()
        await self.release.wait()
        await super().get(*args, **kwargs)


class SlowBareGet(Leaving):
    async def get(self, *args, **kwargs):
        self.waits.set()
        await self.release.wait()
        await WebSocketHandler.get(self, *args, **kwargs)


class Assigning(Leaving):
    """Sets its on_close() on itself."""

    def assign(self):
        self.on_close = lambda: self.events.append("close, from the instance")


class AssigningFirst(Assigning, SlowBeforeCheck):
    async def prepare(self):
        self.assign()
        await super().prepare()


class AssigningBetween(Assigning, SlowGet):
    async def prepare(self):
        self.assign()


class AssigningInGet(Assigning, SlowGet):
    async def get(self, *args, **kwargs):
        self.assign()
        await super().get(*args, **kwargs)


class SlowAndFailing(Leaving):
    async def prepare(self):
        await super().prepare()
        self.waits.set()
        await self.release.wait()
        raise HTTPError(404)


class SlowAndCatching(Leaving):
    """Knows nothing of the library's own exceptions and catches them all."""

    async def prepare(self):
        self.waits.set()
        await self.release.wait()
        with contextlib.suppress(Exception):
            await super().prepare()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "handler",
    [
        SlowBeforeCheck,
        SlowAfterCheck,
        SlowWithoutCheck,
        SlowGet,
        SlowBareGet,
        SlowAndFailing,
        SlowAndCatching,
        AssigningFirst,
        AssigningBetween,
        AssigningInGet,
    ],
)
async def test_a_client_that_leaves_while_the_application_prepares_never_reaches_it(serve, handler, caplog):
    # A10
    class Chat(handler):
        waits = asyncio.Event()
        release = asyncio.Event()

        def initialize(self):
            handlers.append(weakref.ref(self))

    handlers: list[weakref.ref[Any]] = []
    server = serve(Chat)
    await leave_during(server, Chat, Chat.waits)
    Chat.release.set()
    await settle()
    await until(lambda: len(server.auth.pending) == 0)
    server.auth.connections.broadcast("anyone there?")
    assert Chat.events == []
    assert len(server.auth.connections) == 0
    assert [record for record in caplog.records if record.exc_info] == []
    gc.collect()
    assert handlers[0]() is None  # Tornado left it open for ever


@pytest.mark.gen_test
async def test_a_client_that_leaves_before_its_token_is_looked_at_keeps_it(serve):
    # A10
    class Chat(SlowBeforeCheck):
        waits = asyncio.Event()
        release = asyncio.Event()
        left = asyncio.Event()

    store = SpyStore()
    server = serve(Chat, auth=make_auth(tokens=store))
    await leave_during(server, Chat, Chat.waits)
    Chat.release.set()
    await settle()
    assert store.redeemed == []


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [400, 404, 302])
async def test_an_application_that_refuses_in_prepare_leaves_no_pending_connection(serve, status):
    # A10
    class Chat(Echo):
        async def prepare(self):
            await super().prepare()
            if status == 302:
                self.redirect("/elsewhere")
            else:
                raise HTTPError(status)

    server = serve(Chat)
    token = await server.auth.issue_token("alice")
    assert (await ask(server, f"/ws?token={token}")).status == status
    assert len(server.auth.pending) == 0
    assert Chat.events == []


# When it is our fault


@pytest.mark.gen_test
async def test_a_store_that_cannot_answer_is_a_503_and_never_a_101(serve):
    # A34
    store = SpyStore()
    server = serve(auth=make_auth(tokens=store))
    token = await server.auth.issue_token("alice")
    store.error = TokenStoreError("no primary")
    answer = await ask(server, f"/ws?token={token}")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert set(answer.json()) == {"error"}
    assert "primary" not in answer.body.decode()
    assert len(server.auth.pending) == 0
    store.error = None
    assert (await ask(server, f"/ws?token={token}")).status == 101


@pytest.mark.gen_test
async def test_a_store_that_cannot_start_is_a_503_until_it_can(serve):
    # A34
    class Unreachable(MemoryTokenStore):
        down = True

        async def start(self):
            if self.down:
                raise TokenStoreError("down")

    store = Unreachable()
    server = serve(auth=make_auth(tokens=store))
    token = await store.issue("alice", 30)
    assert (await ask(server, f"/ws?token={token}")).status == 503
    store.down = False
    assert (await ask(server, f"/ws?token={token}")).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), HTTPError(404), asyncio.CancelledError(), TimeoutError(), OSError("x")]
)
async def test_a_store_that_raises_anything_else_never_makes_a_101(serve, login, error):
    # A18
    class Chat(Echo):
        pass

    store = SpyStore()
    server = serve(Chat, auth=make_auth(tokens=store))
    token = await server.auth.issue_token("alice")
    store.error = error
    status = await status_of(server, f"/ws?token={token}")
    assert status in (404, 500, 503) or isinstance(error, asyncio.CancelledError)
    assert status != 101  # a cancelled request has no answer, or with Tornado 6.6 a 500
    assert len(server.auth.pending) == 0
    assert Chat.events == []
    store.error = None
    await login(server)


@pytest.mark.gen_test
async def test_a_store_that_returns_no_record_makes_no_101(serve):
    # A18
    class Broken(MemoryTokenStore):
        async def redeem(self, token, *, consume=True):
            return None

    server = serve(auth=make_auth(tokens=Broken()))
    token = await server.auth.issue_token("alice")
    assert (await ask(server, f"/ws?token={token}")).status == 500
    assert len(server.auth.pending) == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("setting", [{}, {"chat_auth": None}, {"chat_auth": "secret"}, {"chat_auth": {}}])
async def test_without_a_wsauth_in_the_settings_every_request_is_a_500_that_says_what_is_missing(
    serve, caplog, setting
):
    class Chat(Echo):
        wsauth_setting = "chat_auth"

    server = serve(Chat, **setting)
    token = await server.auth.issue_token("alice")
    for path in (f"/ws?token={token}", "/ws"):
        caplog.clear()
        assert (await ask(server, path)).status == 500
        said = " ".join(record.getMessage() + (record.exc_text or "") for record in caplog.records)
        assert "chat_auth" in said
        assert "WSAuth" in said
    assert token not in caplog.text
    assert Chat.events == []


@pytest.mark.gen_test
async def test_a_token_opens_only_handlers_of_the_wsauth_that_issued_it(serve, connect):
    class Staff(Echo):
        wsauth_setting = "staff_auth"

    staff = make_auth(token_param="pass")
    server = serve(routes=[("/staff", Staff)], staff_auth=staff)
    public_token, staff_token = await server.auth.issue_token("alice"), await staff.issue_token("alice")
    assert (await ask(server, f"/staff?pass={public_token}")).status == 401
    assert (await ask(server, f"/ws?token={staff_token}")).status == 401
    client, response = await connect(server, path=f"/staff?pass={staff_token}")
    assert response.status == 101
    client.send_text(jwt_message(make_jwt("alice")))
    assert (await client.read_json())["type"] == "auth_ok"
    assert (len(server.auth.connections), len(staff.connections)) == (0, 1)


@pytest.mark.gen_test
async def test_a_closed_wsauth_answers_503_and_asks_no_store(serve):
    # A27
    store = SpyStore()
    server = serve(auth=make_auth(tokens=store))
    token = await server.auth.issue_token("alice")
    await server.auth.close()
    answer = await ask(server, f"/ws?token={token}")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert store.redeemed == []


@pytest.mark.gen_test
async def test_a_wsauth_that_closes_during_a_handshake_lets_nobody_through(serve, connect):
    # A27
    class Chat(Echo):
        pass

    store = SpyStore()
    server = serve(Chat, auth=make_auth(tokens=store))
    store.block()
    connecting = asyncio.ensure_future(connect(server))
    await store.entered.wait()
    closing = asyncio.ensure_future(server.auth.close())
    await settle()
    store.release.set()
    client, response = await connecting
    await closing
    if response.status == 101:
        assert (await client.read_close())[0] == 1012
    else:
        assert response.status == 503
    assert len(server.auth.pending) == 0
    assert Chat.events == []


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [SlowBeforeCheck, SlowAfterCheck, SlowWithoutCheck, SlowGet, SlowBareGet])
async def test_a_wsauth_that_closes_while_the_application_prepares_lets_nobody_through(serve, connect, handler):
    # A27
    class Chat(handler):
        waits = asyncio.Event()
        release = asyncio.Event()

    server = serve(Chat)
    connecting = asyncio.ensure_future(connect(server))
    await Chat.waits.wait()
    await server.auth.close()
    Chat.release.set()
    client, response = await connecting
    if response.status == 101:
        client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"hello"))
        assert (await client.read_close())[0] == 1012
    else:
        assert response.status == 503
    assert len(server.auth.pending) == 0
    await client.close()
    await settle()
    assert Chat.events == []


# A39: what is in the log


@pytest.mark.gen_test
async def test_every_refusal_before_the_upgrade_is_one_record(serve, caplog):
    # A39
    caplog.set_level(logging.INFO, "tornado_wsauth")
    server = serve()
    token = await server.auth.issue_token("alice")
    await ask(server, f"/ws?token={token}")
    await until(lambda: len(server.auth.pending) == 0)
    cases: list[tuple[str, dict[str, str | None], int, str | None]] = [
        ("/ws", {}, 401, None),
        ("/ws?token=" + "A" * 43, {}, 401, None),
        (f"/ws?token={token}", {}, 401, "alice"),
        ("/ws", {"method": "DELETE"}, 405, None),
        ("/ws", {"Upgrade": None}, 426, None),
        ("/ws", {"Origin": "https://evil.example"}, 403, None),
    ]
    for path, headers, status, user_id in cases:
        caplog.clear()
        await ask(server, path, **headers)
        (record,) = (record for record in caplog.records if record.name == "tornado_wsauth")
        assert (record.event, record.code, record.user_id) == ("refused", status, user_id)
        assert (record.remote_ip, record.path) == ("127.0.0.1", "/ws")
        assert record.reason
        assert token not in record.getMessage()


@pytest.mark.gen_test
async def test_on_auth_failed_is_told_the_reason_in_the_log(serve, caplog):
    # A39
    class Chat(Echo):
        def on_auth_failed(self, reason):
            self.events.append(reason)
            raise RuntimeError("the application's statistics are broken")

    server = serve(Chat, auth=make_auth(max_pending=1))
    used, unused = [await server.auth.issue_token("alice") for _ in range(2)]
    await ask(server, f"/ws?token={used}")
    reasons = []
    for path, headers, status in (
        ("/ws", {}, 401),
        (f"/ws?token={used}", {}, 401),
        ("/ws?token=" + "A" * 43, {}, 401),
        (f"/ws?token={unused}", {"Upgrade": None}, 426),
        (f"/ws?token={unused}", {"Origin": "https://evil.example"}, 403),
    ):
        await until(lambda: len(server.auth.pending) == 0)
        caplog.clear()
        assert (await ask(server, path, **headers)).status == status
        reasons += [record.reason for record in caplog.records if getattr(record, "event", "") == "refused"]
    assert Chat.events == reasons
    assert len(set(reasons)) == 5


# A11: whatever a subclass overrides


class App(WebSocketHandler):
    """What an application did before it met us. Its callbacks write down what reached them."""

    events: list[Any]

    def open(self, *args, **kwargs):
        self.events.append("open")

    def on_message(self, message):
        self.events.append(message)
        self.write_message(message)

    def on_close(self):
        self.events.append("close")

    def on_ping(self, data):
        self.events.append("ping")

    def on_pong(self, data):
        self.events.append("pong")


class Plain(WebSocketAuthMixin, App):
    """Inherits all its callbacks from a handler that is there already."""


class OverridesPrepare(Plain):
    def prepare(self):
        self.started = True


class OverridesPrepareAsync(Plain):
    async def prepare(self):
        await asyncio.sleep(0)


class CallsTornadosPrepare(Plain):
    def prepare(self):
        return WebSocketHandler.prepare(self)


class SwallowsPrepare(Plain):
    async def prepare(self):
        with contextlib.suppress(BaseException):
            await super().prepare()


class SwallowsPrepareAndClears(Plain):
    async def prepare(self):
        try:
            await super().prepare()
        except BaseException:
            self.clear()
            self.set_status(200)


class ReturnsPrepare(Plain):
    def prepare(self):
        return super().prepare()


class DropsPrepare(Plain):
    """Forgets the await: the check never runs there."""

    def prepare(self):
        awaitable = super().prepare()
        if asyncio.iscoroutine(awaitable):
            awaitable.close()


class PreparesTwice(Plain):
    async def prepare(self):
        await super().prepare()
        await super().prepare()


class PreparesInBackground(Plain):
    def prepare(self):
        self.background = asyncio.ensure_future(super().prepare())
        self.background.add_done_callback(lambda task: task.cancelled() or task.exception())


class OverridesInitialize(Plain):
    def initialize(self):
        self.started = True


class OverridesInit(Plain):
    def __init__(self, application, request, **kwargs):
        WebSocketHandler.__init__(self, application, request, **kwargs)


class OverridesInitAndPrepare(OverridesInit):
    def prepare(self):
        pass


class OverridesGetCurrentUser(Plain):
    def get_current_user(self):
        return "admin"


class OverridesCheckOrigin(Plain):
    def check_origin(self, origin):
        return True


class OverridesGet(Plain):
    async def get(self, *args, **kwargs):
        await WebSocketHandler.get(self, *args, **kwargs)


class OverridesPrepareAndGet(OverridesGet):
    def prepare(self):
        pass


class OverridesInitPrepareAndGet(OverridesInitAndPrepare):
    async def get(self, *args, **kwargs):
        await WebSocketHandler.get(self, *args, **kwargs)


class SwallowsGet(Plain):
    def prepare(self):
        pass

    async def get(self, *args, **kwargs):
        try:
            await super().get(*args, **kwargs)
        except BaseException:
            await WebSocketHandler.get(self, *args, **kwargs)


class OverridesOnFinish(Plain):
    def on_finish(self):
        pass


class OverridesLogException(Plain):
    def log_exception(self, typ, value, tb):
        pass


class OverridesWriteError(Plain):
    def write_error(self, status_code, **kwargs):
        self.set_status(200)
        self.finish("oops")


class OverridesSendError(Plain):
    def send_error(self, status_code=500, **kwargs):
        pass


class OverridesDefaultHeaders(Plain):
    def set_default_headers(self):
        self.set_header("Server", "mine")


class OverridesSubprotocol(Plain):
    def select_subprotocol(self, subprotocols):
        return None


class OverridesProtocol(Plain):
    def get_websocket_protocol(self):
        from tornado.websocket import WebSocketProtocol13

        return WebSocketProtocol13(self, False, super().get_websocket_protocol().params)


class CallsTornadosConnectionClose(Plain):
    def on_connection_close(self):
        WebSocketHandler.on_connection_close(self)


class OverridesConnectionClose(Plain):
    """Tornado itself does not call on_close() then."""

    def on_connection_close(self):
        pass


class OverridesAsyncCallbacks(Plain):
    async def open(self):
        await asyncio.sleep(0)
        self.events.append("open")

    async def on_message(self, message):
        await asyncio.sleep(0)
        self.events.append(message)
        await self.write_message(message)


class CallsSuper(Plain):
    def open(self, *args, **kwargs):
        return super().open(*args, **kwargs)

    def on_message(self, message):
        return super().on_message(message)

    def on_close(self):
        return super().on_close()


class InFront:
    """Somebody else's mixin, written without super()."""

    def prepare(self):
        pass

    def open(self):
        self.events.append("open")

    def on_message(self, message):
        self.events.append(message)
        self.write_message(message)

    def on_close(self):
        self.events.append("close")


class BehindAnotherMixin(InFront, WebSocketAuthMixin, WebSocketHandler):
    pass


class BehindItsOwnBase(App, WebSocketAuthMixin, WebSocketHandler):
    pass


class DeepApp(App):
    def prepare(self):
        self.started = True


class OverDeepBase(WebSocketAuthMixin, DeepApp):
    pass


class OwnMixin(WebSocketAuthMixin):
    """An application's own mixin on top of ours."""

    def prepare(self):
        self.started = True


class BehindOwnMixin(OwnMixin, App):
    pass


class AssignsInInitialize(Plain):
    def initialize(self):
        self.open, self.on_message, self.on_close = self.opened, self.arrived, self.closed

    def opened(self, *args, **kwargs):
        self.events.append("open")

    def arrived(self, message):
        self.events.append(message)
        self.write_message(message)

    def closed(self):
        self.events.append("close")


class AssignsInPrepare(AssignsInInitialize):
    def initialize(self):
        pass

    def prepare(self):
        AssignsInInitialize.initialize(self)


class AssignsAfterPrepare(AssignsInInitialize):
    def initialize(self):
        pass

    async def prepare(self):
        await super().prepare()
        AssignsInInitialize.initialize(self)


class AssignsInInit(AssignsInInitialize):
    def initialize(self):
        pass

    def __init__(self, application, request, **kwargs):
        super().__init__(application, request, **kwargs)
        AssignsInInitialize.initialize(self)


class AssignsInGet(AssignsInInitialize):
    def initialize(self):
        pass

    async def get(self, *args, **kwargs):
        AssignsInInitialize.initialize(self)
        await super().get(*args, **kwargs)


class AssignsInSubprotocol(AssignsInInitialize):
    """As late as it can be: Tornado asks this right before the 101."""

    def initialize(self):
        pass

    def select_subprotocol(self, subprotocols):
        AssignsInInitialize.initialize(self)

    def get_compression_options(self):
        AssignsInInitialize.initialize(self)


class AssignsOnFinish(AssignsInInitialize):
    """Later still: Tornado calls this after the 101."""

    def initialize(self):
        pass

    def on_finish(self):
        AssignsInInitialize.initialize(self)


class AssignsAfterFinish(AssignsInInitialize):
    """Later still: ``finish()`` returns when the 101 is out and Tornado is about to call open()."""

    def initialize(self):
        pass

    def finish(self, chunk=None):
        finished = super().finish(chunk)
        AssignsInInitialize.initialize(self)
        return finished


class WritesItsDict(AssignsInInitialize):
    def initialize(self):
        pass

    def on_finish(self):
        self.__dict__.update(open=self.opened, on_message=self.arrived, on_close=self.closed)


class Callback:
    """A callable object as a handler's method: it is not bound, so the class tells it where to write."""

    def __init__(self, note: Callable[..., Any]) -> None:
        self.note = note

    def __get__(self, instance: Any, owner: type) -> Any:
        return functools.partial(self.note, instance)


class UsesProperties(Plain):
    """Data descriptors, which nothing on the instance could shadow."""

    @property
    def on_message(self):
        return self.arrived

    @property
    def on_ping(self):
        return lambda data: self.events.append("ping")

    @property
    def write_message(self):
        return functools.partial(WebSocketHandler.write_message, self)

    def arrived(self, message):
        self.events.append(message)
        self.write_message(message)


class AssignsWriteMessage(Plain):
    def initialize(self):
        self.write_message = functools.partial(WebSocketHandler.write_message, self)


class UsesDescriptors(Plain):
    open = Callback(lambda self: self.events.append("open"))
    on_message = Callback(lambda self, message: self.events.append(message) or (self.write_message(message) and None))
    on_close = Callback(lambda self: self.events.append("close"))


class UsesPartialMethods(Plain):
    def note(self, what, *args):
        self.events.append(args[0] if args else what)
        if args:
            self.write_message(args[0])

    open = functools.partialmethod(note, "open")
    on_message = functools.partialmethod(note, "message")
    on_close = functools.partialmethod(note, "close")


class IgnoresAssignment(Plain):
    """Lets nobody set a callback on it."""

    def __setattr__(self, name, value):
        if name not in ("open", "on_message", "on_close"):
            super().__setattr__(name, value)


class OverridesClose(Plain):
    def close(self, code=None, reason=None):
        self.asked_to_close = True


class OverridesWriteMessage(Plain):
    def write_message(self, message, binary=False):
        return None


class OverridesWritingIntoEnvelope(Plain):
    def write_message(self, message, binary=False):
        return super().write_message({"envelope": message})


WORKING = [
    Plain,
    OverridesPrepare,
    OverridesPrepareAsync,
    CallsTornadosPrepare,
    ReturnsPrepare,
    DropsPrepare,
    PreparesTwice,
    OverridesInitialize,
    OverridesGetCurrentUser,
    OverridesCheckOrigin,
    OverridesOnFinish,
    OverridesLogException,
    OverridesWriteError,
    OverridesDefaultHeaders,
    OverridesSubprotocol,
    CallsTornadosConnectionClose,
    OverridesAsyncCallbacks,
    CallsSuper,
    BehindAnotherMixin,
    BehindItsOwnBase,
    OverDeepBase,
    BehindOwnMixin,
    AssignsInInitialize,
    AssignsInPrepare,
    AssignsInInit,
    AssignsAfterPrepare,
    AssignsInGet,
    AssignsWriteMessage,
    UsesProperties,
    UsesDescriptors,
    UsesPartialMethods,
    SwallowsPrepare,
]
"""They must be closed to strangers, and open to their users."""

HOSTILE = [
    SwallowsPrepareAndClears,
    PreparesInBackground,
    OverridesInit,
    OverridesInitAndPrepare,
    OverridesGet,
    OverridesPrepareAndGet,
    OverridesInitPrepareAndGet,
    SwallowsGet,
    OverridesSendError,
    OverridesProtocol,
    OverridesConnectionClose,
    AssignsInSubprotocol,
    AssignsOnFinish,
    AssignsAfterFinish,
    WritesItsDict,
    IgnoresAssignment,
    OverridesClose,
    OverridesWriteMessage,
    OverridesWritingIntoEnvelope,
]
"""They need only be closed to strangers: what they do to their users is theirs."""


@pytest.mark.gen_test
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("handler", WORKING + HOSTILE)
async def test_a_handler_is_closed_to_clients_without_a_token_whatever_it_overrides(serve, handler):
    # A11
    class Chat(handler):
        events = []

    server = serve(Chat)
    used = await server.auth.issue_token("alice")
    await status_of(server, f"/ws?token={used}")
    Chat.events.clear()
    for path in ("/ws", "/ws?token=" + "A" * 43, "/ws?token=x", f"/ws?token={used}"):
        assert await status_of(server, path) != 101
    assert Chat.events == []
    assert len(server.auth.connections) == 0


HALF_AUTHENTICATED = {
    "no JWT": [frame(b"hello")],
    "a bad JWT": [frame(jwt_message(make_jwt(secret="k" * 40)).encode()), frame(b"hello")],
    "another user's JWT": [frame(jwt_message(make_jwt("bob")).encode()), frame(b"hello")],
    "silence": [],
    "pings": [frame(b"x", PING), frame(b"x", PONG)],
}


async def data_received_with_a_token_and(sent: list[bytes], server: Server) -> bytes:
    """Connect with a token, send ``sent`` while others broadcast, say goodbye; return what data came back."""
    received = b""
    client = await RawClient.connect(server.port)
    client.send(upgrade_request(f"/ws?token={await server.auth.issue_token('alice')}"))
    try:
        async with asyncio.timeout(0.2):
            head = await client.reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            return b""
        client.send(b"".join(sent))
        for _ in range(5):
            server.auth.connections.broadcast("secret")
            server.auth.connections.send_to_user("alice", "secret")
            await settle()
        client.send(frame(b"\x03\xe8", CLOSE))  # 1000: normal closure
        while True:
            async with asyncio.timeout(0.2):
                opcode, payload = await client.read_frame()
            if opcode not in (PING, PONG, CLOSE):
                received += payload
    except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
        return received
    finally:
        await client.close()


@pytest.mark.gen_test
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("handler", WORKING + HOSTILE)
async def test_a_handler_is_closed_to_clients_with_a_token_alone_whatever_it_overrides(serve, handler):
    # A11, A12
    class Chat(handler):
        events = []

    clock = ManualClock()
    server = serve(Chat, auth=make_auth(clock=clock, max_tokens_per_user=len(HALF_AUTHENTICATED)))
    for name, sent in HALF_AUTHENTICATED.items():
        assert await data_received_with_a_token_and(sent, server) == b"", name
        assert Chat.events == [], name
        assert len(server.auth.connections) == 0, name
    clock.advance(10)
    await until(lambda: len(server.auth.pending) == 0)
    assert Chat.events == []


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", WORKING)
async def test_an_authenticated_client_finds_the_handler_working_as_it_was_written(serve, login, handler):
    # A11
    class Chat(handler):
        events = []

    server = serve(Chat)
    client = await login(server)
    client.send_text("one")
    assert await client.read_frame() == (TEXT, b"one")
    server.auth.connections.broadcast("to all")
    assert await client.read_frame() == (TEXT, b"to all")
    client.send(frame(b"x", PING) + frame(b"two"))
    assert await client.read_frame() == (PONG, b"x")
    assert await client.read_frame() == (TEXT, b"two")
    await client.close()
    await until(lambda: "close" in Chat.events)
    assert [event for event in Chat.events if event != "ping"] == ["open", "one", "two", "close"]
    assert len(server.auth.connections) == 0


@pytest.mark.gen_test
async def test_ours_are_the_bare_frames_of_the_protocol_even_where_write_message_is_overridden(serve, connect):
    # A11
    class Chat(OverridesWritingIntoEnvelope):
        events = []

    server = serve(Chat)
    client, _ = await connect(server)
    client.send_text(jwt_message(make_jwt()))
    assert (await client.read_json()).get("type") == "auth_ok"
    client.send_text("hello")
    assert await client.read_json() == {"envelope": "hello"}


@pytest.mark.gen_test
async def test_a_handler_whose_close_is_overridden_still_loses_a_client_we_refuse(serve, connect):
    # A11
    class Chat(OverridesClose):
        events = []

    server = serve(Chat)
    client, _ = await connect(server)
    client.send_text("hello")
    assert (await client.read_close())[0] == 4400


@pytest.mark.gen_test
async def test_a_handler_may_replace_its_callbacks_in_open(serve, login):
    # A11
    class Chat(Plain):
        events = []

        def open(self):
            self.events.append("open")
            self.on_message = self.second

        def second(self, message):
            self.events.append(("second", message))
            self.write_message("from the second")

    server = serve(Chat)
    client = await login(server)
    client.send_text("hello")
    assert (await client.read_frame())[1] == b"from the second"
    assert Chat.events == ["open", ("second", "hello")]


class SendsThroughSuper(App):
    """A base handler with its own way of sending, which looks nothing up on the instance."""

    def send(self, message):
        return super().write_message(message)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "write",
    [
        lambda handler, message: handler.write_message(message),
        lambda handler, message: handler.send(message),
        lambda handler, message: WebSocketHandler.write_message(handler, message),
    ],
    ids=["its own", "super's", "Tornado's"],
)
async def test_what_an_application_writes_to_a_client_that_is_not_authenticated_does_not_reach_it(
    serve, connect, write
):
    # A12: a handler that enters itself into the set of waiters too early
    waiters = set()

    class Chat(WebSocketAuthMixin, SendsThroughSuper):
        events = []

        async def prepare(self):
            await super().prepare()
            waiters.add(self)

        def load_auth_user(self, claims):
            attempt("much too early")
            return claims["sub"]

    def attempt(message):
        for waiter in waiters:
            with contextlib.suppress(WebSocketClosedError):
                write(waiter, message).add_done_callback(lambda future: future.exception())

    server = serve(Chat)
    client, _ = await connect(server)
    attempt("too early")
    await settle()
    client.send_text(jwt_message(make_jwt()))
    assert await client.read_json() == {"type": "auth_ok", "user_id": "alice", "expires_at": ANY}
    attempt("now")
    assert (await client.read_frame())[1] == b"now"


@pytest.mark.gen_test
@pytest.mark.parametrize("last", [jwt_message(make_jwt(secret="k" * 40)), "hello"])
async def test_callbacks_assigned_while_the_client_waits_are_closed_to_it_too(serve, connect, last):
    # A11: whoever assigns them, such as a task that prepare() started
    class Chat(AssignsInInitialize):
        events = []

        async def prepare(self):
            await super().prepare()
            waiting.append(self)

        def initialize(self):
            pass

    waiting = []
    server = serve(Chat)
    client, _ = await connect(server)
    AssignsInInitialize.initialize(waiting[0])
    client.send(frame(last.encode()) + frame(b"hello"))
    code, _ = await client.read_close()
    assert code in (4400, 4401)
    await client.close()
    await until(lambda: len(server.auth.pending) == 0)
    await settle()
    assert Chat.events == []


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_callbacks_that_load_auth_user_chooses_are_the_ones_in_use(serve, login, connect, asynchronous):
    # A11
    class Chat(AssignsInInitialize):
        events = []

        def initialize(self):
            pass

        def load_auth_user(self, claims):
            return self.load(claims) if asynchronous else self.choose(claims)

        async def load(self, claims):
            await asyncio.sleep(0)
            return self.choose(claims)

        def choose(self, claims):
            AssignsInInitialize.initialize(self)
            return None if claims.get("banned") else claims["sub"]

    server = serve(Chat)
    stranger, _ = await connect(server)
    stranger.send(frame(jwt_message(make_jwt(banned=True)).encode()) + frame(b"hello"))
    assert await stranger.read_close() == (4403, "forbidden")
    await stranger.close()
    client = await login(server)
    client.send_text("one")
    assert (await client.read_frame())[1] == b"one"
    assert len(server.auth.connections) == 1
    await client.close()
    await until(lambda: "close" in Chat.events)
    assert Chat.events == ["open", "one", "close"]
    assert len(server.auth.connections) == 0


@pytest.mark.gen_test
async def test_a_handler_may_replace_its_callbacks_with_every_message(serve, login):
    # A11
    class Chat(Plain):
        events = []

        def on_message(self, message):
            self.on_message = self.second
            self.write_message("first")

        def second(self, message):
            self.on_close = lambda: self.events.append("gone")
            self.write_message("second")

    server = serve(Chat)
    client = await login(server)
    client.send(frame(b"x") + frame(b"x"))
    assert [(await client.read_frame())[1] for _ in range(2)] == [b"first", b"second"]
    await client.close()
    await until(lambda: len(Chat.events) == 2)
    assert Chat.events == ["open", "gone"]
    assert len(server.auth.connections) == 0


@pytest.mark.parametrize("base", [WebSocketHandler, App])
def test_the_mixin_behind_websockethandler_is_a_type_error(base):
    # A11
    with pytest.raises(TypeError, match=r"WebSocketAuthMixin.*before"):
        type("Chat", (base, WebSocketAuthMixin), {})


@pytest.mark.parametrize("name", ["open", "on_close", "finish", "get"])
def test_a_callback_that_is_no_method_is_a_type_error(name):
    """Data descriptors win over what stands on the instance, where the gate is."""
    # A11
    for body in ({name: property(lambda self: print)}, {"__slots__": (name,)}):
        with pytest.raises(TypeError, match=name):
            type("Chat", (WebSocketAuthMixin, App), body)
        base = type("Base", (App,), body)
        with pytest.raises(TypeError, match=f"{name}|lay-out"):  # Python itself refuses the base with slots
            type("Chat", (WebSocketAuthMixin, base), {})


def test_a_handler_that_answers_every_look_up_itself_is_a_type_error():
    # A11
    def answer(self, name):
        return object.__getattribute__(self, name)

    with pytest.raises(TypeError, match="__getattribute__"):
        type("Chat", (WebSocketAuthMixin, App), {"__getattribute__": answer})
    with pytest.raises(TypeError, match="__getattribute__"):
        type("Chat", (WebSocketAuthMixin, type("Base", (App,), {"__getattribute__": answer})), {})


def test_an_own_mixin_behind_websockethandler_is_a_type_error_too():
    # A11
    with pytest.raises(TypeError, match="before"):
        type("Chat", (WebSocketHandler, OwnMixin), {})


@pytest.mark.gen_test
async def test_a_mixin_behind_websockethandler_is_closed_even_if_the_type_error_was_silenced(serve):
    # A11
    class Quiet:
        def __init_subclass__(cls, **kwargs: Any) -> None:
            pass

    try:
        chat = type("Chat", (Quiet, App, WebSocketAuthMixin), {"events": []})
    except TypeError:
        return
    server = serve(chat)
    assert await status_of(server, "/ws") != 101
    assert chat.events == []
