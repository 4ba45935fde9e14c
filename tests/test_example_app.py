"""The reference application: its routes and WebSocket over real sockets, its page, and ``python -m example_app``."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import jwt
import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.testing import bind_unused_port
from tornado.websocket import WebSocketClientConnection, websocket_connect

from example_app.accounts import ALGORITHM, JWT_LIFETIME, USERS, Accounts
from example_app.app import PAGE, make_app
from example_app.build import ensure_page
from example_app.failures import REASONS
from tornado_wsauth import ConfigurationError
from tornado_wsauth.testing.client import frame, jwt_message, upgrade_request

SECRET = "the secret of the example's tests, which is long enough"
FAST = 10  # milliseconds between ticks, or between broadcasts, of a test that waits for some
NEVER = 3_600_000


class Site:
    """The running example, and a visitor of it."""

    def __init__(self, **options: Any) -> None:
        bound, self.port = bind_unused_port()
        self.accounts = Accounts(SECRET)
        self.app = make_app(self.accounts, **{"tick_interval_ms": NEVER, "broadcast_interval_ms": NEVER, **options})
        self.app.settings["broadcaster"].start()
        self._server = HTTPServer(self.app)
        self._server.add_socket(bound)
        self._http = AsyncHTTPClient(force_instance=True)
        self._sockets: list[WebSocketClientConnection] = []

    async def fetch(self, path: str, **options: Any) -> HTTPResponse:
        return await self._http.fetch(f"http://127.0.0.1:{self.port}{path}", raise_error=False, **options)

    async def post(self, path: str, bearer: str | None = None) -> HTTPResponse:
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        return await self.fetch(path, method="POST", body="", headers=headers)

    async def log_in(self, username: str = "alice") -> str:
        """Return the secret of a new login."""
        body = json.dumps({"username": username, "password": USERS[username]})
        response = await self.fetch("/login", method="POST", body=body)
        return str(json.loads(response.body)["session"])

    async def jwt(self, session: str, path: str = "/jwt") -> str:
        response = await self.post(path, session)
        assert response.code == 200, response.body
        return str(json.loads(response.body)["jwt"])

    async def jwt_of(self, username: str = "alice") -> str:
        """Return a JWT of a new login."""
        return await self.jwt(await self.log_in(username))

    async def token(self, jwt: str, path: str = "/ws/token") -> str:
        response = await self.post(path, jwt)
        assert response.code == 200, response.body
        return str(json.loads(response.body)["token"])

    async def connect(self, token: str | None) -> WebSocketClientConnection:
        query = "" if token is None else f"?token={token}"
        ws = await websocket_connect(f"ws://127.0.0.1:{self.port}/demo{query}")
        self._sockets.append(ws)
        return ws

    async def enter(self, username: str = "alice", session: str | None = None) -> WebSocketClientConnection:
        """Go through the whole handshake, with a login of its own or with this one."""
        jwt = await self.jwt(session or await self.log_in(username))
        ws = await self.connect(await self.token(jwt))
        await present(ws, jwt)
        assert (await read(ws))["type"] == "auth_ok"
        assert (await read(ws))["event"] == "opened"
        return ws

    async def close(self) -> None:
        for ws in self._sockets:
            ws.close()
        self._http.close()
        self._server.stop()
        self.app.settings["broadcaster"].stop()
        await self.app.settings["wsauth"].close()
        await self._server.close_all_connections()


async def present(ws: WebSocketClientConnection, jwt: str) -> None:
    await ws.write_message(json.dumps({"type": "jwt", "token": jwt}))


async def read(ws: WebSocketClientConnection) -> Any:
    message = await ws.read_message()
    assert message is not None, (ws.close_code, ws.close_reason)
    return json.loads(message)


async def say(ws: WebSocketClientConnection, **message: Any) -> None:
    await ws.write_message(json.dumps(message))


async def read_kinds(ws: WebSocketClientConnection, kinds: set[str]) -> list[Any]:
    """Read until one message of each of ``kinds`` has come."""
    messages = []
    while kinds:
        messages.append(await read(ws))
        kinds = kinds - {messages[-1]["type"]}
    return messages


async def how_it_ends(ws: WebSocketClientConnection) -> tuple[int | None, str | None]:
    """Return the close code and reason; any message before them is a failure."""
    assert await ws.read_message() is None
    return ws.close_code, ws.close_reason


async def refused_with(connecting: Awaitable[WebSocketClientConnection]) -> int:
    with pytest.raises(HTTPClientError) as refusal:
        await connecting
    return refusal.value.code


@pytest.fixture
def visit(io_loop: IOLoop) -> Iterator[Callable[..., Site]]:
    """Start the example: ``site = visit(**options of make_app)``."""
    sites: list[Site] = []

    def start(**options: Any) -> Site:
        sites.append(Site(**options))
        return sites[-1]

    yield start
    for site in sites:
        io_loop.run_sync(site.close)


# Logging in -----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("username", USERS)
async def test_the_right_password_earns_a_login_and_the_login_earns_jwts_of_a_minute(visit, username):
    site = visit()
    body = json.dumps({"username": username, "password": USERS[username]})
    response = await site.fetch("/login", method="POST", body=body)
    assert response.code == 200
    assert response.headers["Cache-Control"] == "no-store"
    login = json.loads(response.body)
    assert login["user_id"] == username
    response = await site.post("/jwt", login["session"])
    assert response.headers["Cache-Control"] == "no-store"
    answer = json.loads(response.body)
    assert answer["expires_in"] == JWT_LIFETIME
    assert jwt.get_unverified_header(answer["jwt"])["kid"] == "key-1"
    claims = jwt.decode(answer["jwt"], SECRET, algorithms=[ALGORITHM])
    assert (claims["sub"], claims["sid"]) == (username, login["session_id"])
    assert claims["exp"] == int(claims["iat"] + JWT_LIFETIME)


@pytest.mark.gen_test
async def test_the_secret_of_a_login_is_not_in_its_jwts(visit):
    site = visit()
    session = await site.log_in()
    claims = jwt.decode(await site.jwt(session), SECRET, algorithms=[ALGORITHM])
    assert session not in claims.values()
    assert (await site.post("/jwt", claims["sid"])).code == 401


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "body",
    [
        '{"username": "alice", "password": "builder"}',
        '{"username": "alice", "password": ""}',
        '{"username": "mallory", "password": "wonderland"}',
        '{"username": "alice"}',
        '{"username": ["alice"], "password": "wonderland"}',
        '{"username": "alice", "password": {"$ne": null}}',
        '{"username": "alice", "password": "\\ud800"}',
        '["alice", "wonderland"]',
        "null",
        "",
        "username=alice&password=wonderland",
        "\xff",
        "[" * 100_000,
    ],
    ids=lambda body: body[:24] or "nothing",
)
async def test_any_other_body_is_401_and_earns_nothing(visit, body):
    response = await visit().fetch("/login", method="POST", body=body.encode("latin1"))
    assert response.code == 401
    assert json.loads(response.body) == {"error": "wrong_login"}


@pytest.mark.gen_test
@pytest.mark.parametrize("bearer", [None, "", "x", "None"])
@pytest.mark.parametrize(
    "path", ["/jwt", "/logout", "/logout/here", "/demo/expired-jwt", "/demo/rotate-keys", "/demo/restart"]
)
async def test_only_a_login_gets_in_here(visit, path, bearer):
    site = visit()
    await site.log_in()
    response = await site.post(path, bearer)
    assert response.code == 401
    assert json.loads(response.body) == {"error": "unauthorized"}
    assert site.accounts.key_id == "key-1"
    assert not site.app.settings["restart"].is_set()


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/ws/token", "/demo/expired-token"])
async def test_a_token_is_had_for_the_jwt_of_a_login_and_not_without(visit, path):
    site = visit()
    assert (await site.post(path)).code == 401
    assert len(await site.token(await site.jwt_of(), path)) == 43


# Messages -------------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_echo_tick_and_broadcast_come_after_auth_ok_and_nothing_before_it(visit):
    site = visit(tick_interval_ms=FAST, broadcast_interval_ms=FAST, starts=3)
    bob = await site.enter("bob")
    jwt = await site.jwt_of("alice")
    alice = await site.connect(await site.token(jwt))
    for _ in range(3):  # messages go out while alice waits
        await read_kinds(bob, {"tick", "broadcast"})
    await present(alice, jwt)
    first = await read(alice)
    assert (first["type"], first["user_id"]) == ("auth_ok", "alice")
    await alice.write_message("hello")
    messages = await read_kinds(alice, {"tick", "broadcast", "echo"})
    by_type = {message["type"]: message for message in reversed(messages)}
    assert by_type["echo"] == {"type": "echo", "message": "hello"}
    assert (by_type["broadcast"]["online"], by_type["broadcast"]["starts"]) == (2, 3)
    assert by_type["broadcast"]["key_id"] == "key-1"


@pytest.mark.gen_test
async def test_each_connection_counts_its_own_ticks_from_one(visit):
    site = visit(tick_interval_ms=FAST)
    early = await site.enter("alice")
    assert [(await read(early))["number"] for _ in range(3)] == [1, 2, 3]
    late = await site.enter("alice")
    assert [(await read(late))["number"] for _ in range(3)] == [1, 2, 3]


@pytest.mark.gen_test
async def test_an_echo_of_bytes_that_are_no_text_is_text(visit):
    ws = await visit().enter()
    await ws.write_message(b"\xff", binary=True)
    assert await read(ws) == {"type": "echo", "message": "\ufffd"}


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "message",
    [
        "[1]",
        "null",
        "{}",
        '{"type": "join", "group": "green"}',
        '{"type": "join", "group": ["red"]}',
        '{"type": "say", "to": "red", "message": 1}',
        '{"type": "ping", "id": "1"}',
        '{"type": "fail"}',
    ],
)
async def test_what_the_application_does_not_know_is_echoed(visit, message):
    ws = await visit().enter()
    await ws.write_message(message)
    assert await read(ws) == {"type": "echo", "message": message}


@pytest.mark.gen_test
async def test_a_ping_is_answered_with_its_number(visit):
    ws = await visit().enter()
    await say(ws, type="ping", id=7)
    assert await read(ws) == {"type": "pong", "id": 7}


@pytest.mark.gen_test
async def test_a_group_hears_what_is_said_to_it_and_nobody_else_does(visit):
    site = visit()
    alice, bob = await site.enter("alice"), await site.enter("bob")
    await say(bob, type="join", group="red")
    joined = await read(bob)
    assert (joined["type"], joined["event"], joined["groups"]) == ("session", "joined red", ["red"])
    await say(alice, type="say", to="red", message="hi")
    await say(alice, type="say", to="echo", message="alone")
    assert await read(bob) == {"type": "group", "group": "red", "from": "alice", "message": "hi"}
    assert await read(alice) == {"type": "echo", "message": "alone"}
    await say(bob, type="leave", group="red")
    left = await read(bob)
    assert (left["event"], left["groups"]) == ("left red", [])
    await say(alice, type="say", to="red", message="anyone?")
    await say(bob, type="ping", id=1)
    assert (await read(bob))["type"] == "pong"


# The failures that the page provokes ----------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_without_a_token_there_is_no_upgrade(visit):
    assert await refused_with(visit().connect(None)) == 401


@pytest.mark.gen_test
async def test_an_expired_token_opens_nothing(visit):
    site = visit()
    token = await site.token(await site.jwt_of(), "/demo/expired-token")
    assert await refused_with(site.connect(token)) == 401


@pytest.mark.gen_test
async def test_a_token_opens_one_connection_and_no_second(visit):
    site = visit()
    token = await site.token(await site.jwt_of())
    await site.connect(token)
    assert await refused_with(site.connect(token)) == 401


@pytest.mark.gen_test
async def test_a_jwt_with_a_changed_signature_closes_4401(visit):
    site = visit()
    jwt = await site.jwt_of()
    ws = await site.connect(await site.token(jwt))
    head, _, signature = jwt.rpartition(".")
    await present(ws, f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}")
    assert await how_it_ends(ws) == (4401, "jwt_invalid")


@pytest.mark.gen_test
async def test_an_expired_jwt_closes_4401_and_has_no_other_fault(visit):
    site = visit()
    session = await site.log_in()
    ws = await site.connect(await site.token(await site.jwt(session)))
    await present(ws, await site.jwt(session, "/demo/expired-jwt"))
    assert await how_it_ends(ws) == (4401, "jwt_expired")


@pytest.mark.gen_test
async def test_the_jwt_of_another_user_closes_4403(visit):
    site = visit()
    ws = await site.connect(await site.token(await site.jwt_of("alice")))
    await present(ws, await site.jwt_of("bob"))
    assert await how_it_ends(ws) == (4403, "user_mismatch")


@pytest.mark.gen_test
async def test_a_first_message_that_is_no_json_closes_4400(visit):
    site = visit()
    ws = await site.connect(await site.token(await site.jwt_of()))
    await ws.write_message("hello")
    assert await how_it_ends(ws) == (4400, "bad_message")


@pytest.mark.gen_test
async def test_silence_closes_4408(visit):
    site = visit(auth_timeout=0.05)
    ws = await site.connect(await site.token(await site.jwt_of()))
    assert await how_it_ends(ws) == (4408, "auth_timeout")


@pytest.mark.gen_test
async def test_a_lost_connection_ends_without_a_close_frame(visit):
    ws = await visit().enter()
    await say(ws, type="fail", how="lose")
    assert await how_it_ends(ws) == (None, None)


@pytest.mark.gen_test
async def test_an_exception_in_the_handler_closes_1011(visit):
    ws = await visit().enter()
    await say(ws, type="fail", how="error")
    assert await how_it_ends(ws) == (1011, "internal")


@pytest.mark.gen_test
@pytest.mark.parametrize(("code", "reason"), REASONS.items())
async def test_a_code_that_is_asked_for_is_what_the_server_closes_with(visit, code, reason):
    ws = await visit().enter()
    await say(ws, type="fail", how="close", code=code)
    assert await how_it_ends(ws) == (code, reason)


@pytest.mark.gen_test
@pytest.mark.parametrize("wanted", [{"how": "close", "code": 4409}, {"how": "close"}, {"how": "else"}])
async def test_a_failure_that_nobody_offers_ends_nothing(visit, wanted):
    ws = await visit().enter()
    await say(ws, type="fail", **wanted)
    await say(ws, type="ping", id=1)
    assert (await read(ws))["type"] == "pong"


@pytest.mark.gen_test
async def test_a_failure_ends_the_connection_that_asked_for_it_and_no_other_of_the_user(visit):
    site = visit()
    session = await site.log_in()
    failing, other = await site.enter(session=session), await site.enter(session=session)
    await say(failing, type="fail", how="error")
    assert (await how_it_ends(failing))[0] == 1011
    await say(other, type="ping", id=1)
    assert (await read(other))["type"] == "pong"


@pytest.mark.gen_test
async def test_a_hundred_messages_at_once_close_4429(visit):
    ws = await visit().enter()
    for number in range(100):
        ws.write_message(str(number))
    echoes = 0
    while await ws.read_message() is not None:
        echoes += 1
    assert (ws.close_code, ws.close_reason) == (4429, "too_many")
    assert 50 <= echoes < 100


@pytest.mark.gen_test
async def test_a_fifth_connection_takes_the_place_of_the_first(visit):
    site = visit()
    first, *others = [await site.enter() for _ in range(5)]
    assert await how_it_ends(first) == (4409, "replaced")
    for ws in others:
        await say(ws, type="ping", id=1)
        assert (await read(ws))["type"] == "pong"


# Keys, and a restart --------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_new_keys_leave_live_connections_alone_and_refuse_the_jwts_of_the_key_before_last(visit):
    site = visit()
    session = await site.log_in()
    live = await site.enter(session=session)
    first = await site.jwt(session)
    assert (await site.post("/demo/rotate-keys", session)).code == 204
    assert jwt.get_unverified_header(await site.jwt(session))["kid"] == "key-2"
    token = await site.token(first)  # the key before is still good
    assert (await site.post("/demo/rotate-keys", session)).code == 204
    assert (await site.post("/ws/token", first)).code == 401
    ws = await site.connect(token)
    await present(ws, first)
    assert await how_it_ends(ws) == (4401, "jwt_invalid")
    await site.enter(session=session)
    await say(live, type="ping", id=1)
    assert (await read(live))["type"] == "pong"
    await present(live, await site.jwt(session))
    assert (await read(live))["type"] == "auth_ok"


@pytest.mark.gen_test
async def test_an_expired_token_is_had_for_a_jwt_of_the_new_key_too(visit):
    site = visit()
    session = await site.log_in()
    for _ in range(2):
        await site.post("/demo/rotate-keys", session)
    assert await site.token(await site.jwt(session), "/demo/expired-token")


@pytest.mark.gen_test
async def test_whoever_is_logged_in_can_ask_for_a_restart(visit):
    site = visit()
    assert not site.app.settings["restart"].is_set()
    assert (await site.post("/demo/restart", await site.log_in())).code == 202
    assert site.app.settings["restart"].is_set()


def test_a_secret_that_is_too_short_is_refused_before_anybody_logs_in():
    with pytest.raises(ConfigurationError, match="32"):
        Accounts("too short")


# Logging out ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_logging_out_ends_all_sockets_of_the_user_at_once_and_nobody_elses(visit):  # A25
    site = visit()
    session = await site.log_in()
    early = await site.token(await site.jwt(session))
    first, second, other = await site.enter(), await site.enter(session=session), await site.enter("bob")
    assert (await site.post("/logout", session)).code == 204
    assert await how_it_ends(first) == await how_it_ends(second) == (4403, "revoked")
    assert await refused_with(site.connect(early)) == 401
    await other.write_message("still here")
    assert await read(other) == {"type": "echo", "message": "still here"}


@pytest.mark.gen_test
async def test_logging_out_here_ends_the_sockets_of_this_login_and_not_of_the_users_others(visit):
    site = visit()
    here, elsewhere = await site.log_in(), await site.log_in()
    ends, stays = await site.enter(session=here), await site.enter(session=elsewhere)
    assert (await site.post("/logout/here", here)).code == 204
    assert await how_it_ends(ends) == (4403, "revoked")
    await say(stays, type="ping", id=1)
    assert (await read(stays))["type"] == "pong"
    assert (await site.post("/jwt", here)).code == 401
    assert (await site.post("/jwt", elsewhere)).code == 200


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/logout", "/logout/here"])
async def test_a_jwt_of_before_the_logout_is_good_for_nothing_and_the_next_login_is_good(visit, path):  # A25
    site = visit()
    session = await site.log_in()
    jwt = await site.jwt(session)
    assert (await site.post(path, session)).code == 204
    assert (await site.post(path, session)).code == 401
    assert (await site.post("/ws/token", jwt)).code == 401
    ws = await site.connect(await site.app.settings["wsauth"].issue_token("alice"))
    await present(ws, jwt)
    assert await how_it_ends(ws) == (4401, "jwt_invalid")
    await site.enter()


@pytest.mark.gen_test
async def test_another_jwt_renews_the_connection_and_its_ticker_counts_on(visit):  # A24
    site = visit(tick_interval_ms=FAST)
    ws = await site.enter()
    (tick,) = await read_kinds(ws, {"tick"})
    await present(ws, await site.jwt_of())
    *ticks, auth_ok = await read_kinds(ws, {"auth_ok"})
    assert auth_ok["user_id"] == "alice"
    ticks += await read_kinds(ws, {"tick"})
    numbers = [message["number"] for message in [tick, *ticks] if message["type"] == "tick"]
    assert numbers == list(range(1, len(numbers) + 1))


# The page -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Return a folder that looks like what the build leaves."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text('<script src="/assets/index-1a2b.js"></script>')
    (tmp_path / "assets" / "index-1a2b.js").write_text("export {}")
    return tmp_path


@pytest.mark.gen_test
async def test_the_page_comes_with_headers_that_keep_strangers_out(visit, page):
    response = await visit(page=page).fetch("/")
    assert response.code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert response.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.gen_test
async def test_what_has_a_digest_in_its_name_is_kept_and_the_page_is_asked_for_again(visit, page):
    site = visit(page=page)
    assert (await site.fetch("/")).headers["Cache-Control"] == "no-cache"
    asset = await site.fetch("/assets/index-1a2b.js")
    assert "immutable" in asset.headers["Cache-Control"]
    # With nosniff a browser runs a script only under a JavaScript type (Fetch standard, §3.8).
    assert "javascript" in asset.headers["Content-Type"]


@pytest.mark.gen_test
async def test_without_a_page_it_is_503_with_a_word_on_how_to_build_one_and_all_else_works(visit, tmp_path):
    site = visit(page=tmp_path)
    response = await site.fetch("/")
    assert response.code == 503
    assert response.headers["Content-Type"].startswith("text/plain")
    assert b"npm run build" in response.body
    await site.enter()


@pytest.mark.gen_test
async def test_the_page_is_told_what_it_needs_to_know_of_the_server(visit):
    config = json.loads((await visit(auth_timeout=7, starts=2).fetch("/config.json")).body)
    assert config.pop("status").items() > {"starts": 2, "online": 0, "key_id": "key-1"}.items()
    assert config == {
        "users": USERS,
        "groups": ["red", "blue"],
        "auth_timeout": 7,
        "max_connections": 4,
        "token_store": "MemoryTokenStore",
    }


@pytest.mark.gen_test
async def test_nothing_outside_the_page_is_served(visit, page):
    site = visit(page=page)
    for path in ("/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/app.py"):
        assert (await site.fetch(path)).code in (403, 404), path


@pytest.mark.gen_test
async def test_the_client_of_the_library_is_served_to_pages_without_a_build(visit):
    response = await visit().fetch("/wsauth/wsauth.js")
    assert response.code == 200
    assert "javascript" in response.headers["Content-Type"]


@pytest.mark.page
@pytest.mark.gen_test
async def test_every_file_the_built_page_refers_to_is_there_and_its_own(visit):
    ensure_page()
    site = visit()
    wanted, seen = ["/"], set()
    while wanted:
        path = wanted.pop()
        response = await site.fetch(path)
        assert response.code == 200, path
        seen.add(path)
        if path.endswith(".js"):  # one bundle: its text is full of React's own addresses
            continue
        names = re.findall(r'(?:src|href)="([^"#]+)"|url\(([^)]+)\)', response.body.decode())
        found = {name for pair in names for name in pair if name}
        assert not [name for name in found if ":" in name], "nothing comes from elsewhere"
        wanted += found - seen
    served = {PAGE / (path.strip("/") or "index.html") for path in seen}
    built = {file for file in PAGE.rglob("*") if file.is_file() and not file.name.startswith(".")}
    assert served == built, "no file lies about unused"


@pytest.mark.page
def test_the_built_page_has_no_script_or_style_that_its_policy_would_block():
    html = (ensure_page() / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", html)


# python -m example_app ------------------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-W", "error", "-m", "example_app"]
CHECKOUT = Path(__file__).parent.parent


@contextlib.contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the example on a free port; yield the process and the line it prints when it is ready."""
    process = subprocess.Popen(
        [*COMMAND, "--port=0", *options], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.kill()


def port_of(line: str) -> int:
    return int(re.search(r":(\d+)/", line)[1])  # type: ignore[index]


def failing(*options: str, command: list[str] = COMMAND) -> tuple[int, str]:
    """Run the example, which cannot start; return its status and the one line it says."""
    done = subprocess.run([*command, *options], cwd=CHECKOUT, capture_output=True, text=True, timeout=20)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.page
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_address_serves_the_page_and_stops_cleanly(number):
    with running() as (process, line):
        url = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert url is not None, line
        assert "in memory" in line
        with urllib.request.urlopen(url[0], timeout=10) as response:
            assert b"tornado_wsauth" in response.read()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def http(port: int, path: str, body: str = "", **headers: str) -> Any:
    """POST to the process that listens there; return the JSON it answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body.encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read() or "null")


def log_in(port: int) -> str:
    """Return the secret of a new login of alice."""
    return str(http(port, "/login", json.dumps({"username": "alice", "password": USERS["alice"]}))["session"])


@contextlib.contextmanager
def entered(port: int, session: str) -> Iterator[socket.socket]:
    """Yield a socket that was let in and reads nothing by itself."""
    token = http(port, "/jwt", Authorization=f"Bearer {session}")["jwt"]
    ticket = http(port, "/ws/token", Authorization=f"Bearer {token}")["token"]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(upgrade_request(f"/demo?token={ticket}"))
        client.sendall(frame(jwt_message(token).encode()))
        received = b""
        while b"auth_ok" not in received:
            received += client.recv(4096)
        yield client


@pytest.mark.page
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_the_clients_with_1012_and_one_that_never_answers_does_not_hold_the_server(number):  # A27
    with running("--grace=1") as (process, line):
        port = port_of(line)
        with entered(port, log_in(port)) as client:
            process.send_signal(number)
            assert process.wait(10) == 0
            received = b"".join(iter(lambda: client.recv(4096), b""))
        assert b"\x88\x09\x03\xf4restart" in received


@pytest.mark.page
def test_a_restart_closes_the_clients_with_1012_and_the_same_login_enters_again_on_the_same_port():
    with running("--grace=0.2") as (process, line):
        port = port_of(line)
        session = log_in(port)
        with entered(port, session) as client:
            http(port, "/demo/restart", Authorization=f"Bearer {session}")
            assert b"\x88\x09\x03\xf4restart" in b"".join(iter(lambda: client.recv(4096), b""))
        assert process.stdout is not None
        assert "start 2" in process.stdout.readline()
        with entered(port, session):
            pass
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/config.json", timeout=10) as response:
            assert json.loads(response.read())["status"]["starts"] == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.page
def test_with_mongodb_it_says_so(mongodb_uri, mongo_database_name):
    uri = urlunsplit(urlsplit(mongodb_uri)._replace(path=f"/{mongo_database_name}"))
    with running(f"--mongodb-uri={uri}") as (process, line):
        assert "in MongoDB" in line
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.page
def test_a_port_in_use_is_an_error_that_names_a_way_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, said = failing(f"--port={port}")
    assert status == 1
    assert str(port) in said
    assert "--port=0" in said


@pytest.mark.page
def test_a_short_secret_is_an_error_that_says_how_long_it_must_be():
    status, said = failing("--port=0", "--jwt-secret=too short")
    assert status == 2
    assert "--jwt-secret" in said
    assert "32" in said
    assert "too short" not in said


def prepared(preparation: str) -> list[str]:
    """Return a command that runs the example in an interpreter where ``preparation`` went first."""
    return [sys.executable, "-c", f"import runpy; {preparation}; runpy.run_module('example_app', run_name='__main__')"]


@pytest.mark.page
def test_a_mongodb_that_is_not_there_is_an_error_at_the_start():
    impatient = prepared(
        "import functools, tornado_wsauth as library; "
        "library.MongoTokenStore = functools.partial(library.MongoTokenStore, timeout=0.05)"
    )
    status, said = failing("--port=0", "--mongodb-uri=mongodb://127.0.0.1:1/", command=impatient)
    assert status == 1
    assert "--mongodb-uri" in said
    assert "in memory" in said


@pytest.mark.page
def test_a_missing_driver_is_an_error_that_says_what_to_install():
    command = prepared("import sys; sys.modules['pymongo'] = None")
    status, said = failing("--port=0", "--mongodb-uri=mongodb://127.0.0.1/", command=command)
    assert status == 1
    assert 'pip install "tornado_wsauth[mongo]"' in said


@pytest.mark.page
@pytest.mark.parametrize("option", ["--port=65536", "--mongodb-uri=mongdb://localhost"])
def test_a_wrong_option_is_exit_status_2(option):
    assert failing(option)[0] == 2
