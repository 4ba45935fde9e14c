"""The configuration for nginx that the example ships, in a real nginx. `tests.example.nginx` starts it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from tornado.ioloop import IOLoop
from websockets.asyncio.client import connect as websockets_connect

from tests.example.nginx import HOST, SHIPPED, Behind, Nginx, Upstream, directives, post_request
from tests.support import Echo, Response, jwt_message, make_jwt
from tornado_wsauth import MemoryTokenStore

pytestmark = pytest.mark.gen_test

PING_INTERVAL = 30
MEBIBYTE = 2**20


class Demo(Echo):
    """A handler that remembers the requests it was asked to upgrade."""

    requests: ClassVar[list[Any]] = []

    async def prepare(self) -> None:
        self.requests.append(self.request)
        await super().prepare()


class First(Demo):
    requests: ClassVar[list[Any]] = []


class Second(Demo):
    requests: ClassVar[list[Any]] = []


@pytest.fixture
def behind(io_loop: IOLoop, tmp_path: Path) -> Iterator[Callable[..., Behind]]:
    """Start the application behind nginx: ``site = behind(changes={…}, **options of WSAuth)``.

    ``first`` replaces the address of the first process.
    """
    sites: list[Behind] = []

    def start(changes: dict[str, str] | None = None, first: str | None = None, **options: Any) -> Behind:
        tokens = MemoryTokenStore()
        for handler in (First, Second):
            handler.requests.clear()
        upstreams = [Upstream(handler, tokens, options) for handler in (First, Second)]
        addresses = [f"127.0.0.1:{upstream.port}" for upstream in upstreams]
        nginx = Nginx(tmp_path, (first or addresses[0], addresses[1]), changes or {})
        nginx.start()
        sites.append(Behind(nginx, upstreams))
        return sites[-1]

    yield start
    for site in sites:
        io_loop.run_sync(site.close)


# --- what is in the file ---------------------------------------------------------------------------------------------


def test_nginx_finds_nothing_wrong_with_the_file(tmp_path):
    said = Nginx(tmp_path, ("127.0.0.1:1", "127.0.0.1:2"), {}).check()
    assert "status 0" in said
    assert "[" not in said, said  # [warn], [emerg]


def test_a_connection_that_answers_one_ping_of_three_is_kept():
    (example,) = set(re.findall(r"websocket_ping_interval=(\d+)", (SHIPPED.parents[1] / "app.py").read_text()))
    assert int(example) == PING_INTERVAL
    for name in ("proxy_read_timeout", "proxy_send_timeout", "send_timeout"):
        for value in directives(name):
            assert int(value.removesuffix("s")) >= 3 * PING_INTERVAL, name


def test_the_log_has_no_variable_that_carries_a_query():  # A8
    (log_format,) = directives("log_format")
    assert not re.search(r"\$(request\b|request_uri|args|arg_|query_string|http_referer|is_args)", log_format)
    assert {entry.split()[-1] for entry in directives("access_log")} == {"wsauth"}


# --- the way through -------------------------------------------------------------------------------------------------


async def test_a_token_a_jwt_and_a_mebibyte_each_way_go_through_nginx_with_tls(behind):
    site = behind()
    answer = await site.post_token()
    assert answer.status == 200, answer
    token = answer.json()["token"]
    uri = f"wss://{HOST}/demo?token={token}"
    async with websockets_connect(
        uri,
        host="127.0.0.1",
        port=site.nginx.port,
        ssl=site.nginx.tls,
        proxy=None,
        max_size=None,
        origin=f"https://{HOST}",
    ) as client:
        await client.send(jwt_message(make_jwt()))
        assert json.loads(await client.recv())["type"] == "auth_ok"
        await client.send("hello")
        assert await client.recv() == "hello"
        for big in ("x" * MEBIBYTE, bytes(range(256)) * (MEBIBYTE // 256)):
            await client.send(big)
            assert await client.recv() == big


async def test_new_connections_go_to_both_processes(behind):
    site = behind()
    for _ in range(2):
        await site.enter(await site.token())
    assert [len(upstream.auth.connections) for upstream in site.upstreams] == [1, 1]


@pytest.mark.parametrize(
    ("version", "name"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")]
)
async def test_tls_is_spoken_from_1_2_on(behind, version, name):
    site = behind()
    site.nginx.tls.minimum_version = site.nginx.tls.maximum_version = version
    client = await site.dial()
    assert client.writer.get_extra_info("ssl_object").version() == name


async def test_whoever_asks_for_another_name_is_not_spoken_to(behind):
    site = behind()
    with pytest.raises(ssl.SSLError):
        await site.dial(name="elsewhere.example")
    client = await site.dial(tls=False)
    client.send(b"GET / HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n")
    assert await client.at_eof()


async def test_without_tls_there_is_only_the_way_to_it(behind):
    site = behind()
    client = await site.dial(tls=False)
    response = await client.upgrade("/demo", Host=HOST)
    assert (response.status, response.headers["location"]) == (301, f"https://{HOST}/demo")
    assert First.requests + Second.requests == []


# --- what the application is told ------------------------------------------------------------------------------------


async def test_what_a_client_says_about_itself_does_not_reach_the_application(behind):
    site = behind()
    _, response = await site.upgrade(
        await site.token(),
        X_Real_IP="203.0.113.7",
        X_Forwarded_For="203.0.113.7, 203.0.113.8",
        X_Forwarded_Proto="http",
        X_Scheme="http",
        Forwarded="for=203.0.113.7",
    )
    assert response.status == 101
    (request,) = First.requests + Second.requests
    assert (request.remote_ip, request.protocol, request.host) == ("127.0.0.1", "https", HOST)
    assert "203.0.113" not in str(list(request.headers.get_all()))


async def test_a_token_is_bound_to_the_address_that_nginx_saw(behind):
    site = behind(bind_tokens=["address"], client_address=lambda request: request.remote_ip)
    token = (await site.post_token(X_Real_IP="203.0.113.7")).json()["token"]
    _, response = await site.upgrade(token, X_Real_IP="203.0.113.8")
    assert response.status == 101


async def test_nothing_but_a_websocket_is_upgraded(behind):
    site = behind()
    _, response = await site.upgrade(await site.token(), Upgrade="h2c")
    assert response.status == 426
    (request,) = First.requests + Second.requests
    assert "Upgrade" not in request.headers
    assert request.headers["Connection"] == "close"


# --- processes that are down, die, or drain --------------------------------------------------------------------------


async def test_with_one_process_down_one_upgrade_fails_and_all_others_are_served(behind):
    site = behind()
    await site.upstreams[0].close()
    answers = [(await site.upgrade(await site.token()))[1].status for _ in range(6)]
    assert sorted(answers) == [101] * 5 + [502]
    assert answers.index(502) in (0, 1)


async def test_with_one_process_down_every_request_for_a_token_is_served(behind):
    site = behind()
    await site.upstreams[0].close()
    assert [(await site.post_token(f"user {number}")).status for number in range(4)] == [200] * 4


@pytest.mark.parametrize("request_of", ["upgrade", "post_token"])
async def test_what_a_process_died_of_is_not_sent_to_the_next(behind, request_of):  # A5
    heads: list[bytes] = []

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.transport.abort()

    statuses = []
    with contextlib.closing(await asyncio.start_server(die, "127.0.0.1", 0)) as dying:
        site = behind(first=f"127.0.0.1:{dying.sockets[0].getsockname()[1]}")
        while not heads:
            if request_of == "upgrade":
                statuses.append((await site.upgrade(await site.token()))[1].status)
            else:
                statuses.append((await site.post_token()).status)
    assert statuses.pop() == 502
    assert len(Second.requests) == (len(statuses) if request_of == "upgrade" else 0)


async def test_a_process_that_drains_says_503_with_retry_after_and_the_token_is_good_for_the_next_attempt(behind):
    site = behind()
    await site.upstreams[0].auth.close(grace=0)
    refusals = []
    for _ in range(2):
        token = await site.upstreams[1].auth.issue_token("alice")
        _, response = await site.upgrade(token)
        if response.status == 503:
            refusals.append((token, response))
    ((token, response),) = refusals
    assert response.headers["retry-after"] == "5"
    assert response.json() == {"error": "closing"}
    assert len(Second.requests) == 1
    while (await site.upgrade(token))[1].status == 503:
        pass
    assert len(site.upstreams[1].auth.pending) == 2


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_an_address_that_asks_for_tokens_without_end_is_told_429_and_when_to_come_again(behind):
    site = behind()
    client = await site.dial()
    answers: list[Response] = []
    while not answers or answers[-1].status == 401:
        client.send(post_request())
        answers.append(await client.read_response())
    (burst,) = re.findall(r"burst=(\d+)", SHIPPED.read_text())
    assert len(answers) > int(burst)
    response = answers[-1]
    assert response.status == 429
    assert response.json() == {"error": "too_many_requests"}
    assert response.headers["retry-after"] == "5"


async def test_a_body_larger_than_a_login_is_refused_before_the_application_reads_it(behind):
    site = behind()
    client = await site.dial()
    client.send(post_request(Content_Length=str(MEBIBYTE)))
    assert (await client.read_response()).status == 413


# --- tokens in logs --------------------------------------------------------------------------------------------------


async def connected(site: Behind, token: str) -> None:
    client = await site.enter(token)
    client.send_text("hello")
    await client.read_frame()


async def refused(site: Behind, token: str) -> None:
    await connected(site, token)
    assert (await site.upgrade(token))[1].status == 401


async def mistyped(site: Behind, token: str) -> None:
    assert (await site.upgrade(token, path="/demmo"))[1].status == 404


async def mistyped_while_down(site: Behind, token: str) -> None:
    for upstream in site.upstreams:
        await upstream.close()
    assert (await site.upgrade(token, path="/demmo"))[1].status == 502


async def redirected(site: Behind, token: str) -> None:
    client = await site.dial(tls=False)
    assert (await client.upgrade(f"/demo?token={token}", Host=HOST)).status == 301


async def down(site: Behind, token: str) -> None:
    for upstream in site.upstreams:
        await upstream.close()
    for _ in range(3):  # refused by the one, by the other, and then nginx knows of none that lives
        assert (await site.upgrade(token))[1].status == 502


async def cut_off(site: Behind, token: str) -> None:
    """The process leaves an open WebSocket with a reset."""
    client = await site.enter(token)
    (handler,) = [handler for upstream in site.upstreams for handler in upstream.auth.connections]
    with handler.ws_connection.stream.socket as connection:  # Tornado would say goodbye
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert await client.at_eof()


async def limited(site: Behind, token: str) -> None:
    """More connections at once than an address may have."""
    client = await site.enter(await site.token())
    assert (await site.upgrade(token))[1].status == 429
    client.abort()


async def unreachable(site: Behind, token: str) -> None:
    """nginx cannot even try to connect."""
    answers = [(await site.upgrade(token))[1].status for _ in range(2)]
    assert 500 <= answers[0] <= 502, answers


class Scene(NamedTuple):
    play: Callable[[Behind, str], Awaitable[None]]
    changes: dict[str, str] = {}
    upstream: str | None = None


SCENES = {
    "connected": Scene(connected),
    "refused": Scene(refused),
    "mistyped": Scene(mistyped),
    "mistyped while down": Scene(mistyped_while_down),
    "redirected": Scene(redirected),
    "down": Scene(down),
    "cut off": Scene(cut_off),
    "limited": Scene(limited, {"limit_conn sockets 1000;": "limit_conn sockets 1;"}),
    "no such socket": Scene(unreachable, upstream="unix:/nowhere/socket"),
    "out of connections": Scene(
        unreachable,
        {"worker_processes auto;": "worker_processes 1;", "worker_connections 256;": "worker_connections 4;"},
    ),
}


@pytest.mark.parametrize("scene", SCENES)
async def test_no_log_of_nginx_has_a_token(behind, scene):  # A8
    play, changes, upstream = SCENES[scene]
    site = behind(changes, upstream)
    token = await site.token()
    await play(site, token)
    logged = await site.logged()
    assert '"/dem' in logged  # it was logged, that is
    assert token not in logged


@pytest.mark.parametrize(
    ("level", "scene"),
    [
        ("error", "down"),
        ("error", "cut off"),
        ("error", "limited"),
        ("crit", "no such socket"),
        ("alert", "out of connections"),
    ],
)
async def test_at_a_level_that_says_more_nginx_writes_tokens_into_its_error_log(behind, level, scene):
    """Why the shipped level is ``emerg``; and that the test above would see a token."""
    play, changes, upstream = SCENES[scene]
    site = behind({**changes, "error.log emerg;": f"error.log {level};"}, upstream)
    token = await site.token()
    await play(site, token)
    assert token in await site.logged()
