"""The life of one connection over a real socket, from the handshake to the close."""

from __future__ import annotations

import pytest

from tests.support import Echo, jwt_message, make_jwt


@pytest.mark.gen_test
async def test_a_client_with_both_credentials_is_let_in(serve, connect):
    class Chat(Echo):
        pass

    server = serve(Chat)
    client, response = await connect(server)
    assert response.status == 101
    client.send_text(jwt_message(make_jwt("alice")))
    auth_ok = await client.read_json()
    assert auth_ok["type"] == "auth_ok"
    assert auth_ok["user_id"] == "alice"
    client.send_text("hello")
    assert (await client.read_frame())[1] == b"hello"
    assert Chat.events == ["open", "hello"]


@pytest.mark.gen_test
async def test_a_first_message_that_is_no_jwt_closes_4400(serve, connect):
    class Chat(Echo):
        pass

    server = serve(Chat)
    client, _ = await connect(server)
    client.send_text("hello")
    assert await client.read_close() == (4400, "bad_message")
    assert Chat.events == []
    assert len(server.auth.pending) == 0
