"""`WSAuth`: its options, its start, and what it does with tokens and JWTs."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from tornado.web import RequestHandler

from tests.support import SECRET, Echo, make_auth, make_jwt, settle, until
from tornado_wsauth import (
    AuthError,
    Clock,
    ConfigurationError,
    JWTVerifier,
    MemoryTokenStore,
    TokenHandler,
    TokenLimitReached,
    TokenRejected,
    TokenStoreError,
    WSAuth,
)
from tornado_wsauth.auth import find_auth

# --- options ---------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_documentation():
    auth = make_auth()
    assert {
        name: getattr(auth, name)
        for name in (
            "token_ttl",
            "single_use",
            "token_param",
            "max_tokens_per_user",
            "auth_timeout",
            "max_preauth_bytes",
            "max_pending",
            "allowed_origins",
            "closing",
        )
    } == {
        "token_ttl": 30,
        "single_use": True,
        "token_param": "token",
        "max_tokens_per_user": 10,
        "auth_timeout": 10,
        "max_preauth_bytes": 16384,
        "max_pending": 1000,
        "allowed_origins": None,
        "closing": False,
    }
    assert isinstance(auth.tokens, MemoryTokenStore)
    assert type(auth.clock) is Clock
    assert len(auth.connections) == 0


def test_every_option_but_the_verifier_and_the_store_is_named():
    with pytest.raises(TypeError):
        WSAuth(JWTVerifier(SECRET, algorithms=["HS256"]), None, 30)  # type: ignore[misc]


def test_two_wsauths_share_no_store():
    assert make_auth().tokens is not make_auth().tokens


POSITIVE_SECONDS = [0, -1, float("nan"), float("inf"), "30", None, True, [30]]
POSITIVE_WHOLE = [0, -1, 1.5, 10.0, float("nan"), "10", None, True]

BAD: dict[str, list[Any]] = {
    "token_ttl": POSITIVE_SECONDS,
    "auth_timeout": POSITIVE_SECONDS,
    "max_tokens_per_user": POSITIVE_WHOLE,
    "max_preauth_bytes": POSITIVE_WHOLE,
    "max_pending": POSITIVE_WHOLE,
    "token_param": ["", " ", "a b", "a=b", "a&b", "a%62", "tøken", "a[]", "1", None, 5, b"token", ["token"]],
    "tokens": [{}, "mongodb://localhost", MemoryTokenStore, 5, object()],
    "single_use": [None, 0, 1, "no", "False"],
    "clock": [time.time, 5, "now", Clock],
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, bad in BAD.items() for value in bad])
def test_an_option_that_cannot_be_right_is_refused_by_name_and_value_and_told_what_to_write(option, value):
    with pytest.raises(ConfigurationError) as raised:
        make_auth(**{option: value})
    assert str(raised.value).startswith(f"WSAuth({option}={value!r}): ")
    hint = str(raised.value).split("): ", 1)[1]
    assert "must be" in hint
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("verifier", [None, 5, JWTVerifier, lambda token: {}], ids=["None", "int", "class", "function"])
def test_a_verifier_that_is_none_is_refused(verifier):
    with pytest.raises(ConfigurationError, match=r"^WSAuth\(jwt=.*JWTVerifier\(key, algorithms="):
        WSAuth(verifier)


@pytest.mark.parametrize(
    "key",
    [SECRET, SECRET.encode(), {"kty": "oct", "k": SECRET}, {"kid 1": SECRET}],
    ids=["str", "bytes", "jwk", "mapping"],
)
def test_a_key_given_instead_of_a_verifier_is_not_shown_in_the_message(key):  # A38
    with pytest.raises(ConfigurationError) as raised:
        WSAuth(key)
    assert "a secret of the tests" not in str(raised.value)
    assert "JWTVerifier(key, algorithms=" in str(raised.value)


BAD_ORIGINS = [
    "https://app.example/",
    "https://app.example/path",
    "https://app.example?a=1",
    "https://app.example#a",
    "HTTPS://app.example",
    "https://App.example",
    "app.example",
    "//app.example",
    "https://",
    "https:app.example",
    "*",
    "https://*.example",
    "https://*",
    "null",
    "",
    " https://app.example",
    "https://app.example ",
    "https://a.example, https://b.example",
    "https://a.example https://b.example",
    "https://user@app.example",
    "https://app.example:443",
    "http://app.example:80",
    "https://app.example:",
    "https://app.example:port",
    "https://app.example:99999",
    "https://bücher.example",
    b"https://app.example",
    5,
    ("https", "app.example"),
]


@pytest.mark.parametrize("origin", BAD_ORIGINS)
def test_an_origin_that_no_browser_would_send_is_refused_and_told_how_to_write_it(origin):
    with pytest.raises(ConfigurationError) as raised:
        make_auth(allowed_origins=["https://good.example", origin])
    assert str(raised.value).startswith(f"WSAuth(allowed_origins={origin!r}): ")
    assert "https://app.example" in str(raised.value).split("): ", 1)[1]


@pytest.mark.parametrize(
    "origins",
    ["https://app.example", b"https://app.example", 5, True, object()],
    ids=["str", "bytes", "int", "bool", "object"],
)
def test_origins_that_are_no_list_are_refused(origins):
    with pytest.raises(ConfigurationError, match=r"^WSAuth\(allowed_origins=.*\"https://app.example\""):
        make_auth(allowed_origins=origins)


def test_origins_are_compared_exactly():
    origins = [
        "https://app.example",
        "http://localhost:3000",
        "http://127.0.0.1:8888",
        "http://[::1]:3000",
        "capacitor://localhost",
        "https://xn--bcher-kva.example",
        "https://app.example:8443",
    ]
    auth = make_auth(allowed_origins=(origin for origin in origins))
    assert all(auth.allows_origin(origin) for origin in origins)
    for other in [
        None,
        "",
        "null",
        "https://app.example/",
        "https://app.example:443",
        "http://app.example",
        "https://evil-app.example",
        "https://app.example.evil.example",
        "https://sub.app.example",
        "HTTPS://app.example",
        "http://localhost",
        "http://localhost:30000",
    ]:
        assert not auth.allows_origin(other), other


def test_none_among_the_origins_admits_clients_without_one():
    auth = make_auth(allowed_origins=["https://app.example", None])
    assert auth.allows_origin(None)
    assert not auth.allows_origin("None")
    assert not make_auth(allowed_origins=[]).allows_origin(None)
    assert not make_auth(allowed_origins=None).allows_origin(None), "left out, it is not for WSAuth to say"


# --- start -----------------------------------------------------------------------------------------------------------


class Starting(MemoryTokenStore):
    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.starts = 0
        self.failures = failures

    async def start(self) -> None:
        self.starts += 1
        number = self.starts
        await asyncio.sleep(0)
        if number <= self.failures:
            raise TokenStoreError("not there yet")


@pytest.mark.gen_test
async def test_the_store_is_started_once_however_often_and_by_whomever():
    store = Starting()
    auth = make_auth(tokens=store)
    assert store.starts == 0
    await asyncio.gather(*(auth.start() for _ in range(10)))
    await auth.start()
    await auth.issue_token("alice")
    assert store.starts == 1


@pytest.mark.gen_test
async def test_the_first_use_starts_the_store():
    for use in (lambda auth: auth.issue_token("alice"), lambda auth: auth.redeem_token("A" * 43)):
        store = Starting()
        auth = make_auth(tokens=store)
        await asyncio.gather(*(use(auth) for _ in range(3)), return_exceptions=True)
        assert store.starts == 1


@pytest.mark.gen_test
async def test_a_start_that_failed_is_tried_again_by_the_next_use():
    store = Starting(failures=2)
    auth = make_auth(tokens=store)
    with pytest.raises(TokenStoreError, match="not there yet"):
        await auth.start()
    with pytest.raises(TokenStoreError, match="not there yet"):
        await auth.issue_token("alice")
    assert len(await auth.issue_token("alice")) == 43
    await auth.start()
    assert store.starts == 3


@pytest.mark.gen_test
async def test_a_start_that_was_cancelled_does_not_count_as_one():
    entered = asyncio.Event()

    class Hanging(Starting):
        async def start(self) -> None:
            await super().start()
            if self.starts == 1:
                entered.set()
                await asyncio.Event().wait()

    store = Hanging()
    auth = make_auth(tokens=store)
    starting = asyncio.ensure_future(auth.start())
    await entered.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await auth.start()
    assert store.starts == 2


@pytest.mark.gen_test
async def test_all_who_wait_for_a_start_that_fails_learn_of_it_at_once_and_the_next_is_another():
    """Each waiting for an attempt of its own would make the last wait for as many timeouts as there are before it."""
    # A34
    refused = asyncio.Event()

    class Failing(Starting):
        async def start(self) -> None:
            await super().start()
            if self.starts == 1:
                await refused.wait()
                raise TokenStoreError("not there")

    store = Failing()
    auth = make_auth(tokens=store)
    callers = [asyncio.ensure_future(auth.start()) for _ in range(20)]
    await settle()
    callers[0].cancel()
    refused.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] + [TokenStoreError] * 19
    assert store.starts == 1
    await auth.start()
    await auth.start()
    assert store.starts == 2


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_token_is_issued_and_redeemed_as_the_options_say():
    now = [1000.0]
    store = MemoryTokenStore(clock=lambda: now[0])
    auth = make_auth(tokens=store, token_ttl=45, max_tokens_per_user=2)
    token = await auth.issue_token("alice", context={"ip": "192.0.2.1"})
    await auth.issue_token("alice")
    with pytest.raises(TokenLimitReached):
        await auth.issue_token("alice")
    record = await auth.redeem_token(token)
    assert (record.user_id, record.created_at, record.expires_at) == ("alice", 1000, 1045)
    assert record.context == {"ip": "192.0.2.1"}
    with pytest.raises(TokenRejected) as raised:
        await auth.redeem_token(token)
    assert (raised.value.reason, raised.value.user_id) == ("replayed", "alice")
    token = await auth.issue_token("alice")
    now[0] += 45
    with pytest.raises(TokenRejected) as raised:
        await auth.redeem_token(token)
    assert (raised.value.reason, raised.value.user_id) == ("expired", "alice")
    with pytest.raises(TokenRejected) as raised:
        await auth.redeem_token("A" * 43)
    assert (raised.value.reason, raised.value.user_id) == ("unknown", None)


@pytest.mark.gen_test
async def test_a_token_for_many_uses_can_be_redeemed_until_it_expires():
    now = [1000.0]
    auth = make_auth(tokens=MemoryTokenStore(clock=lambda: now[0]), single_use=False)
    token = await auth.issue_token("alice")
    for _ in range(3):
        assert (await auth.redeem_token(token)).user_id == "alice"
    now[0] += 30
    with pytest.raises(TokenRejected):
        await auth.redeem_token(token)


@pytest.mark.gen_test
@pytest.mark.parametrize("user_id", [7, b"7"])
async def test_a_token_issued_to_an_id_that_is_no_str_is_for_the_user_a_jwt_would_name(user_id):
    """`issue_token` is for applications too; a token for 7 that no JWT of user "7" can use helps nobody."""
    auth = make_auth()
    try:
        token = await auth.issue_token(user_id)
    except (TypeError, ValueError):
        return
    assert (await auth.redeem_token(token)).user_id == "7"


@pytest.mark.gen_test
@pytest.mark.parametrize("user_id", [None, "", True, ["alice"], "\ud800"])
async def test_no_token_is_issued_to_nobody(user_id):
    with pytest.raises((TypeError, ValueError)):
        await make_auth().issue_token(user_id)


# --- JWTs ------------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_good_jwt_says_whose_it_is():
    user_id, claims = await make_auth().verify_jwt(make_jwt("alice", role="admin"))
    assert user_id == "alice"
    assert (claims["sub"], claims["role"]) == ("alice", "admin")


@pytest.mark.gen_test
async def test_the_user_claim_is_the_verifiers():
    auth = WSAuth(JWTVerifier(SECRET, algorithms=["HS256"], user_claim="email"))
    user_id, _ = await auth.verify_jwt(make_jwt("alice", email="alice@app.example"))
    assert user_id == "alice@app.example"
    with pytest.raises(AuthError):
        await auth.verify_jwt(make_jwt("alice"))


@pytest.mark.gen_test
@pytest.mark.parametrize(("claim", "user_id"), [(7, "7"), (0, "0"), ("zoë", "zoë"), (" ", " "), ("7", "7")])
async def test_an_odd_user_claim_is_still_one_user(claim, user_id):
    auth = WSAuth(JWTVerifier(SECRET, algorithms=["HS256"], user_claim="uid"))
    assert (await auth.verify_jwt(make_jwt(uid=claim)))[0] == user_id


@pytest.mark.gen_test
async def test_a_sub_claim_that_is_a_number_is_nobodys():  # RFC 7519 §4.1.2
    with pytest.raises(AuthError) as raised:
        await make_auth().verify_jwt(make_jwt(sub=7))
    assert raised.value.reason == "jwt_invalid"


@pytest.mark.gen_test
@pytest.mark.parametrize("claim", ["", True, False, 1.5, ["alice"], [], {}, {"$ne": ""}, "\ud800"], ids=ascii)
async def test_a_user_claim_that_is_no_user_id_is_nobodys(claim):  # A20
    verifier = JWTVerifier(SECRET, algorithms=["HS256"])

    async def verify(token: str) -> dict[str, Any]:  # what a more lenient verifier might let through
        return {"sub": claim, "exp": 99999999999}

    verifier.verify = verify  # type: ignore[method-assign]
    with pytest.raises(AuthError) as raised:
        await WSAuth(verifier).verify_jwt("x")
    assert raised.value.reason == "jwt_invalid"


@pytest.mark.gen_test
async def test_a_jwt_without_the_user_claim_is_nobodys():  # A20
    with pytest.raises(AuthError) as raised:
        await make_auth().verify_jwt(make_jwt(None))
    assert raised.value.reason == "jwt_invalid"


@pytest.mark.gen_test
@pytest.mark.parametrize("jwt", ["", "x", "x.y.z", make_jwt(secret=SECRET + "!"), "\ud800", "é.é.é"], ids=ascii)
async def test_a_bad_jwt_is_an_auth_error_that_does_not_show_it(jwt):  # A20, A38
    with pytest.raises(AuthError) as raised:
        await make_auth().verify_jwt(jwt)
    assert raised.value.reason == "jwt_invalid"
    assert len(jwt) < 6 or jwt not in str(raised.value)


# --- where handlers find it ------------------------------------------------------------------------------------------


def test_a_handler_finds_the_wsauth_under_its_setting():
    class Other(RequestHandler):
        wsauth_setting = "other"

    first, second = make_auth(), make_auth()
    settings = {"wsauth": first, "other": second}
    assert find_auth(settings, TokenHandler) is first
    assert find_auth(settings, RequestHandler) is first
    assert find_auth(settings, Other) is second


@pytest.mark.parametrize("wrong", [None, "WSAuth", WSAuth, {}])
def test_a_setting_without_a_wsauth_is_an_error_that_says_what_to_write(wrong):
    class Chat(Echo):
        wsauth_setting = "chat_auth"

    settings = {} if wrong is None else {"chat_auth": wrong}
    with pytest.raises(ConfigurationError) as raised:
        find_auth(settings, Chat)
    message = str(raised.value)
    assert message.startswith(f"Application(chat_auth={wrong!r}): Chat needs a WSAuth")
    assert "Application(handlers, chat_auth=WSAuth(" in message


# --- pings -----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_an_application_without_pings_is_warned_once(serve, login, connect, caplog):  # A30
    class Chat(Echo):
        pass

    server = serve(Chat, websocket_ping_interval=None)
    await connect(server, path="/ws")
    await login(server, "alice")
    await login(server, "bob")
    warnings = [record for record in caplog.records if "ping" in record.getMessage()]
    assert [(record.name, record.levelno) for record in warnings] == [("tornado_wsauth", logging.WARNING)]
    assert "websocket_ping_interval=30" in warnings[0].getMessage()


@pytest.mark.gen_test
async def test_an_application_with_pings_is_not_warned(serve, login, caplog):
    server = serve(Echo, websocket_ping_interval=30)
    await login(server)
    assert [record for record in caplog.records if "ping" in record.getMessage()] == []


@pytest.mark.gen_test
async def test_a_handler_with_a_ping_interval_of_its_own_is_not_warned(serve, login, caplog):
    class Chat(Echo):
        ping_interval = 30

    server = serve(Chat, websocket_ping_interval=None)
    await login(server)
    assert [record for record in caplog.records if "ping" in record.getMessage()] == []


# --- close -----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_close_ends_every_connection_at_whichever_step(serve, connect, login):  # A27
    class Chat(Echo):
        pass

    server = serve(Chat)
    auth = server.auth
    authenticated = await login(server, "alice")
    waiting, _ = await connect(server, "bob")
    assert (len(auth.connections), len(auth.pending)) == (1, 1)
    await auth.close(grace=0)
    await auth.close(grace=0)
    assert auth.closing
    assert (len(auth.connections), len(auth.pending)) == (0, 0)
    assert await authenticated.read_close() == (1012, "restart")
    assert await waiting.read_close() == (1012, "restart")
    await authenticated.close()
    await until(lambda: "close" in Chat.events)
    assert Chat.events == ["open", "close"]
    _, response = await connect(server, path="/ws")
    assert response.status == 503
