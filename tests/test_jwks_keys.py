"""`JWKS`: which of the published keys it takes, what it sends, and which URLs it fetches from."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from jwt import get_algorithm_by_name
from tornado.httpclient import AsyncHTTPClient
from tornado.ioloop import IOLoop

from tests.jwt_factory import CLAIMS, SECRET, b64, ec_key, ed_key, everything_in, jwk, rsa_key, sign
from tests.key_server import NEW, NEW_TOKEN, OLD, OLD_TOKEN, KeyServer, key_server, refused, verifier_for, warnings_in
from tornado_wsauth.errors import AuthError, ConfigurationError, KeySourceError
from tornado_wsauth.jwks import JWKS
from tornado_wsauth.verifier import JWTVerifier


@pytest.fixture
def server(io_loop: IOLoop) -> Iterator[KeyServer]:
    with key_server(io_loop) as server:
        yield server


@pytest.fixture
def verifier(server: KeyServer) -> JWTVerifier:
    return verifier_for(JWKS(server.url))


# Which keys are taken

PRIVATE_JWK = get_algorithm_by_name("RS256").to_jwk(NEW, as_dict=True)
del PRIVATE_JWK["key_ops"]  # PyJWT writes "sign", for which alone it would be refused


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(jwk(NEW, kid="new", use="enc"), id="for encryption"),
        pytest.param(jwk(NEW, kid="new", key_ops=["encrypt"]), id="key_ops without verify"),
        pytest.param(jwk(NEW, kid="new", key_ops="verify"), id="key_ops not a list"),
        pytest.param(jwk(NEW, kid="new", alg="PS256"), id="for another alg"),
        pytest.param(jwk(NEW, kid="new", alg="RSA-OAEP"), id="alg for encryption"),
        pytest.param(jwk(NEW, kid="new", alg=["RS256"]), id="alg a list"),
        pytest.param(jwk(NEW, kid=5), id="kid not text"),
        pytest.param(jwk(NEW), id="no kid"),
        pytest.param(jwk(NEW, kid="new", kty="EC"), id="kty of another family"),
        pytest.param(jwk(NEW, kid="new", e=b64(b"\1")), id="exponent 1"),
        pytest.param(jwk(NEW, kid="new", n=5), id="modulus not text"),
        pytest.param({**PRIVATE_JWK, "kid": "new"}, id="published with its private half"),
        pytest.param(jwk(ec_key(), kid="new"), id="EC"),
        pytest.param({"kty": "oct", "kid": "new", "k": b64(SECRET.encode())}, id="symmetric"),
    ],
)
async def test_a_key_that_is_not_for_this_verifies_nothing(server: KeyServer, verifier: JWTVerifier, key: Any) -> None:
    # A20
    server.publish(jwk(OLD, kid="old"), key)
    assert await verifier.verify(OLD_TOKEN) == CLAIMS
    assert await refused(verifier, NEW_TOKEN)


@pytest.mark.gen_test
async def test_a_weak_rsa_key_is_not_taken(server: KeyServer, verifier: JWTVerifier) -> None:
    # A20
    weak = rsa_key(1024)
    server.publish(jwk(OLD, kid="old"), jwk(weak, kid="weak"))
    assert await verifier.verify(OLD_TOKEN) == CLAIMS
    with pytest.warns(UserWarning, match="1024 bits"):
        token = sign(weak, "RS256", kid="weak")
    assert await refused(verifier, token)


@pytest.mark.gen_test
async def test_a_published_symmetric_key_is_no_hmac_secret(server: KeyServer, verifier: JWTVerifier) -> None:
    # A20
    server.publish(jwk(OLD, kid="old"), {"kty": "oct", "kid": "oct", "k": b64(SECRET.encode())})
    assert await refused(verifier, sign(SECRET, "HS256", kid="oct"))
    with pytest.raises(ConfigurationError):
        JWTVerifier(JWKS(server.url), ["HS256"])
    with pytest.raises(AuthError):
        await JWKS(server.url).key_for("oct", "HS256")


@pytest.mark.gen_test
async def test_keys_are_taken_from_among_whatever_else_is_in_the_set(server: KeyServer, verifier: JWTVerifier) -> None:
    server.publish(None, 5, "d", [], {}, {"kty": None}, jwk(OLD, kid=["old"]), jwk(OLD, kid="old"), {"kty": "RSA"})
    assert await verifier.verify(OLD_TOKEN) == CLAIMS


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("alg", "private"),
    [
        ("PS256", OLD),
        ("ES256", ec_key()),
        ("ES384", ec_key("secp384r1")),
        ("EdDSA", ed_key()),
        ("EdDSA", ed_key("Ed448")),
    ],
)
async def test_a_set_of_many_kinds_serves_each_algorithm(server: KeyServer, alg: str, private: Any) -> None:
    kinds = {"rsa": OLD, "p256": ec_key(), "p384": ec_key("secp384r1"), "ed": ed_key(), "ed448": ed_key("Ed448")}
    server.publish(*(jwk(key, kid=kid, use="sig") for kid, key in kinds.items()))
    [kid] = [kid for kid, key in kinds.items() if key is private]
    verifier = verifier_for(JWKS(server.url), alg)
    assert await verifier.verify(sign(private, alg, kid=kid)) == CLAIMS
    assert await refused(verifier, sign(private, alg, kid="rsa" if kid != "rsa" else "p256"))


@pytest.mark.gen_test
async def test_a_token_without_kid_needs_a_set_with_exactly_one_usable_key(server: KeyServer) -> None:
    # A20
    token = sign(OLD, "RS256")
    server.publish(jwk(OLD, kid="old"), jwk(ec_key(), kid="ec"), jwk(NEW, kid="new", use="enc"))
    assert await verifier_for(JWKS(server.url)).verify(token) == CLAIMS
    server.publish(jwk(OLD, kid="old"), jwk(NEW, kid="new"))
    assert await refused(verifier_for(JWKS(server.url)), token)


@pytest.mark.gen_test
async def test_a_kid_two_keys_share_is_refused_unless_they_are_for_other_algorithms(server: KeyServer) -> None:
    server.publish(jwk(OLD, kid="old"), jwk(NEW, kid="old"))
    assert await refused(verifier_for(JWKS(server.url)), OLD_TOKEN)
    server.publish(jwk(OLD, kid="old"), jwk(ec_key(), kid="old"))
    assert await verifier_for(JWKS(server.url)).verify(OLD_TOKEN) == CLAIMS


# What is sent, and told


@pytest.mark.gen_test
async def test_no_credential_is_sent_even_if_the_application_configures_one_for_its_own_requests(
    server: KeyServer, verifier: JWTVerifier
) -> None:
    server.publish(jwk(OLD, kid="old"))
    AsyncHTTPClient.configure(None, defaults={"auth_username": "user", "auth_password": "password"})
    try:
        await verifier.verify(OLD_TOKEN)
    finally:
        AsyncHTTPClient.configure(None)
    [request] = server.requests
    assert {name.lower() for name in request.headers} == {"connection", "host", "accept", "user-agent"}
    assert request.body == b""


@pytest.mark.gen_test
async def test_neither_the_answer_nor_the_query_of_the_url_is_told_to_anyone(
    server: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    # A38
    caplog.set_level(logging.DEBUG, "tornado_wsauth")
    jwks = JWKS(server.url + "?key=canary")
    server.publish_text('{"keys": canary')
    with pytest.raises(KeySourceError) as caught:
        await verifier_for(jwks).verify(OLD_TOKEN)
    assert len(warnings_in(caplog)) == 1
    told = everything_in(caught.value) + repr(jwks) + "".join(warnings_in(caplog))
    assert server.url in told
    assert "canary" not in told
    assert not any(part in told for part in OLD_TOKEN.split("."))


# Construction


@pytest.mark.parametrize(
    "url",
    [
        None,
        5,
        b"https://id.example/jwks",
        "",
        "id.example/jwks",
        "file:///etc/passwd",
        "ftp://id.example/jwks",
        "https://",
        "https:///jwks",
        "https://[::1/jwks",
        "https://id.example:http/jwks",
        "https://user:canary@id.example/jwks",
        "https://canary@id.example/jwks",
        "http://id.example/jwks",
        "http://127.0.0.1.evil.example/jwks",
        "http://localhost.evil.example/jwks",
        "http://10.0.0.1/jwks",
    ],
)
def test_a_url_that_cannot_be_fetched_safely_is_refused(url: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^JWKS\(url\): ") as caught:
        JWKS(url)
    assert "canary" not in everything_in(caught.value)


@pytest.mark.parametrize(
    "url", ["https://id.example/jwks", "http://localhost:8080/jwks", "http://127.1.2.3/jwks", "http://[::1]:80/jwks"]
)
def test_https_and_loopback_urls_are_taken(url: str) -> None:
    assert repr(JWKS(url)) == f"JWKS({url!r})"


def test_plain_http_is_taken_only_by_name() -> None:
    assert repr(JWKS("http://keys.internal/", allow_http=True)) == "JWKS('http://keys.internal/')"


@pytest.mark.parametrize("option", ["cache_ttl", "min_refetch_interval", "timeout", "max_bytes"])
@pytest.mark.parametrize("value", [0, -1, True, "5", None, float("inf"), float("nan")])
def test_an_option_that_is_not_a_positive_number_is_named_in_the_error(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^JWKS\({option}="):
        JWKS("https://id.example/jwks", **{option: value})
