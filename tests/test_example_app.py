"""The reference application: its routes and WebSocket over real sockets, its page, and ``python -m example_app``."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
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

import example_app.app
from example_app.app import JWT_LIFETIME, USERS, make_app
from tornado_wsauth.testing.client import frame, jwt_message, upgrade_request

SECRET = "the secret of the example's tests, which is long enough"
FAST = 10  # milliseconds between ticks, or between broadcasts, of a test that waits for some
NEVER = 3_600_000


class Site:
    """The running example, and a visitor of it."""

    def __init__(self, **options: Any) -> None:
        bound, self.port = bind_unused_port()
        self.app = make_app(
            **{"jwt_secret": SECRET, "tick_interval_ms": NEVER, "broadcast_interval_ms": NEVER, **options}
        )
        self.app.settings["broadcaster"].start()
        self._server = HTTPServer(self.app)
        self._server.add_socket(bound)
        self._http = AsyncHTTPClient(force_instance=True)
        self._sockets: list[WebSocketClientConnection] = []

    async def fetch(self, path: str, **options: Any) -> HTTPResponse:
        return await self._http.fetch(f"http://127.0.0.1:{self.port}{path}", raise_error=False, **options)

    async def log_in(self, username: str = "alice") -> str:
        """Return a JWT."""
        body = json.dumps({"username": username, "password": USERS[username]})
        response = await self.fetch("/login", method="POST", body=body)
        return str(json.loads(response.body)["jwt"])

    async def log_out(self, jwt: str) -> HTTPResponse:
        return await self.fetch("/logout", method="POST", body="", headers={"Authorization": f"Bearer {jwt}"})

    async def token(self, jwt: str, path: str = "/ws/token") -> str:
        headers = {"Authorization": f"Bearer {jwt}"}
        response = await self.fetch(path, method="POST", body="", headers=headers)
        assert response.code == 200, response.body
        return str(json.loads(response.body)["token"])

    async def connect(self, token: str | None) -> WebSocketClientConnection:
        query = "" if token is None else f"?token={token}"
        ws = await websocket_connect(f"ws://127.0.0.1:{self.port}/demo{query}")
        self._sockets.append(ws)
        return ws

    async def enter(self, username: str = "alice") -> WebSocketClientConnection:
        """Go through the whole handshake."""
        jwt = await self.log_in(username)
        ws = await self.connect(await self.token(jwt))
        await present(ws, jwt)
        assert (await read(ws))["type"] == "auth_ok"
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
async def test_the_right_password_earns_a_jwt_of_fifteen_minutes(visit, username):
    body = json.dumps({"username": username, "password": USERS[username]})
    response = await visit().fetch("/login", method="POST", body=body)
    assert response.code == 200
    assert response.headers["Cache-Control"] == "no-store"
    answer = json.loads(response.body)
    claims = jwt.decode(answer["jwt"], SECRET, algorithms=["HS256"])
    assert (answer["user_id"], answer["expires_in"]) == (username, JWT_LIFETIME)
    assert claims["sub"] == username
    assert claims["exp"] == int(claims["iat"]) + JWT_LIFETIME


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
async def test_the_token_route_wants_the_jwt_of_a_login(visit):
    site = visit()
    assert (await site.fetch("/ws/token", method="POST", body="")).code == 401
    assert len(await site.token(await site.log_in())) == 43


# The handshake --------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_echo_tick_and_broadcast_come_after_auth_ok_and_nothing_before_it(visit):
    site = visit(tick_interval_ms=FAST, broadcast_interval_ms=FAST)
    bob = await site.enter("bob")
    jwt = await site.log_in("alice")
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
    assert by_type["broadcast"]["online"] == 2
    assert isinstance(by_type["broadcast"]["now"], int)


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


# The failures that the page provokes ----------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_without_a_token_there_is_no_upgrade(visit):
    assert await refused_with(visit().connect(None)) == 401


@pytest.mark.gen_test
async def test_an_expired_token_opens_nothing(visit):
    site = visit()
    token = await site.token(await site.log_in(), "/demo/expired-token")
    assert await refused_with(site.connect(token)) == 401


@pytest.mark.gen_test
async def test_the_route_of_expired_tokens_wants_a_jwt_like_any_other(visit):
    assert (await visit().fetch("/demo/expired-token", method="POST", body="")).code == 401


@pytest.mark.gen_test
async def test_a_token_opens_one_connection_and_no_second(visit):
    site = visit()
    token = await site.token(await site.log_in())
    await site.connect(token)
    assert await refused_with(site.connect(token)) == 401


@pytest.mark.gen_test
async def test_a_jwt_with_a_changed_signature_closes_4401(visit):
    site = visit()
    jwt = await site.log_in()
    ws = await site.connect(await site.token(jwt))
    head, _, signature = jwt.rpartition(".")
    await present(ws, f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}")
    assert await how_it_ends(ws) == (4401, "jwt_invalid")


@pytest.mark.gen_test
async def test_the_jwt_of_another_user_closes_4403(visit):
    site = visit()
    ws = await site.connect(await site.token(await site.log_in("alice")))
    await present(ws, await site.log_in("bob"))
    assert await how_it_ends(ws) == (4403, "user_mismatch")


@pytest.mark.gen_test
async def test_silence_closes_4408(visit):
    site = visit(auth_timeout=0.05)
    ws = await site.connect(await site.token(await site.log_in()))
    assert await how_it_ends(ws) == (4408, "auth_timeout")


# The page -------------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_logging_out_ends_all_sockets_of_the_user_at_once_and_nobody_elses(visit):  # A25
    site = visit()
    jwt = await site.log_in()
    early = await site.token(jwt)
    first, second, other = await site.enter(), await site.enter(), await site.enter("bob")
    assert (await site.log_out(jwt)).code == 204
    assert await how_it_ends(first) == await how_it_ends(second) == (4403, "revoked")
    assert await refused_with(site.connect(early)) == 401
    await other.write_message("still here")
    assert await read(other) == {"type": "echo", "message": "still here"}


@pytest.mark.gen_test
async def test_a_jwt_of_before_the_logout_is_good_for_nothing_and_the_next_login_is_good(visit):  # A25
    site = visit()
    jwt = await site.log_in()
    assert (await site.log_out(jwt)).code == 204
    assert (await site.log_out(jwt)).code == 401
    response = await site.fetch("/ws/token", method="POST", body="", headers={"Authorization": f"Bearer {jwt}"})
    assert response.code == 401
    ws = await site.connect(await site.app.settings["wsauth"].issue_token("alice"))
    await present(ws, jwt)
    assert await how_it_ends(ws) == (4401, "jwt_invalid")
    await site.enter()


@pytest.mark.gen_test
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic YTpi"}])
async def test_only_a_jwt_logs_its_user_out(visit, headers):
    site = visit()
    ws = await site.enter()
    assert (await site.fetch("/logout", method="POST", body="", headers=headers)).code == 401
    await ws.write_message("still here")
    assert (await read(ws))["type"] == "echo"


@pytest.mark.gen_test
async def test_another_jwt_renews_the_connection_and_its_ticker_counts_on(visit):  # A24
    site = visit(tick_interval_ms=FAST)
    ws = await site.enter()
    (tick,) = await read_kinds(ws, {"tick"})
    await present(ws, await site.log_in())
    *ticks, auth_ok = await read_kinds(ws, {"auth_ok"})
    assert auth_ok["user_id"] == "alice"
    ticks += await read_kinds(ws, {"tick"})
    numbers = [message["number"] for message in [tick, *ticks] if message["type"] == "tick"]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.gen_test
async def test_the_page_comes_with_headers_that_keep_strangers_out(visit):
    response = await visit().fetch("/")
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
async def test_every_file_the_page_refers_to_is_there_and_its_own(visit):
    site = visit()
    wanted, seen = ["/"], {}
    while wanted:
        path = wanted.pop()
        response = await site.fetch(path)
        assert response.code == 200, path
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        seen[path] = response.headers["Content-Type"]
        found = re.findall(r'(?:src|href)="([^"#]+)"|from "\./([^"]+)"|url\(([^)]+)\)', response.body.decode())
        names = {name for names in found for name in names if name}
        assert not [name for name in names if ":" in name], "nothing comes from elsewhere"
        wanted += [f"/{name}" for name in names if f"/{name}" not in seen]
    assert {"/app.js", "/handshake.js", "/runs.js", "/view.js", "/style.css", "/icon.svg"} < set(seen)
    # With nosniff a browser runs a script only under a JavaScript type (Fetch standard, §3.8).
    assert all("javascript" in kind for path, kind in seen.items() if path.endswith(".js"))
    served = {path.strip("/") or "index.html" for path in seen}
    assert served == {file.name for file in example_app.app.STATIC.iterdir()}, "no file lies about unused"


def test_the_page_has_no_script_or_style_that_its_policy_would_block():
    html = (example_app.app.STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", html)


@pytest.mark.gen_test
async def test_the_page_is_told_how_long_silence_is_borne(visit):
    config = json.loads((await visit(auth_timeout=7).fetch("/config.json")).body)
    assert config == {"users": USERS, "auth_timeout": 7, "token_store": "MemoryTokenStore"}


@pytest.mark.gen_test
async def test_nothing_outside_the_static_folder_is_served(visit):
    site = visit()
    for path in ("/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/app.py"):
        assert (await site.fetch(path)).code in (403, 404), path


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


def failing(*options: str, command: list[str] = COMMAND) -> tuple[int, str]:
    """Run the example, which cannot start; return its status and the one line it says."""
    done = subprocess.run([*command, *options], cwd=CHECKOUT, capture_output=True, text=True, timeout=20)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_the_clients_with_1012_and_one_that_never_answers_does_not_hold_the_server(number):  # A27
    secret = "the secret of one server, which is long enough"
    with running("--grace=1", f"--jwt-secret={secret}") as (process, line):
        port = int(re.search(r":(\d+)/", line)[1])  # type: ignore[index]
        token = jwt.encode({"sub": "alice", "iat": time.time(), "exp": time.time() + 60}, secret)
        request = f"POST /ws/token HTTP/1.0\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port)) as asking:
            asking.sendall(request.encode())
            answer = b"".join(iter(lambda: asking.recv(4096), b""))
        ticket = json.loads(answer.partition(b"\r\n\r\n")[2])["token"]
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(upgrade_request(f"/demo?token={ticket}"))
            client.sendall(frame(jwt_message(token).encode()))
            received = b""
            while b"auth_ok" not in received:
                received += client.recv(4096)
            process.send_signal(number)
            assert process.wait(10) == 0
            received = b"".join(iter(lambda: client.recv(4096), b""))
        assert b"\x88\x09\x03\xf4restart" in received
    assert process.stderr is not None


def test_with_mongodb_it_says_so(mongodb_uri, mongo_database_name):
    uri = urlunsplit(urlsplit(mongodb_uri)._replace(path=f"/{mongo_database_name}"))
    with running(f"--mongodb-uri={uri}") as (process, line):
        assert "in MongoDB" in line
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_port_in_use_is_an_error_that_names_a_way_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, said = failing(f"--port={port}")
    assert status == 1
    assert str(port) in said
    assert "--port=0" in said


def test_a_short_secret_is_an_error_that_says_how_long_it_must_be():
    status, said = failing("--port=0", "--jwt-secret=too short")
    assert status == 2
    assert "--jwt-secret" in said
    assert "32" in said
    assert "too short" not in said


def prepared(preparation: str) -> list[str]:
    """Return a command that runs the example in an interpreter where ``preparation`` went first."""
    return [sys.executable, "-c", f"import runpy; {preparation}; runpy.run_module('example_app', run_name='__main__')"]


def test_a_mongodb_that_is_not_there_is_an_error_at_the_start():
    impatient = prepared(
        "import functools, tornado_wsauth as library; "
        "library.MongoTokenStore = functools.partial(library.MongoTokenStore, timeout=0.05)"
    )
    status, said = failing("--port=0", "--mongodb-uri=mongodb://127.0.0.1:1/", command=impatient)
    assert status == 1
    assert "--mongodb-uri" in said
    assert "in memory" in said


def test_a_missing_driver_is_an_error_that_says_what_to_install():
    command = prepared("import sys; sys.modules['pymongo'] = None")
    status, said = failing("--port=0", "--mongodb-uri=mongodb://127.0.0.1/", command=command)
    assert status == 1
    assert 'pip install "tornado_wsauth[mongo]"' in said


@pytest.mark.parametrize("option", ["--port=65536", "--mongodb-uri=mongdb://localhost"])
def test_a_wrong_option_is_exit_status_2(option):
    assert failing(option)[0] == 2
