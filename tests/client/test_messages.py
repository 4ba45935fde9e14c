"""What the application sends and receives, across reconnects, and what waits for it."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.client.kit import Obedient, Scripted, receive
from tests.support import Echo, make_jwt, settle, until
from tornado_wsauth.client import Stopped
from tornado_wsauth.client.errors import Stopped as StoppedError
from tornado_wsauth.client.inbox import Inbox
from tornado_wsauth.client.reactions import Close


class Chat(Obedient):
    pass


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("data", "echoed"),
    [
        ("text ü", "text ü"),
        ("", ""),
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"ab"), b"ab"),
        ({"type": "news", "n": 1}, '{"type": "news", "n": 1}'),
        ([1, "two"], '[1, "two"]'),
    ],
)
async def test_text_bytes_and_json_arrive_as_what_they_are(serve, client, data, echoed):
    one = client(serve(Chat))
    await one.connection
    await one.connection.send(data)
    assert await one.connection.recv() == echoed


@pytest.mark.gen_test
@pytest.mark.parametrize("data", [None, 7, object(), {"a": object()}])
async def test_what_cannot_be_sent_is_a_type_error_at_once(serve, client, data):
    one = client(serve(Chat))
    with pytest.raises(TypeError):
        await one.connection.send(data)


@pytest.mark.gen_test
async def test_the_protocols_own_messages_are_kept_from_the_application_and_its_own_are_not(serve, client):
    class Talkative(Chat):
        def open(self, *args: str, **kwargs: str) -> None:
            for text in (
                "first",
                '{"type": "auth_expiring", "expires_in": 30}',
                '{"type": "auth_ok", "user_id": "alice", "expires_at": 1}',
                '{"type": "auth_ok", "user_id": "mallory", "expires_at": 1}',
                '"auth_',
                '["auth_ok"]',
                '{"type": "auth_okay"}',
                json.dumps({"type": "auth_expiring", "padding": "x" * 5000}),
            ):
                self.write_message(text)
            self.write_message(b'{"type": "auth_expiring"}', binary=True)

    one = client(serve(Talkative), jwt=make_jwt())  # nothing to renew with: no auth_ok is due
    await one.connection
    received = await receive(one.connection, 8)
    assert received[0] == "first"
    assert [text[:32] for text in received[1:3]] == [
        '{"type": "auth_ok", "user_id": "',
        '{"type": "auth_ok", "user_id": "',
    ]
    assert received[3:6] == ['"auth_', '["auth_ok"]', '{"type": "auth_okay"}']
    assert json.loads(received[6])["type"] == "auth_expiring"
    assert received[7] == b'{"type": "auth_expiring"}'
    assert one.connection.user_id == "alice"


@pytest.mark.gen_test
async def test_iteration_goes_on_across_reconnects_and_ends_with_close(serve, client):
    one = client(serve(Chat))
    connection = await one.connection
    received = []

    async def consume() -> str:
        async for message in connection:
            received.append(message)
        return "ended"

    consuming = asyncio.ensure_future(consume())
    for number in range(3):
        await connection.send(f"message {number}")
        await until(lambda number=number: len(received) == number + 1)
        await connection.send("close 1012 restart")
        await until(lambda number=number: one.steps.count("ready") == number + 2)
    await connection.close()
    assert await consuming == "ended"
    assert received == ["message 0", "message 1", "message 2"]


@pytest.mark.gen_test
async def test_iteration_raises_when_it_was_the_server_that_ended_it_and_delivers_what_came_before(serve, client):
    one = client(serve(Chat))
    connection = await one.connection
    for data in ("a", "b", "close 4403 revoked"):
        await connection.send(data)
    await until(lambda: connection.state == "stopped")
    assert [await anext(connection), await anext(connection)] == ["a", "b"]
    with pytest.raises(Stopped) as stopped:
        await anext(connection)
    assert stopped.value.close.code == 4403
    with pytest.raises(Stopped):
        await connection.recv()


@pytest.mark.gen_test
async def test_send_waits_until_it_is_ready_again_and_keeps_the_order(serve, client):
    one = client(serve(Chat))
    one.seams.holds_pauses = True
    connection = await one.connection
    await connection.send("close 1012 restart")
    await until(lambda: connection.state == "waiting")
    sends = [asyncio.ensure_future(connection.send(f"message {number}")) for number in range(5)]
    await settle()
    assert not any(send.done() for send in sends)
    connection.retry_now()
    await asyncio.gather(*sends)
    assert await receive(connection, 5) == [f"message {number}" for number in range(5)]


@pytest.mark.gen_test
async def test_send_that_waits_raises_when_the_connection_stops(serve, client):
    one = client(serve(Chat), decide=lambda close: "stop" if close.during == "connecting" else None)
    one.seams.holds_pauses = True
    connection = await one.connection
    one.connection._credentials._get_token = lambda jwt: 1 / 0
    await connection.send("close 1012 restart")
    await until(lambda: connection.state == "waiting")
    sending = asyncio.ensure_future(connection.send("hello"))
    await settle()
    connection.retry_now()
    with pytest.raises(Stopped, match="ZeroDivisionError"):
        await sending


@pytest.mark.gen_test
async def test_a_send_into_a_connection_that_breaks_goes_out_on_the_next_one_and_once(serve, client):
    class Other(Scripted):
        pass

    one = client(serve(Echo, routes=[(r"/other", Other)]), "/other")
    connection = await one.connection
    size = 8_000_000  # more than the buffers between us take, so that it cannot be sent whole
    first = Other.live[0].ws_connection
    reading = first.stream.socket  # the server stops to read
    Other.live[0].ws_connection.stream.io_loop.remove_handler(reading)
    sending = asyncio.ensure_future(connection.send(b"x" * size))
    await settle()
    assert not sending.done()
    first.stream.close()
    await sending
    await until(lambda: len(Other.heard) == 3)
    assert [len(message) for message in Other.heard[1:]] == [len(Other.heard[1]), size]
    assert one.steps.count("ready") == 2


@pytest.mark.gen_test
async def test_a_cancelled_recv_loses_no_message(serve, client):
    one = client(serve(Chat))
    connection = await one.connection
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await connection.recv()
    waiting = asyncio.ensure_future(connection.recv())
    await settle()
    connection._inbox.put("hello")  # and in the same turn of the loop
    waiting.cancel()
    await settle()
    assert waiting.cancelled()
    assert await connection.recv() == "hello"


@pytest.mark.gen_test
async def test_each_message_goes_to_one_of_those_who_wait(serve, client):
    one = client(serve(Chat))
    connection = await one.connection
    waiting = [asyncio.ensure_future(connection.recv()) for _ in range(3)]
    for number in range(3):
        await connection.send(str(number))
    assert sorted(await asyncio.gather(*waiting)) == ["0", "1", "2"]


@pytest.mark.gen_test
async def test_a_full_queue_stops_the_reading_and_nothing_is_lost(serve, client):
    class Flood(Chat):
        def open(self, *args: str, **kwargs: str) -> None:
            for number in range(200):
                self.write_message(str(number))

    one = client(serve(Flood), max_queue=10)
    connection = await one.connection
    inbox = connection._inbox
    await until(lambda: inbox.is_full)
    for _ in range(5):
        await settle()
        assert len(inbox._messages) == 10
    assert await receive(connection, 200) == [str(number) for number in range(200)]


@pytest.mark.gen_test
async def test_a_full_queue_does_not_keep_a_sender_from_the_next_connection(serve, client):
    class Other(Scripted):
        pass

    one = client(serve(Echo, routes=[(r"/other", Other)]), "/other", max_queue=1)
    connection = await one.connection
    for number in range(4):
        await Other.live[0].write_message(str(number))
    await until(lambda: connection._inbox.is_full)
    await settle()
    Other.live[0].ws_connection.stream.close()
    while one.steps.count("ready") < 2:  # the first may still seem to go out
        await connection.send("hello")
        await settle()
    assert await receive(connection, 3) == ["0", "1", "2"]


@pytest.mark.gen_test
async def test_an_inbox_that_has_ended_takes_nothing_and_gives_what_it_has():
    close = Close(1000, "", "", "ready", "stop", None)
    inbox = Inbox(2)
    inbox.put("kept")
    inbox.end(StoppedError(close), discard=False)
    inbox.put("late")
    assert await inbox.get() == "kept"
    with pytest.raises(Stopped):
        await inbox.get()
