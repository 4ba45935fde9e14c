"""The end from this side: a goodbye, nothing kept and nothing left; and applications that do not behave."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import pytest

from tests.client.kit import Obedient, Scripted
from tests.support import Echo, settle, until
from tornado_wsauth.client import Stopped


class Chat(Obedient):
    pass


class Flood(Chat):
    """Sends more at once than a client takes that receives nothing."""

    def open(self, *args: str, **kwargs: str) -> None:
        for number in range(500):
            self.write_message(str(number))


class Other(Scripted):
    pass


@pytest.fixture(autouse=True)
def fresh() -> None:
    Other.script, Other.heard, Other.arguments, Other.live = [], [], [], []


@pytest.mark.gen_test
async def test_close_says_goodbye_with_1000_and_never_connects_again(serve, client):
    one = client(serve(Echo, routes=[(r"/other", Other)]), "/other")
    await one.connection
    await one.connection.close()
    await one.connection.close()
    await until(lambda: Other.live[0].close_code is not None)
    assert Other.live[0].close_code == 1000
    one.connection.retry_now()
    await settle()
    assert (len(one.jwts), one.connection.state) == (1, "stopped")
    assert one.ends == [(1000, "disconnected", "stop")]
    assert one.connection.last_close.during == "ready"


@pytest.mark.gen_test
async def test_close_ends_those_who_wait_and_discards_what_was_not_received(serve, client):
    one = client(serve(Chat))
    await one.connection
    await one.connection.send("unread")
    await until(lambda: len(one.connection._inbox._messages) == 1)
    other = client(serve(Chat))
    other.seams.holds_pauses = True
    await other.connection
    await other.connection.send("close 1012 x")
    await until(lambda: other.connection.state == "waiting")
    waiting = [
        asyncio.ensure_future(work)
        for work in (other.connection.recv(), other.connection.send("x"), other.connection.renew())
    ]
    await settle()
    await asyncio.gather(one.connection.close(), other.connection.close())
    with pytest.raises(Stopped):
        await one.connection.recv()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, Stopped)
        assert result.close.reason == "disconnected"


@pytest.mark.gen_test
@pytest.mark.parametrize("when", ["ready", "waiting", "renewing", "stopped", "before"])
async def test_close_leaves_no_task_whenever_it_comes(serve, client, when):
    server = serve(Echo, routes=[(r"/other", Other)])
    one = client(server, "/other")
    before = asyncio.all_tasks()
    if when != "before":
        await one.connection
    one.seams.holds_pauses = True
    renewing = None
    if when == "waiting":
        Other.live[0].close(1012)
        await until(lambda: one.connection.state == "waiting")
    elif when == "renewing":
        renewing = asyncio.ensure_future(one.connection.renew())
        await until(lambda: len(Other.heard) == 2)
    elif when == "stopped":
        Other.live[0].close(4403)
        await until(lambda: one.connection.state == "stopped")
    await one.connection.close()
    mine = [task for task in asyncio.all_tasks() - before if "ServerConnection" not in repr(task)]
    if renewing is not None:
        assert isinstance((await asyncio.gather(renewing, return_exceptions=True))[0], Stopped)
    assert [task for task in mine if "WebSocketHandler" not in repr(task) and "server" not in repr(task)] == []


@pytest.mark.gen_test
async def test_a_server_that_does_not_answer_the_goodbye_is_left_all_the_same(serve, client):
    one = client(serve(Echo, routes=[(r"/other", Other)]), "/other")
    await one.connection
    server_side = Other.live[0].ws_connection.stream
    server_side.io_loop.remove_handler(server_side.socket)  # it reads no more
    before = len(one.seams.deadlines)
    closing = asyncio.ensure_future(one.connection.close())
    await until(lambda: len(one.seams.deadlines) > before)
    again = asyncio.ensure_future(one.connection.close())  # cuts nothing short
    await settle()
    assert not closing.done()
    one.seams.expire()
    await asyncio.gather(closing, again)
    assert [task for task in asyncio.all_tasks() if "_receive_frame_loop" in repr(task)] == []  # the server has none
    server_side.close()


@pytest.mark.gen_test
async def test_a_server_that_floods_while_we_say_goodbye_leaves_no_task(serve, client):
    one = client(serve(Flood), max_queue=1)
    await one.connection
    await until(lambda: one.connection._inbox.is_full)
    await one.connection.close()
    assert one.connection.state == "stopped"


@pytest.mark.gen_test
async def test_the_source_of_tokens_may_close_the_connection_and_no_token_is_sent(serve, client):
    async def get_token(jwt: str) -> str:
        await one.connection.close()
        return "never used"

    one = client(serve(Echo, routes=[(r"/other", Other)]), "/other", get_token=get_token)
    with pytest.raises(Stopped):
        await one.connection
    await settle()
    assert (Other.arguments, one.connection.state) == ([], "stopped")


@pytest.mark.gen_test
async def test_tasks_that_somebody_else_cancels_leave_none_of_tornados_behind(serve, client):
    one = client(serve(Flood), max_queue=1)
    await one.connection
    await until(lambda: one.connection._inbox.is_full)
    for _ in range(3):  # as when the loop is shut down, and in the middle of the goodbye
        one.connection._task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait({one.connection._task})


@pytest.mark.gen_test
async def test_closing_twice_at_the_same_time_still_says_goodbye(serve, client):
    one = client(serve(Echo, routes=[(r"/other", Other)]), "/other")
    await one.connection
    closing = [asyncio.ensure_future(one.connection.close()) for _ in range(3)]
    await asyncio.gather(*closing)
    await until(lambda: Other.live[0].ws_connection is None)
    assert Other.live[0].close_code == 1000
    assert one.ends == [(1000, "disconnected", "stop")]


@pytest.mark.gen_test
async def test_what_gives_credentials_is_let_go_of_at_the_end(serve, client):
    class Source:
        def __call__(self, *args: Any) -> str:
            return one.jwt()

    source = Source()
    one = client(serve(Chat), jwt=source)
    await one.connection
    alive = weakref.ref(source)
    await one.connection.close()
    del source
    assert alive() is None


@pytest.mark.gen_test
async def test_close_before_it_began_is_an_end_too(serve, client):
    one = client(serve(Chat))
    await one.connection.close()
    with pytest.raises(Stopped, match="Disconnected"):
        await one.connection
    assert one.jwts == []


@pytest.mark.gen_test
async def test_the_credentials_functions_may_close_the_connection(serve, client):
    async def jwt() -> str:
        await one.connection.close()
        return "never used"

    one = client(serve(Chat), jwt=jwt)
    with pytest.raises(Stopped):
        await one.connection
    assert "upgrade" not in one.steps
    assert one.ends == [(1000, "disconnected", "stop")]


@pytest.mark.gen_test
@pytest.mark.parametrize("name", ["on_state", "on_close", "on_step"])
async def test_a_callback_that_raises_is_logged_and_harms_nobody(serve, client, caplog, name):
    def broken(given: object) -> None:
        raise ZeroDivisionError

    one = client(serve(Chat), **{name: broken})
    await one.connection
    await one.connection.send("close 1012 x")
    await until(lambda: len(one.jwts) == 2)
    await one.connection.send("hello")
    while await one.connection.recv() != "hello":
        pass
    messages = {record.getMessage() for record in caplog.records if record.name == "tornado_wsauth.client"}
    assert messages == {f"{name}() raised an exception; the connection goes on"}


@pytest.mark.gen_test
async def test_a_defect_of_the_client_stops_it_and_hangs_nobody(serve, client, caplog, monkeypatch):
    monkeypatch.setattr("tornado_wsauth.client.connection.upgrade", lambda *args: 1 / 0)
    one = client(serve(Chat))
    with pytest.raises(Stopped, match=r"Something went wrong in this client: ZeroDivisionError\."):
        await one.connection
    assert one.ends == [(None, "client_error", "stop")]
    assert "this is a defect" in caplog.text
