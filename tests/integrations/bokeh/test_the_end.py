"""A socket ends with its JWT, and with its user's login; Bokeh is told, and sends nothing more."""

from __future__ import annotations

import pytest
from bokeh.document.events import ModelChangedEvent
from tornado.httpclient import AsyncHTTPClient

from tests.integrations.bokeh.client import cookie_of
from tests.support import until


@pytest.mark.gen_test
async def test_the_socket_closes_when_the_jwt_expires(bokeh, enter, clock):
    peer = await enter("alice", expires_in=60)
    (session,) = bokeh.get_sessions()
    clock.advance(60)
    assert await peer.connection.wait_closed() == (4401, "jwt_expired")
    await until(lambda: session.connection_count == 0)


@pytest.mark.gen_test
async def test_another_jwt_may_come_between_the_frames_of_one_of_bokehs_messages(enter, credentials, clock):
    peer = await enter("alice", expires_in=60)
    document = await peer.pull_document()
    question = document.select_one({"name": "question"})
    message = peer._protocol.create("PATCH-DOC", [ModelChangedEvent(document, question, "value", "why?")])
    await peer.connection.send(message.header_json)
    await peer.connection.refresh(credentials.jwt("alice", expires_in=600))
    await peer.connection.send(message.metadata_json)
    await peer.connection.send(message.content_json)
    assert [(await peer.receive()).msgtype for _ in range(2)] == ["PATCH-DOC", "OK"]
    clock.advance(300)
    await peer.pull_document()


@pytest.mark.gen_test
async def test_logging_out_closes_the_users_sockets_and_nobody_elses(bokeh, enter):
    alice, bob = await enter("alice"), await enter("bob")
    headers = {"Cookie": f"member={cookie_of(bokeh, 'alice')}; _xsrf=1", "X-XSRFToken": "1"}
    logout = f"http://localhost:{bokeh.port}/logout"
    await AsyncHTTPClient().fetch(logout, method="POST", body="", headers=headers)
    assert await alice.connection.wait_closed() == (4403, "revoked")
    assert (await bob.pull_document()).title == "Dashboard"


@pytest.mark.gen_test
async def test_a_change_on_the_server_does_not_reach_who_was_logged_out(bokeh, auth, enter):
    peer = await enter("alice")
    await peer.pull_document()
    (session,) = bokeh.get_sessions()
    await auth.disconnect_user("alice")
    await session.with_document_locked(session.document.set_title, "too late")
    assert await peer.connection.wait_closed() == (4403, "revoked")
    with pytest.raises(Exception, match="4403"):
        await peer.connection.receive()
