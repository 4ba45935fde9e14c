"""When there is no token to be had, and who an application says is asking."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import tornado.web

from tests.support import Response, http, make_auth, settle, until
from tests.token_routes import (
    APP,
    Store,
    assert_may_read,
    assert_refused,
    bearer,
    cors_auth,
    login_cookie,
    start,
    user_of,
)
from tornado_wsauth import (
    JWTVerifier,
    KeySourceError,
    MemoryTokenStore,
    TokenHandler,
    TokenStoreError,
    WSAuth,
)


def assert_retry_later(response: Response, status: int, error: str) -> None:
    assert_refused(response, status, error)
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.gen_test
async def test_beyond_the_limit_there_is_no_further_token(serve):  # A4
    server = start(serve)
    tokens = [(await http(server, Authorization=bearer())).json()["token"] for _ in range(10)]
    response = await http(server, Authorization=bearer())
    assert_retry_later(response, 429, "too_many_tokens")
    assert await user_of(server, await http(server, Authorization=bearer("bob"))) == "bob"
    await server.auth.redeem_token(tokens[0])
    assert (await http(server, Authorization=bearer())).status == 200
    assert (await http(server, Authorization=bearer())).status == 429


@pytest.mark.gen_test
async def test_an_expired_token_frees_its_place(serve):  # A4
    now = [1000.0]
    server = start(serve, make_auth(tokens=MemoryTokenStore(clock=lambda: now[0]), max_tokens_per_user=1))
    assert (await http(server, Authorization=bearer())).status == 200
    assert (await http(server, Authorization=bearer())).status == 429
    now[0] += 30
    assert (await http(server, Authorization=bearer())).status == 200


@pytest.mark.gen_test
async def test_parallel_requests_do_not_get_past_the_limit(serve):  # A4
    server = start(serve, make_auth(max_tokens_per_user=3))
    answers = await asyncio.gather(*(http(server, Authorization=bearer()) for _ in range(12)))
    assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 9


@pytest.mark.gen_test
async def test_retry_after_is_no_longer_than_a_token_lives(serve):  # A4
    server = start(serve, make_auth(max_tokens_per_user=1, token_ttl=45))
    await http(server, Authorization=bearer())
    response = await http(server, Authorization=bearer())
    assert 1 <= int(response.headers["retry-after"]) <= 45


@pytest.mark.gen_test
async def test_a_store_that_cannot_answer_is_a_503(serve):  # A34
    store = Store()
    server = start(serve, make_auth(tokens=store))
    store.error = TokenStoreError("down")
    assert_retry_later(await http(server, Authorization=bearer()), 503, "store_unavailable")
    store.error = None
    assert (await http(server, Authorization=bearer())).status == 200


@pytest.mark.gen_test
async def test_a_store_that_cannot_be_started_is_a_503_until_it_can(serve):  # A34
    class Late(MemoryTokenStore):
        failures = 2

        async def start(self) -> None:
            self.failures -= 1
            if self.failures >= 0:
                raise TokenStoreError("not there yet")

    server = start(serve, make_auth(tokens=Late()))
    assert_retry_later(await http(server, Authorization=bearer()), 503, "store_unavailable")
    assert_retry_later(await http(server, Authorization=bearer()), 503, "store_unavailable")
    assert (await http(server, Authorization=bearer())).status == 200


@pytest.mark.gen_test
async def test_a_bug_in_the_store_is_a_500_and_json(serve, caplog):
    store = Store()
    store.error = ZeroDivisionError("a bug")
    response = await http(start(serve, make_auth(tokens=store)), Authorization=bearer())
    assert_refused(response, 500, "internal")
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


@pytest.mark.gen_test
async def test_without_keys_to_verify_a_jwt_with_it_is_a_503(serve):  # A21
    class Keyless:
        async def key_for(self, kid: str | None, alg: str) -> Any:
            raise KeySourceError("the JWKS server is down")

    auth = WSAuth(JWTVerifier(Keyless(), algorithms=["RS256"]))
    jwt = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiJhIn0.AAAA"
    server = start(serve, auth)
    assert_retry_later(await http(server, Authorization=f"Bearer {jwt}"), 503, "keys_unavailable")
    assert await user_of(server, await http(server, "/cookie", Cookie=login_cookie())) == "alice"


@pytest.mark.gen_test
async def test_while_closing_there_are_no_tokens(serve):  # A27
    server = start(serve, cors_auth())
    await server.auth.close(grace=0)
    response = await http(server, Authorization=bearer(), Origin=APP)
    assert_retry_later(response, 503, "closing")
    assert_may_read(response)
    assert_retry_later(await http(server, "/cookie", Cookie=login_cookie()), 503, "closing")


@pytest.mark.gen_test
async def test_without_a_wsauth_there_is_no_token_and_the_log_says_what_to_do(serve, caplog):
    class Lost(TokenHandler):
        wsauth_setting = "elsewhere"

    response = await http(start(serve, routes=[(r"/lost", Lost)]), "/lost", Authorization=bearer())
    assert response.status == 500
    assert "token" not in response.json()
    assert response.headers["cache-control"] == "no-store"
    assert "Application(elsewhere=None)" in caplog.text
    assert "elsewhere=WSAuth(" in caplog.text


@pytest.mark.gen_test
async def test_a_second_wsauth_is_used_where_a_handler_names_it(serve):
    other = make_auth(token_ttl=99)

    class Other(TokenHandler):
        wsauth_setting = "other"

    server = start(serve, routes=[(r"/other", Other)], other=other)
    token = (await http(server, "/other", Authorization=bearer())).json()
    assert token["expires_in"] == 99
    assert (await other.redeem_token(token["token"])).user_id == "alice"


def token_for(user_id: Any, *, is_async: bool) -> type[TokenHandler]:
    if is_async:

        class Token(TokenHandler):
            async def get_user_id(self) -> Any:
                await asyncio.sleep(0)
                return user_id

    else:

        class Token(TokenHandler):  # type: ignore[no-redef]
            def get_user_id(self) -> Any:
                return user_id

    return Token


@pytest.mark.gen_test
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("given", "user_id"), [("alice", "alice"), (b"alice", "alice"), (7, "7"), (0, "0"), ("zoë", "zoë")]
)
async def test_an_override_says_who_asks(serve, given, user_id, is_async):  # A1
    server = start(serve, routes=[(r"/own", token_for(given, is_async=is_async))])
    assert await user_of(server, await http(server, "/own")) == user_id


@pytest.mark.gen_test
@pytest.mark.parametrize("is_async", [False, True])
async def test_an_override_that_knows_nobody_is_a_401(serve, is_async):  # A1
    server = start(serve, routes=[(r"/own", token_for(None, is_async=is_async))])
    response = await http(server, "/own", Authorization=bearer())
    assert_refused(response, 401, "unauthorized")
    assert "www-authenticate" in response.headers


@pytest.mark.gen_test
@pytest.mark.parametrize("garbage", ["", b"", b"\xff", "\ud800", True, False, 1.5, {"id": 7}, ["alice"], object()])
async def test_an_override_that_returns_no_user_id_is_told_what_to_return(serve, caplog, garbage):
    server = start(serve, routes=[(r"/own", token_for(garbage, is_async=False))])
    response = await http(server, "/own")
    assert response.status == 500
    assert set(response.json()) == {"error"}
    errors = [record for record in caplog.records if record.exc_info]
    assert len(errors) == 1
    assert errors[0].exc_info[0].__name__ == "ConfigurationError"
    message = str(errors[0].exc_info[1])
    assert "get_user_id" in message
    assert re.search(r"\bstr\b", message), "it says what to return"


@pytest.mark.gen_test
@pytest.mark.parametrize("user", [{"id": 7}, object()])
async def test_a_current_user_that_is_no_user_id_is_told_to_override_get_user_id(serve, caplog, user):
    class Token(TokenHandler):
        def get_current_user(self) -> Any:
            return user

    response = await http(start(serve, routes=[(r"/own", Token)]), "/own")
    assert response.status == 500
    assert "get_user_id" in caplog.text
    assert "ConfigurationError" in caplog.text


@pytest.mark.gen_test
@pytest.mark.parametrize("nobody", [None, "", b"", False, 0])
async def test_a_current_user_that_tornado_takes_for_nobody_is_nobody(serve, nobody):  # A1
    """``authenticated`` looks whether ``current_user`` is true; an anonymous user must not become user 0 or ''."""

    class Token(TokenHandler):
        def get_current_user(self) -> Any:
            return nobody

    assert_refused(await http(start(serve, routes=[(r"/own", Token)]), "/own"), 401, "unauthorized")


@pytest.mark.gen_test
async def test_a_current_user_set_in_an_async_prepare_is_honoured(serve):  # A1
    class Token(TokenHandler):
        async def prepare(self) -> None:
            await asyncio.sleep(0)
            self.current_user = "dave"

    server = start(serve, routes=[(r"/own", Token)])
    assert await user_of(server, await http(server, "/own")) == "dave"


@pytest.mark.gen_test
async def test_an_override_is_asked_once_for_each_post_and_for_nothing_else(serve):
    asked: list[str] = []

    class Token(TokenHandler):
        def get_user_id(self) -> Any:
            asked.append(self.request.method)
            return "alice"

    server = start(serve, cors_auth(), routes=[(r"/own", Token)])
    for method in ("POST", "GET", "HEAD", "OPTIONS", "POST"):
        await http(server, "/own", method=method, Origin=APP)
    assert asked == ["POST", "POST"]


@pytest.mark.gen_test
async def test_an_override_is_never_asked_on_behalf_of_a_foreign_page(serve):  # A3
    asked: list[str] = []

    class Token(TokenHandler):
        def get_user_id(self) -> Any:
            asked.append("asked")
            return "alice"

    server = start(serve, routes=[(r"/own", Token)])
    assert_refused(await http(server, "/own", Origin="https://evil.example"), 403, "origin_not_allowed")
    assert asked == []


@pytest.mark.gen_test
async def test_an_override_that_raises_an_http_error_answers_with_it(serve):
    class Token(TokenHandler):
        def get_user_id(self) -> Any:
            raise tornado.web.HTTPError(418)

    response = await http(start(serve, routes=[(r"/own", Token)]), "/own")
    assert response.status == 418
    assert set(response.json()) == {"error"}


@pytest.mark.gen_test
async def test_an_override_may_await_super(serve):
    class Token(TokenHandler):
        async def get_user_id(self) -> Any:
            user_id = super().get_user_id()
            return await user_id if asyncio.iscoroutine(user_id) else user_id  # type: ignore[misc]

    server = start(serve, routes=[(r"/own", Token)])
    assert await user_of(server, await http(server, "/own", Authorization=bearer("bob"))) == "bob"


@pytest.mark.gen_test
async def test_a_client_that_hangs_up_while_the_store_thinks_harms_nobody(serve, caplog):
    entered, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryTokenStore):
        async def issue(self, *args: Any, **kwargs: Any) -> str:
            entered.set()
            await go_on.wait()
            return await super().issue(*args, **kwargs)

    store = Slow()
    server = start(serve, make_auth(tokens=store))
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        f"POST /ws/token HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    await entered.wait()
    writer.transport.abort()
    await asyncio.sleep(0)
    go_on.set()
    await until(lambda: len(store) == 1)
    assert (await http(server, Authorization=bearer())).status == 200
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.gen_test
async def test_a_client_that_leaves_before_its_token_comes_is_no_error(serve, caplog):
    class Slow(Store):
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def issue(self, *args: Any, **kwargs: Any) -> str:
            self.asked.set()
            await self.go_on.wait()
            return await super().issue(*args, **kwargs)

    store = Slow()
    server = start(serve, make_auth(tokens=store))
    asking = asyncio.ensure_future(http(server, Authorization=bearer()))
    await store.asked.wait()
    asking.cancel()
    await settle()
    store.go_on.set()
    await until(lambda: len(store) == 1)
    await settle()
    assert [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"] == []
