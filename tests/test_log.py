"""What a record is, and the record of each handshake that fails."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import jwt as pyjwt
import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from tests.logs import FIELDS, UNKNOWN_TOKEN
from tests.support import (
    CLOSE,
    SECRET,
    Echo,
    RawClient,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    until,
)
from tornado_wsauth import JWTVerifier, MemoryTokenStore, TokenStoreError, WSAuth, log


def request_for(path: str = "/ws") -> HTTPServerRequest:
    connection = SimpleNamespace(context=SimpleNamespace(remote_ip="192.0.2.1", protocol="http"))
    return HTTPServerRequest(
        headers=HTTPHeaders({"Host": "app.example"}),
        connection=connection,  # type: ignore[arg-type]
        start_line=RequestStartLine("GET", path, "HTTP/1.1"),
    )


def test_a_record_carries_its_fields_as_attributes(logged):  # A39
    log.record("closed", request_for("/chat"), reason="restart", user_id="alice", code=1012, detail="a detail")
    (record,) = logged.records
    assert {name: getattr(record, name) for name in FIELDS} == {
        "event": "closed",
        "reason": "restart",
        "user_id": "alice",
        "remote_ip": "192.0.2.1",
        "path": "/chat",
        "code": 1012,
    }
    assert json.dumps({name: getattr(record, name) for name in FIELDS})
    for text in ("closed", "restart", "alice", "192.0.2.1", "/chat", "1012", "a detail"):
        assert text in record.getMessage()


def test_a_level_that_is_off_writes_no_record(logged, caplog):  # A39
    caplog.set_level(logging.WARNING, "tornado_wsauth")
    log.record("accepted", request_for(), reason="auth_ok", user_id="alice", code=None)
    assert logged.records == []
    log.record("refused", request_for(), reason="closing", user_id=None, code=503)
    assert len(logged.records) == 1


LINE_BREAKS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("line_break", LINE_BREAKS, ids=ascii)
def test_no_field_that_comes_from_outside_starts_a_line_of_its_own(logged, line_break):  # A39
    forged = f"x{line_break}accepted auth_ok: user='admin'"
    for fields in ({"user_id": forged}, {"detail": forged}):
        log.record("refused", request_for(), **{"reason": "token_unknown", "user_id": None, "code": 401, **fields})
    log.record("refused", request_for(f"/{forged}"), reason="token_unknown", user_id=None, code=401)
    assert [len(record.getMessage().splitlines()) for record in logged.records] == [1, 1, 1]


@pytest.mark.gen_test
async def test_a_user_id_with_a_line_break_starts_no_line_of_its_own(serve, connect, logged):  # A39
    user = "alice\n2026-01-01 accepted auth_ok: user='admin'"
    client, _ = await connect(serve(), user)
    client.send_text(jwt_message(make_jwt(user)))
    await client.read_json()
    client.send(frame(b"\x03\xe8", CLOSE))
    await client.read_close()
    await until(lambda: len(logged.records) == 2)
    for record in logged.records:
        assert record.user_id == user, "the attribute is the id itself: it is the formatter's business to quote it"
        assert len(record.getMessage().splitlines()) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("line_break", ["\x0b", "\x0c", "\x1c", "\x85"], ids=ascii)
async def test_a_path_with_a_line_break_of_unicode_starts_no_line_of_its_own(serve, connect, logged, line_break):  # A39
    """Tornado reads a request line as Latin-1 and takes any of these in it."""
    server = serve(routes=[(r"/any.*", Echo)])
    _, response = await connect(server, path=f"/any{line_break}accepted")
    assert response.status in (400, 401)
    assert [len(record.getMessage().splitlines()) for record in logged.records] in ([1], [])


@pytest.mark.gen_test
async def test_what_a_jwt_says_about_itself_starts_no_line_of_its_own(serve, connect, logged):  # A39
    forged = "x\naccepted auth_ok: user='admin'"
    keys = {"one": SECRET, "two": SECRET + "2"}
    auth = WSAuth(JWTVerifier(keys, algorithms=["HS256"], audience="us", issuer="idp"))
    server = serve(Echo, auth)
    claims = {"sub": "alice", "exp": 99999999999, "aud": "us", "iss": "idp"}
    for payload, headers in [
        (claims, {"kid": forged}),
        (claims, {"kid": "one", "typ": forged}),
        (claims, {"kid": "one", "crit": [forged], forged: 1}),
        ({**claims, "aud": forged}, {"kid": "one"}),
        ({**claims, "iss": forged}, {"kid": "one"}),
        ({**claims, "exp": forged}, {"kid": "one"}),
        ({**claims, "sub": [forged]}, {"kid": "one"}),
    ]:
        client, _ = await connect(server)
        client.send_text(jwt_message(pyjwt.encode(payload, SECRET, algorithm="HS256", headers=headers)))
        assert (await client.read_close())[0] == 4401
    assert len(logged.records) == 7
    assert [len(record.getMessage().splitlines()) for record in logged.records] == [1] * 7


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "token_missing"),
        ("?other=1", "token_missing"),
        ("?token=", "token_malformed"),
        ("?token=x", "token_malformed"),
        (f"?token={UNKNOWN_TOKEN}&token={UNKNOWN_TOKEN}", "token_malformed"),
        (f"?token={UNKNOWN_TOKEN}", "token_unknown"),
    ],
)
async def test_a_refused_token_is_one_record(serve, connect, check, query, reason):  # A39
    await connect(serve(), path=f"/ws{query}")
    check(("refused", reason, None, 401))


@pytest.mark.gen_test
async def test_a_replayed_and_an_expired_token_are_told_apart_in_the_log_and_say_whose_they_were(serve, connect, check):
    # A39, A7
    now = [1000.0]
    auth = make_auth(tokens=MemoryTokenStore(clock=lambda: now[0]))
    server = serve(Echo, auth)
    spent, expired = await auth.issue_token("alice"), await auth.issue_token("bob")
    await auth.redeem_token(spent)
    await connect(server, path=f"/ws?token={spent}")
    now[0] += 30
    await connect(server, path=f"/ws?token={expired}")
    check(("refused", "token_replayed", "alice", 401), ("refused", "token_expired", "bob", 401))


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("headers", "method", "reason", "code"),
    [
        ({"Origin": "https://evil.example"}, "GET", "origin_not_allowed", 403),
        ({}, "POST", "method_not_allowed", 405),
        ({}, "DELETE", "method_not_allowed", 405),
        ({"Upgrade": None}, "GET", "upgrade_required", 426),
        ({"Sec_WebSocket_Version": "8"}, "GET", "upgrade_required", 426),
        ({"Sec_WebSocket_Key": "short"}, "GET", "malformed_handshake", 400),
        ({"Sec_WebSocket_Key": None}, "GET", "malformed_handshake", 400),
    ],
)
async def test_a_request_that_cannot_become_a_websocket_is_one_record(
    serve, connect, check, headers, method, reason, code
):  # A39
    await connect(serve(), method=method, **headers)
    check(("refused", reason, None, code))


@pytest.mark.gen_test
async def test_too_many_pending_is_one_record_for_each_upgrade(serve, connect, check):  # A39
    server = serve(Echo, make_auth(max_pending=1))
    await connect(server)
    await connect(server, "bob")
    await connect(server, "carol")
    check(("refused", "too_many_pending", None, 503), ("refused", "too_many_pending", None, 503))


@pytest.mark.gen_test
async def test_a_store_that_cannot_answer_is_one_record_that_says_why(serve, connect, check, logged):  # A39
    class Down(MemoryTokenStore):
        async def redeem(self, token: str, *, consume: bool = True) -> Any:
            raise TokenStoreError("no primary found")

    await connect(serve(Echo, make_auth(tokens=Down())))
    check(("refused", "store_unavailable", None, 503))
    assert "no primary found" in logged.records[0].getMessage()
    assert logged.errors == []


@pytest.mark.gen_test
async def test_while_closing_an_upgrade_is_one_record(serve, connect, check):  # A39
    server = serve()
    await server.auth.close(grace=0)
    await connect(server)
    check(("refused", "closing", None, 503))


@pytest.mark.gen_test
async def test_a_client_that_leaves_during_the_handshake_is_one_record(serve, connect, check, logged):  # A39, A10
    entered, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryTokenStore):
        async def redeem(self, token: str, *, consume: bool = True) -> Any:
            entered.set()
            await go_on.wait()
            return await super().redeem(token, consume=consume)

    class Chat(Echo):
        pass

    auth = make_auth(tokens=Slow())
    server = serve(Chat, auth)
    client = await RawClient.connect(server.port)
    connecting = asyncio.ensure_future(client.upgrade(f"/ws?token={await auth.issue_token('alice')}"))
    await entered.wait()
    client.abort()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await connecting
    await asyncio.sleep(0.01)  # the reset has to reach the server, which says nothing about it
    go_on.set()
    await until(lambda: bool(logged.records))
    await until(lambda: not auth.pending)
    (record,) = logged.records
    assert (record.event, record.reason) in [("refused", "client_left"), ("closed", "disconnected")]
    assert Chat.events == []


@pytest.mark.gen_test
async def test_a_bug_in_the_store_is_logged_with_its_traceback_and_is_one_record(serve, connect, logged):  # A39
    class Buggy(MemoryTokenStore):
        async def redeem(self, token: str, *, consume: bool = True) -> Any:
            raise ZeroDivisionError

    auth = make_auth(tokens=Buggy())
    _, response = await connect(serve(Echo, auth))
    assert response.status == 500
    assert [error.exc_info[0] for error in logged.errors] == [ZeroDivisionError]
    assert [(record.event, record.code) for record in logged.records if hasattr(record, "event")] == [("refused", 500)]
    assert not auth.pending
