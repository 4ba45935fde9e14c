"""The connection token at the handshake: who gets a 101 for it, and who one and the same 401."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from tests.handshakes import SpyStore, ask
from tests.mongod import MONGO_FLAVOURS
from tests.support import (
    Echo,
    RawClient,
    Response,
    make_auth,
    upgrade_request,
)
from tornado_wsauth import MemoryTokenStore

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
