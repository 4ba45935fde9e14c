"""`JWKS` over time: a real HTTP server that rotates its keys, hangs, fails and lies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop
from tornado.web import RequestHandler

from tests.jwt_factory import CLAIMS, at_once, jwk, sign
from tests.key_server import (
    NEW,
    NEW_TOKEN,
    OLD,
    OLD_TOKEN,
    OTHER,
    UNKNOWN_TOKEN,
    KeyServer,
    key_server,
    refused,
    verifier_for,
    warnings_in,
)
from tornado_wsauth.errors import AuthError, KeySourceError
from tornado_wsauth.jwks import JWKS
from tornado_wsauth.verifier import JWTVerifier

INTERVAL = 30
TTL = 300


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server(io_loop: IOLoop) -> Iterator[KeyServer]:
    with key_server(io_loop) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jwks(server: KeyServer, clock: Clock) -> JWKS:
    return JWKS(server.url, cache_ttl=TTL, min_refetch_interval=INTERVAL, clock=clock)


@pytest.fixture
def verifier(jwks: JWKS) -> JWTVerifier:
    return verifier_for(jwks)


# Fetching and caching


@pytest.mark.gen_test
async def test_keys_are_fetched_once_and_then_used_from_the_cache(server: KeyServer, verifier: JWTVerifier) -> None:
    # A21
    server.publish(jwk(OLD, kid="old"), jwk(NEW, kid="new"))
    assert await verifier.verify(OLD_TOKEN) == CLAIMS
    assert at_once(verifier.verify(OLD_TOKEN)) == CLAIMS
    assert at_once(verifier.verify(NEW_TOKEN)) == CLAIMS
    assert len(server.requests) == 1


@pytest.mark.gen_test
async def test_nothing_is_fetched_before_the_first_token(server: KeyServer, verifier: JWTVerifier) -> None:
    server.publish(jwk(OLD, kid="old"))
    assert await refused(verifier, "no.token.this")
    assert server.requests == []


@pytest.mark.gen_test
async def test_a_hundred_that_wait_share_one_fetch(server: KeyServer, verifier: JWTVerifier) -> None:
    # A21
    server.publish(jwk(OLD, kid="old"))
    server.hang()
    waiting = [asyncio.ensure_future(verifier.verify(OLD_TOKEN)) for _ in range(100)]
    await server.asked.wait()
    server.may_answer.set()
    assert await asyncio.gather(*waiting) == [CLAIMS] * 100
    assert len(server.requests) == 1


@pytest.mark.gen_test
async def test_a_waiter_that_leaves_takes_the_fetch_from_nobody(server: KeyServer, verifier: JWTVerifier) -> None:
    # A21
    server.publish(jwk(OLD, kid="old"))
    server.hang()
    leaving, staying = (asyncio.ensure_future(verifier.verify(OLD_TOKEN)) for _ in range(2))
    await server.asked.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    server.may_answer.set()
    assert await staying == CLAIMS
    assert len(server.requests) == 1


# Rotation


@pytest.mark.gen_test
async def test_a_key_published_later_is_found_by_its_kid(
    server: KeyServer, verifier: JWTVerifier, clock: Clock
) -> None:
    # A21
    server.publish(jwk(OLD, kid="old"))
    await verifier.verify(OLD_TOKEN)
    server.publish(jwk(OLD, kid="old"), jwk(NEW, kid="new"))
    clock.now += INTERVAL
    assert await verifier.verify(NEW_TOKEN) == CLAIMS
    assert at_once(verifier.verify(OLD_TOKEN)) == CLAIMS
    assert len(server.requests) == 2


@pytest.mark.gen_test
async def test_a_key_withdrawn_is_refused_after_the_next_fetch(
    server: KeyServer, verifier: JWTVerifier, clock: Clock
) -> None:
    # A21
    server.publish(jwk(OLD, kid="old"))
    await verifier.verify(OLD_TOKEN)
    server.publish(jwk(NEW, kid="new"))
    clock.now += INTERVAL
    await verifier.verify(NEW_TOKEN)
    assert await refused(verifier, OLD_TOKEN)


@pytest.mark.gen_test
async def test_unknown_kids_cause_at_most_one_fetch_per_interval(
    server: KeyServer, verifier: JWTVerifier, clock: Clock
) -> None:
    # A21
    server.publish(jwk(OLD, kid="old"))
    await verifier.verify(OLD_TOKEN)
    for interval in range(3):
        for elapsed in (0, 1, INTERVAL - 0.001):
            clock.now = interval * INTERVAL + elapsed
            for kid in ("unknown", "of", "all", "kinds"):
                assert await refused(verifier, sign(OTHER, "RS256", kid=kid))
        assert len(server.requests) == interval + 1


@pytest.mark.gen_test
async def test_keys_past_their_ttl_are_refreshed_while_they_stay_in_use(
    server: KeyServer, verifier: JWTVerifier, clock: Clock
) -> None:
    # A21
    server.publish(jwk(OLD, kid="old"))
    await verifier.verify(OLD_TOKEN)
    clock.now = TTL - 0.001
    at_once(verifier.verify(OLD_TOKEN))
    server.publish(jwk(NEW, kid="new"))
    server.hang()
    clock.now = TTL
    for _ in range(3):
        assert at_once(verifier.verify(OLD_TOKEN)) == CLAIMS
    await server.asked.wait()
    server.may_answer.set()
    assert await verifier.verify(NEW_TOKEN) == CLAIMS  # it joins the fetch under way
    assert await refused(verifier, OLD_TOKEN)
    assert len(server.requests) == 2


# A server in trouble


@pytest.mark.gen_test
async def test_a_server_that_hangs_delays_nobody_whose_key_is_known(
    server: KeyServer, verifier: JWTVerifier, clock: Clock
) -> None:
    # A21
    server.publish(jwk(OLD, kid="old"))
    await verifier.verify(OLD_TOKEN)
    clock.now += INTERVAL
    server.hang()
    stuck = asyncio.ensure_future(verifier.verify(UNKNOWN_TOKEN))
    await server.asked.wait()
    for _ in range(100):
        assert at_once(verifier.verify(OLD_TOKEN)) == CLAIMS
    assert not stuck.done()
    server.may_answer.set()
    with pytest.raises(AuthError):
        await stuck


@pytest.mark.gen_test
async def test_a_server_that_hangs_is_given_up_after_the_timeout(server: KeyServer, clock: Clock) -> None:
    # A21
    verifier = verifier_for(JWKS(server.url, timeout=0.05, clock=clock))
    server.hang()
    with pytest.raises(KeySourceError):
        await verifier.verify(OLD_TOKEN)
    assert len(server.requests) == 1


async def _endless(handler: RequestHandler) -> None:
    while True:
        handler.write(" " * 1024)
        await handler.flush()


def _redirect(handler: RequestHandler) -> None:
    if handler.request.path == "/jwks":
        handler.redirect("/elsewhere")
    else:
        handler.finish({"keys": [jwk(NEW, kid="new")]})


def _text(body: str | bytes) -> Callable[[RequestHandler], Any]:
    return lambda handler: handler.finish(body)


def _keys(*keys: Any) -> Callable[[RequestHandler], Any]:
    return _text(json.dumps({"keys": keys}))


def _not_found(handler: RequestHandler) -> None:
    handler.set_status(404)
    handler.finish({"keys": [jwk(NEW, kid="new")]})


BAD_ANSWERS = {
    "500": lambda handler: handler.send_error(500),
    "404 with keys in it": _not_found,
    "a redirect": _redirect,
    "connection closed": lambda handler: handler.request.connection.stream.close(),
    "nothing": _text(""),
    "not JSON": _text("<html>"),
    "not UTF-8": _text(b'{"keys": "\xff"}'),
    "nested": _text("[" * 60_000),
    "5000 digits": _text('{"keys": [' + "1" * 5000 + "]}"),
    "a list": _text(json.dumps([jwk(NEW, kid="new")])),
    "no keys member": _text("{}"),
    "keys an object": _text(json.dumps({"keys": {"new": jwk(NEW, kid="new")}})),
    "an empty set": _keys(),
    "no key among them": _keys(None, 5, "key", [], {}, {"kty": "RSA"}, {"kty": "XYZ", "kid": "new"}),
    "too large": _keys(jwk(NEW, kid="new"), {"padding": "x" * 70_000}),
    "endless": _endless,
}


@pytest.mark.gen_test
@pytest.mark.parametrize("answer", [pytest.param(answer, id=name) for name, answer in BAD_ANSWERS.items()])
async def test_a_bad_answer_leaves_the_cached_keys_in_use_with_one_warning(
    server: KeyServer, verifier: JWTVerifier, clock: Clock, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    # A21
    server.publish(jwk(OLD, kid="old"))
    await verifier.verify(OLD_TOKEN)
    server.answer = answer
    clock.now += TTL
    for _ in range(3):
        assert at_once(verifier.verify(OLD_TOKEN)) == CLAIMS
    assert await refused(verifier, NEW_TOKEN)
    assert at_once(verifier.verify(OLD_TOKEN)) == CLAIMS
    assert [request.path for request in server.requests] == ["/jwks", "/jwks"]
    [warning] = warnings_in(caplog)
    assert "1 cached keys stay in use" in warning


@pytest.mark.gen_test
@pytest.mark.parametrize("answer", [pytest.param(answer, id=name) for name, answer in BAD_ANSWERS.items()])
async def test_without_any_key_the_trouble_is_the_sources_until_a_later_fetch_succeeds(
    server: KeyServer, verifier: JWTVerifier, clock: Clock, answer: Any
) -> None:
    # A21
    server.answer = answer
    for _ in range(3):
        with pytest.raises(KeySourceError):
            await verifier.verify(OLD_TOKEN)
    assert len(server.requests) == 1
    server.publish(jwk(OLD, kid="old"))
    clock.now += INTERVAL
    assert await verifier.verify(OLD_TOKEN) == CLAIMS


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("500", "HTTP status 500"),
        ("a redirect", "HTTP status 302"),
        ("not JSON", "JSONDecodeError"),
        ("a list", "not a JWK Set"),
        ("no keys member", "not a JWK Set"),
        ("keys an object", "not a JWK Set"),
        ("an empty set", "no usable key"),
    ],
)
async def test_the_warning_says_what_was_wrong_with_the_answer(
    server: KeyServer, verifier: JWTVerifier, caplog: pytest.LogCaptureFixture, answer: str, reason: str
) -> None:
    server.answer = BAD_ANSWERS[answer]
    with pytest.raises(KeySourceError):
        await verifier.verify(OLD_TOKEN)
    [warning] = warnings_in(caplog)
    assert reason in warning


@pytest.mark.gen_test
async def test_a_server_that_is_not_there_is_the_sources_trouble(server: KeyServer) -> None:
    # A21
    await server.close()
    with pytest.raises(KeySourceError):
        await verifier_for(JWKS(server.url)).verify(OLD_TOKEN)


@pytest.mark.gen_test
async def test_one_warning_is_written_per_interval_however_many_tokens_come(
    server: KeyServer, verifier: JWTVerifier, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    # A21
    for interval in range(1, 4):
        for _ in range(10):
            with pytest.raises(KeySourceError):
                await verifier.verify(OLD_TOKEN)
        assert len(warnings_in(caplog)) == interval
        clock.now += INTERVAL


@pytest.mark.gen_test
async def test_an_answer_of_just_the_permitted_size_is_taken(server: KeyServer) -> None:
    body = json.dumps({"keys": [jwk(OLD, kid="old")]})
    server.publish_text(body)
    assert await verifier_for(JWKS(server.url, max_bytes=len(body))).verify(OLD_TOKEN) == CLAIMS
    with pytest.raises(KeySourceError):
        await verifier_for(JWKS(server.url, max_bytes=len(body) - 1)).verify(OLD_TOKEN)
