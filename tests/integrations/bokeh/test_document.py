"""Users get their document, and find Bokeh as it was."""

from __future__ import annotations

import numpy as np
import pytest
from bokeh.document.events import ModelChangedEvent
from bokeh.models.sources import ColumnDataSource
from bokeh.server.urls import per_app_patterns
from bokeh.server.views.ws import WSHandler

from tests.integrations.bokeh.client import Peer, session_token
from tests.support import until
from tornado_wsauth import WebSocketAuthMixin


@pytest.mark.gen_test
async def test_the_document_is_pulled_over_an_authenticated_socket(bokeh, enter):
    document = await (await enter("alice")).pull_document()
    assert document.title == "Dashboard"
    assert document.select_one({"name": "question"}).title == "Question"
    assert len(bokeh.get_sessions("/dashboard")) == 1


@pytest.mark.gen_test
async def test_a_change_goes_to_the_server_and_what_comes_of_it_comes_back(enter):
    peer = await enter("alice")
    document = await peer.pull_document()
    question, answer = (document.select_one({"name": name}) for name in ("question", "answer"))
    await peer.send("PATCH-DOC", [ModelChangedEvent(document, question, "value", "why?")])
    patch = await peer.receive()
    patch.apply_to_document(document)
    assert answer.text == "You asked: why?"
    assert (await peer.receive()).msgtype == "OK"


@pytest.mark.gen_test
async def test_two_sockets_with_one_session_token_share_its_document(bokeh, enter):
    token = session_token(bokeh, "alice")
    one, other = await enter("alice", session=token), await enter("alice", session=token)
    document = await one.pull_document()
    await other.pull_document()
    question = document.select_one({"name": "question"})
    await one.send("PATCH-DOC", [ModelChangedEvent(document, question, "value", "why?")])
    assert (await other.receive()).msgtype == "PATCH-DOC"
    assert len(bokeh.get_sessions("/dashboard")) == 1


@pytest.mark.gen_test
async def test_who_comes_with_a_session_token_that_has_expired_is_closed_by_bokeh(bokeh, auth, credentials, caplog):
    expired = session_token(bokeh, "alice", expiration=-1)
    token, jwt = await auth.issue_token("alice"), credentials.jwt("alice")
    peer = await Peer.open(bokeh, token=token, jwt=jwt, session=expired)
    assert await peer.connection.wait_closed() == (None, None)
    assert "Token is expired" in caplog.text
    assert bokeh.get_sessions() == []


@pytest.mark.gen_test
async def test_a_document_many_times_larger_than_the_buffer_arrives_whole(auth, enter, serve_module, monkeypatch):
    columns = {name: np.arange(500_000, dtype=float) for name in "abcdef"}  # 4 MB each

    def large(document):
        document.add_root(ColumnDataSource(columns, name="source"))

    assert sum(column.nbytes for column in columns.values()) > 20 * auth.max_buffer_bytes
    monkeypatch.setattr(serve_module, "dashboard", large)
    document = await (await enter("alice")).pull_document()
    data = document.select_one({"name": "source"}).data
    assert all(np.array_equal(data[name], column) for name, column in columns.items())


@pytest.mark.gen_test
async def test_bokehs_own_pings_are_answered_over_the_guarded_socket(bokeh, enter):
    peer = await enter("alice")
    (connection,) = bokeh._tornado._clients
    connection.send_ping()
    await until(lambda: connection._socket.latest_pong == 0)
    await peer.pull_document()


@pytest.mark.gen_test
async def test_bokeh_notices_who_leaves(bokeh, enter):
    peer = await enter("alice")
    (session,) = bokeh.get_sessions()
    assert session.connection_count == 1
    await peer.connection.close()
    await until(lambda: session.connection_count == 0)


def test_no_route_of_bokehs_leads_to_the_socket_without_the_mixin(serve_module, bokeh):
    handlers = [rule.target for rule in bokeh._tornado.wildcard_router.rules]
    sockets = [handler for handler in handlers if isinstance(handler, type) and issubclass(handler, WSHandler)]
    assert sockets == [serve_module.AuthenticatedSocket]
    assert issubclass(sockets[0], WebSocketAuthMixin)
    assert WSHandler not in [handler for _, handler, *_ in per_app_patterns]
