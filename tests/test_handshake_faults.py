"""Handshakes that fail through no fault of the client, and what the log says of those that fail."""

from __future__ import annotations

import asyncio
import logging

import pytest
from tornado.web import HTTPError

from tests.handshakes import (
    SlowAfterCheck,
    SlowBareGet,
    SlowBeforeCheck,
    SlowGet,
    SlowWithoutCheck,
    SpyStore,
    ask,
    status_of,
)
from tests.support import (
    Echo,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    settle,
    until,
)
from tornado_wsauth import MemoryTokenStore, TokenStoreError


@pytest.mark.gen_test
async def test_a_store_that_cannot_answer_is_a_503_and_never_a_101(serve):
    # A34
    store = SpyStore()
    server = serve(auth=make_auth(tokens=store))
    token = await server.auth.issue_token("alice")
    store.error = TokenStoreError("no primary")
    answer = await ask(server, f"/ws?token={token}")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert set(answer.json()) == {"error"}
    assert "primary" not in answer.body.decode()
    assert len(server.auth.pending) == 0
    store.error = None
    assert (await ask(server, f"/ws?token={token}")).status == 101


@pytest.mark.gen_test
async def test_a_store_that_cannot_start_is_a_503_until_it_can(serve):
    # A34
    class Unreachable(MemoryTokenStore):
        down = True

        async def start(self):
            if self.down:
                raise TokenStoreError("down")

    store = Unreachable()
    server = serve(auth=make_auth(tokens=store))
    token = await store.issue("alice", 30)
    assert (await ask(server, f"/ws?token={token}")).status == 503
    store.down = False
    assert (await ask(server, f"/ws?token={token}")).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), HTTPError(404), asyncio.CancelledError(), TimeoutError(), OSError("x")]
)
async def test_a_store_that_raises_anything_else_never_makes_a_101(serve, login, error):
    # A18
    class Chat(Echo):
        pass

    store = SpyStore()
    server = serve(Chat, auth=make_auth(tokens=store))
    token = await server.auth.issue_token("alice")
    store.error = error
    status = await status_of(server, f"/ws?token={token}")
    assert status in (404, 500, 503) or isinstance(error, asyncio.CancelledError)
    assert status != 101  # a cancelled request has no answer, or with Tornado 6.6 a 500
    assert len(server.auth.pending) == 0
    assert Chat.events == []
    store.error = None
    await login(server)


@pytest.mark.gen_test
async def test_a_store_that_returns_no_record_makes_no_101(serve):
    # A18
    class Broken(MemoryTokenStore):
        async def redeem(self, token, *, consume=True):
            return None

    server = serve(auth=make_auth(tokens=Broken()))
    token = await server.auth.issue_token("alice")
    assert (await ask(server, f"/ws?token={token}")).status == 500
    assert len(server.auth.pending) == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("setting", [{}, {"chat_auth": None}, {"chat_auth": "secret"}, {"chat_auth": {}}])
async def test_without_a_wsauth_in_the_settings_every_request_is_a_500_that_says_what_is_missing(
    serve, caplog, setting
):
    class Chat(Echo):
        wsauth_setting = "chat_auth"

    server = serve(Chat, **setting)
    token = await server.auth.issue_token("alice")
    for path in (f"/ws?token={token}", "/ws"):
        caplog.clear()
        assert (await ask(server, path)).status == 500
        said = " ".join(record.getMessage() + (record.exc_text or "") for record in caplog.records)
        assert "chat_auth" in said
        assert "WSAuth" in said
    assert token not in caplog.text
    assert Chat.events == []


@pytest.mark.gen_test
async def test_a_token_opens_only_handlers_of_the_wsauth_that_issued_it(serve, connect):
    class Staff(Echo):
        wsauth_setting = "staff_auth"

    staff = make_auth(token_param="pass")
    server = serve(routes=[("/staff", Staff)], staff_auth=staff)
    public_token, staff_token = await server.auth.issue_token("alice"), await staff.issue_token("alice")
    assert (await ask(server, f"/staff?pass={public_token}")).status == 401
    assert (await ask(server, f"/ws?token={staff_token}")).status == 401
    client, response = await connect(server, path=f"/staff?pass={staff_token}")
    assert response.status == 101
    client.send_text(jwt_message(make_jwt("alice")))
    assert (await client.read_json())["type"] == "auth_ok"
    assert (len(server.auth.connections), len(staff.connections)) == (0, 1)


@pytest.mark.gen_test
async def test_a_closed_wsauth_answers_503_and_asks_no_store(serve):
    # A27
    store = SpyStore()
    server = serve(auth=make_auth(tokens=store))
    token = await server.auth.issue_token("alice")
    await server.auth.close(grace=0)
    answer = await ask(server, f"/ws?token={token}")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert store.redeemed == []


@pytest.mark.gen_test
async def test_a_wsauth_that_closes_during_a_handshake_lets_nobody_through(serve, connect):
    # A27
    class Chat(Echo):
        pass

    store = SpyStore()
    server = serve(Chat, auth=make_auth(tokens=store))
    store.block()
    connecting = asyncio.ensure_future(connect(server))
    await store.entered.wait()
    closing = asyncio.ensure_future(server.auth.close(grace=0))
    await settle()
    store.release.set()
    client, response = await connecting
    await closing
    if response.status == 101:
        assert (await client.read_close())[0] == 1012
    else:
        assert response.status == 503
    assert len(server.auth.pending) == 0
    assert Chat.events == []


@pytest.mark.gen_test
async def test_a_handshake_that_fails_after_wsauth_began_to_close_is_told_and_logged_once(serve, connect, caplog):
    # A27, A39
    store = SpyStore()
    server = serve(auth=make_auth(tokens=store))
    store.block()
    connecting = asyncio.ensure_future(connect(server, path=f"/ws?token={'A' * 43}"))
    await store.entered.wait()
    await server.auth.close(grace=0)
    store.release.set()
    _, response = await connecting
    assert (response.status, response.json()) == (503, {"error": "closing"})
    assert [record.reason for record in caplog.records if record.name == "tornado_wsauth"] == ["restart"]


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [SlowBeforeCheck, SlowAfterCheck, SlowWithoutCheck, SlowGet, SlowBareGet])
async def test_a_wsauth_that_closes_while_the_application_prepares_lets_nobody_through(serve, connect, handler):
    # A27
    class Chat(handler):
        waits = asyncio.Event()
        release = asyncio.Event()

    server = serve(Chat)
    connecting = asyncio.ensure_future(connect(server))
    await Chat.waits.wait()
    await server.auth.close(grace=0)
    Chat.release.set()
    client, response = await connecting
    if response.status == 101:
        client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"hello"))
        assert (await client.read_close())[0] == 1012
    else:
        assert response.status == 503
    assert len(server.auth.pending) == 0
    await client.close()
    await settle()
    assert Chat.events == []


@pytest.mark.gen_test
async def test_every_refusal_before_the_upgrade_is_one_record(serve, caplog):
    # A39
    caplog.set_level(logging.INFO, "tornado_wsauth")
    server = serve()
    token = await server.auth.issue_token("alice")
    await ask(server, f"/ws?token={token}")
    await until(lambda: len(server.auth.pending) == 0)
    cases: list[tuple[str, dict[str, str | None], int, str | None]] = [
        ("/ws", {}, 401, None),
        ("/ws?token=" + "A" * 43, {}, 401, None),
        (f"/ws?token={token}", {}, 401, "alice"),
        ("/ws", {"method": "DELETE"}, 405, None),
        ("/ws", {"Upgrade": None}, 426, None),
        ("/ws", {"Origin": "https://evil.example"}, 403, None),
    ]
    for path, headers, status, user_id in cases:
        caplog.clear()
        await ask(server, path, **headers)
        (record,) = (record for record in caplog.records if record.name == "tornado_wsauth")
        assert (record.event, record.code, record.user_id) == ("refused", status, user_id)
        assert (record.remote_ip, record.path) == ("127.0.0.1", "/ws")
        assert record.reason
        assert token not in record.getMessage()


@pytest.mark.gen_test
async def test_on_auth_failed_is_told_the_reason_in_the_log(serve, caplog):
    # A39
    class Chat(Echo):
        def on_auth_failed(self, reason):
            self.events.append(reason)
            raise RuntimeError("the application's statistics are broken")

    server = serve(Chat, auth=make_auth(max_pending=1))
    used, unused = [await server.auth.issue_token("alice") for _ in range(2)]
    await ask(server, f"/ws?token={used}")
    reasons = []
    for path, headers, status in (
        ("/ws", {}, 401),
        (f"/ws?token={used}", {}, 401),
        ("/ws?token=" + "A" * 43, {}, 401),
        (f"/ws?token={unused}", {"Upgrade": None}, 426),
        (f"/ws?token={unused}", {"Origin": "https://evil.example"}, 403),
    ):
        await until(lambda: len(server.auth.pending) == 0)
        caplog.clear()
        assert (await ask(server, path, **headers)).status == status
        reasons += [record.reason for record in caplog.records if getattr(record, "event", "") == "refused"]
    assert Chat.events == reasons
    assert len(set(reasons)) == 5
