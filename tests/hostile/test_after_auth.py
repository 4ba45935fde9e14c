"""What breaks the protocol once the client is authenticated: the connection ends, and the server forgets it."""

from __future__ import annotations

import asyncio

import pytest

from tests.first_messages import DEFLATE
from tests.hostile.scene import Baseline, Compresses, Honest
from tests.support import CLOSE, RawClient, frame, jwt_message, make_jwt, until
from tornado_wsauth.testing.frame_attacks import BROKEN_FRAMES, CLOSE_FRAMES

NO_UTF8 = "a reason that is not UTF-8"
CASES = {
    **{f"broken: {name}": broken for name, broken in BROKEN_FRAMES.items()},
    **{f"close: {name}": frame(payload, CLOSE) for name, payload in CLOSE_FRAMES.items()},
    "no deflate": frame(b"\xff" * 20, rsv1=True),
}
LOST = {f"close: {NO_UTF8}", "no deflate"}


@pytest.mark.usefixtures("quick_garbage_collection")
@pytest.mark.gen_test
@pytest.mark.parametrize("agreed", [False, True], ids=["plain", "compressed"])
async def test_a_broken_frame_ends_an_authenticated_connection_which_is_then_forgotten(serve, login, agreed):
    # A16, A19
    await every_case(serve, login, {name: CASES[name] for name in CASES.keys() - LOST}, agreed)


@pytest.mark.usefixtures("quick_garbage_collection")
@pytest.mark.gen_test
@pytest.mark.parametrize("case", sorted(LOST))
async def test_a_frame_that_makes_tornado_raise_ends_the_connection_which_is_then_forgotten(serve, login, case):
    # A16, A19
    await every_case(serve, login, {case: CASES[case]}, True)


async def authenticated(server, headers) -> RawClient:
    client = await RawClient.connect(server.port)
    await client.upgrade(f"/ws?token={await server.auth.issue_token('alice')}", **headers)
    client.send_text(jwt_message(make_jwt()))
    return client


async def every_case(serve, login, cases: dict[str, bytes], agreed: bool) -> None:
    class Chat(Compresses):
        pass

    server = serve(Chat)
    honest = Honest(await login(server, "bob"))
    before = Baseline(server)
    for name, broken in cases.items():
        Chat.events.clear()
        client = await authenticated(server, DEFLATE if agreed else {})
        await until(lambda: Chat.events == ["open"])
        client.send(broken + frame(b"after"))
        client.writer.write_eof()
        try:
            async with asyncio.timeout(3):
                await until(lambda: Chat.events == ["open", "close"] and len(server.auth.connections) == 1)
        except TimeoutError:
            pytest.fail(f"{name}: {Chat.events}, {len(server.auth.connections)} connections")
        finally:
            client.abort()
            await client.close()
    await honest.is_served()
    await before.is_back()
