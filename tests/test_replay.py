"""A token used twice: an alarm, in the log and to the application, and a 401 like any other."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.handshakes import SpyStore, ask
from tests.support import AppError, Echo, ManualClock, RawClient, Response, Server, make_auth, settle, until
from tornado_wsauth import MemoryTokenStore, TokenReplay

FIRST, SECOND = "127.0.0.3", "127.0.0.4"


async def from_address(server: Server, address: str, path: str) -> Response:
    client = RawClient(*await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address, 0)))
    try:
        return await client.upgrade(path)
    finally:
        await client.close()


def same(response: Response) -> tuple[bytes, ...]:
    return *[line for line in response.head.splitlines() if not line.startswith(b"Date:")], response.body


async def token_path(server: Server) -> str:
    assert server.auth is not None
    return f"/ws?token={await server.auth.issue_token('alice')}"


@pytest.mark.gen_test
@pytest.mark.parametrize("limit", [None, 5])
async def test_a_second_use_is_an_alarm_with_both_addresses_and_a_401_like_any(serve, logged, limit):
    # A7, A39
    replays: list[TokenReplay] = []
    server = serve(auth=make_auth(on_replay=replays.append, max_connections_per_user=limit))
    path = await token_path(server)
    assert (await from_address(server, FIRST, path)).status == 101
    refused = await from_address(server, SECOND, path)
    await until(lambda: bool(replays))
    await settle()
    assert replays == [TokenReplay("alice", FIRST, SECOND, "/ws")]
    (record,) = [record for record in logged.records if record.event == "refused"]
    assert (record.levelno, record.reason, record.code) == (logging.WARNING, "token_replayed", 401)
    assert (record.remote_ip, record.spent_by, record.user_id) == (SECOND, FIRST, "alice")
    assert FIRST in record.getMessage()
    assert same(refused) == same(await ask(server, f"/ws?token={'A' * 43}"))


@pytest.mark.gen_test
async def test_the_hook_is_called_once_for_each_replay(serve):
    replays: list[TokenReplay] = []

    async def on_replay(replay: TokenReplay) -> None:
        await asyncio.sleep(0)
        replays.append(replay)

    server = serve(auth=make_auth(on_replay=on_replay))
    path = await token_path(server)
    await from_address(server, FIRST, path)
    for _ in range(3):
        assert (await from_address(server, SECOND, path)).status == 401
    await until(lambda: len(replays) >= 3)
    await settle()
    assert replays == [TokenReplay("alice", FIRST, SECOND, "/ws")] * 3


@pytest.mark.gen_test
async def test_a_slow_hook_delays_no_answer(serve):
    release, done = asyncio.Event(), []

    async def on_replay(replay: TokenReplay) -> None:
        await release.wait()
        done.append(replay)

    server = serve(auth=make_auth(on_replay=on_replay))
    path = await token_path(server)
    await ask(server, path)
    assert (await ask(server, path)).status == 401
    assert done == []
    release.set()
    await until(lambda: len(done) == 1)


@pytest.mark.gen_test
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_hook_that_raises_is_logged_and_harms_nobody(serve, caplog, is_async):
    # A38
    def sync_hook(replay: TokenReplay) -> None:
        raise AppError("x")

    async def async_hook(replay: TokenReplay) -> None:
        raise AppError("x")

    server = serve(auth=make_auth(on_replay=async_hook if is_async else sync_hook))
    path = await token_path(server)
    await ask(server, path)
    assert (await ask(server, path)).status == 401
    await until(lambda: any(record.exc_info for record in caplog.records))
    (record,) = [record for record in caplog.records if record.exc_info]
    assert (record.name, record.exc_info[0]) == ("tornado_wsauth", AppError)
    assert "on_replay" in record.getMessage()
    assert path.partition("=")[2] not in caplog.text
    assert (await ask(server, await token_path(server))).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize("what", ["unknown", "malformed", "missing", "expired", "spent and expired", "reused"])
async def test_what_is_no_replay_calls_nobody(serve, what, logged):
    replays: list[TokenReplay] = []
    clock = ManualClock()
    auth = make_auth(on_replay=replays.append, single_use=what != "reused", tokens=MemoryTokenStore(clock=clock.time))
    server = serve(auth=auth)
    path = await token_path(server)
    if what in ("spent and expired", "reused"):
        assert (await ask(server, path)).status == 101
    if "expired" in what:
        clock.advance(30)
    path = {"unknown": f"/ws?token={'A' * 43}", "malformed": "/ws?token=x", "missing": "/ws"}.get(what, path)
    assert (await ask(server, path)).status == (101 if what == "reused" else 401)
    await settle()
    assert replays == []
    assert "token_replayed" not in [record.reason for record in logged.records]


@pytest.mark.gen_test
async def test_a_store_that_knows_of_no_spender_works_and_the_first_address_is_not_known(serve, logged):
    replays: list[TokenReplay] = []
    store = SpyStore()  # its redeem() takes no spender
    server = serve(auth=make_auth(on_replay=replays.append, tokens=store))
    path = await token_path(server)
    assert (await ask(server, path)).status == 101
    assert (await ask(server, path)).status == 401
    await until(lambda: bool(replays))
    assert replays == [TokenReplay("alice", None, "127.0.0.1", "/ws")]
    assert logged.records[-1].spent_by is None


@pytest.mark.gen_test
async def test_a_store_that_passes_everything_on_is_told_the_spender(serve):
    class Passing(MemoryTokenStore):
        async def redeem(self, token: str, **options: Any) -> Any:
            spenders.append(options.get("spender"))
            return await super().redeem(token, **options)

    spenders: list[Any] = []
    server = serve(Echo, make_auth(tokens=Passing()))
    assert (await from_address(server, FIRST, await token_path(server))).status == 101
    assert spenders == [FIRST]


@pytest.mark.gen_test
async def test_two_at_once_are_one_connection_and_one_alarm(serve):
    # A5
    replays: list[TokenReplay] = []
    server = serve(auth=make_auth(on_replay=replays.append))
    path = await token_path(server)
    answers = await asyncio.gather(*(ask(server, path) for _ in range(5)))
    await until(lambda: len(replays) >= 4)
    await settle()
    assert sorted(answer.status for answer in answers) == [101, 401, 401, 401, 401]
    assert len(replays) == 4
