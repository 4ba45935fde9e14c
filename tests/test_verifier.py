"""`JWTVerifier`: which tokens prove something, and until when."""

from __future__ import annotations

import json
import secrets
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tests.jwt_factory import (
    CLAIMS,
    NOW,
    SECRET,
    at_once,
    b64,
    ec_key,
    ed_key,
    forge,
    jwk,
    pem,
    refusal,
    rsa_key,
    sign,
    verifier,
)
from tornado_wsauth.errors import KeySourceError
from tornado_wsauth.verifier import JWTVerifier, VerificationKey, prepare_key

HS256 = {"alg": "HS256", "typ": "JWT"}

# What is accepted


@pytest.mark.parametrize(
    ("alg", "private", "key"),
    [
        ("HS256", SECRET, SECRET),
        ("HS512", SECRET * 2, (SECRET * 2).encode()),
        ("HS256", SECRET, {"kty": "oct", "k": b64(SECRET.encode())}),
        ("HS256", SECRET, jwt.PyJWK({"kty": "oct", "alg": "HS256", "k": b64(SECRET.encode())})),
        ("RS256", rsa_key(), pem(rsa_key())),
        ("RS512", rsa_key(), pem(rsa_key()).decode()),
        ("PS256", rsa_key(), rsa_key().public_key()),
        ("RS256", rsa_key(), jwk(rsa_key(), use="sig", alg="RS256")),
        ("RS256", rsa_key(), rsa_key()),
        ("ES256", ec_key(), pem(ec_key())),
        ("ES384", ec_key("secp384r1"), jwk(ec_key("secp384r1"))),
        ("ES512", ec_key("secp521r1"), jwt.PyJWK(jwk(ec_key("secp521r1")))),
        ("ES256K", ec_key("secp256k1"), ec_key("secp256k1")),
        ("EdDSA", ed_key(), pem(ed_key())),
        ("EdDSA", ed_key("Ed448"), jwk(ed_key("Ed448"))),
    ],
)
def test_a_token_signed_with_the_key_yields_its_claims_whatever_form_the_key_has(
    alg: str, private: Any, key: Any
) -> None:
    assert at_once(verifier(key, [alg]).verify(sign(private, alg))) == CLAIMS


def test_one_key_serves_every_algorithm_of_its_family_that_it_fits() -> None:
    both = verifier({"p256": pem(ec_key()), "p384": pem(ec_key("secp384r1"))}, ["ES256", "ES384"])
    assert at_once(both.verify(sign(ec_key(), "ES256", kid="p256"))) == CLAIMS
    assert at_once(both.verify(sign(ec_key("secp384r1"), "ES384", kid="p384"))) == CLAIMS
    assert refusal(sign(ec_key(), "ES256", kid="p384"), both).reason == "jwt_invalid"


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt", "Application/JWT"])
def test_typ_may_be_jwt_or_access_token_in_any_spelling_rfc_7515_allows(typ: str) -> None:
    assert at_once(verifier().verify(forge({"alg": "HS256", "typ": typ}))) == CLAIMS


def test_typ_may_be_left_out() -> None:
    assert at_once(verifier().verify(forge({"alg": "HS256"}))) == CLAIMS


def test_the_user_claim_may_be_another_and_an_integer() -> None:
    by = verifier(user_claim="uid")
    claims = {"uid": 42, "exp": NOW + 1}
    assert at_once(by.verify(forge(HS256, claims))) == claims
    assert refusal(forge(HS256, CLAIMS), by).reason == "jwt_invalid"


def test_a_kid_is_ignored_when_there_is_only_one_key() -> None:
    assert at_once(verifier().verify(forge({**HS256, "kid": "whatever"}))) == CLAIMS


@pytest.mark.parametrize(
    ("options", "claims"),
    [
        ({"audience": "chat"}, {"aud": "chat"}),
        ({"audience": "chat"}, {"aud": ["mail", "chat"]}),
        ({"audience": ["chat", "calls"]}, {"aud": "calls"}),
        ({"issuer": "https://id.example"}, {"iss": "https://id.example"}),
        ({"issuer": ["https://id.example", "https://old.example"]}, {"iss": "https://old.example"}),
        ({}, {"iss": "anyone", "jti": "1", "nbf": NOW, "iat": NOW}),
        ({}, {"aud": None}),
    ],
)
def test_audience_and_issuer_match_any_of_those_configured(options: Any, claims: Any) -> None:
    claims = {**CLAIMS, **claims}
    assert at_once(verifier(**options).verify(forge(HS256, claims))) == claims


# A20: what is refused. Each token but for its one fault is one of those accepted above.

PUBLIC_JWK = json.dumps(jwk(rsa_key())).encode()
SIGNED = sign(SECRET, "HS256")


@pytest.mark.parametrize(
    ("token", "by"),
    [
        pytest.param(jwt.encode(CLAIMS, None, algorithm="none"), verifier(), id="none"),
        pytest.param(forge({"alg": "none"}), verifier(), id="none, signed"),
        pytest.param(forge({"alg": "nOnE"}), verifier(), id="none, in capitals"),
        pytest.param(forge(HS256, secret=pem(rsa_key())), verifier(pem(rsa_key()), ["RS256"]), id="RS to HS, PEM"),
        pytest.param(forge(HS256, secret=PUBLIC_JWK), verifier(jwk(rsa_key()), ["RS256"]), id="RS to HS, JWK"),
        pytest.param(
            forge({**HS256, "alg": "RS256"}, secret=pem(rsa_key())),
            verifier(pem(rsa_key()), ["RS256"]),
            id="HMAC as RS",
        ),
        pytest.param(sign(SECRET[::-1], "HS256"), verifier(), id="wrong secret"),
        pytest.param(sign(rsa_key(nth=1), "RS256"), verifier(pem(rsa_key()), ["RS256"]), id="wrong RSA key"),
        pytest.param(sign(ec_key(nth=1), "ES256"), verifier(pem(ec_key()), ["ES256"]), id="wrong EC key"),
        pytest.param(sign(ed_key(nth=1), "EdDSA"), verifier(pem(ed_key()), ["EdDSA"]), id="wrong Ed25519 key"),
        pytest.param(sign(ed_key("Ed448"), "EdDSA"), verifier(pem(ed_key()), ["EdDSA"]), id="Ed448 for Ed25519"),
        pytest.param(sign(rsa_key(), "PS256"), verifier(pem(rsa_key()), ["RS256"]), id="an algorithm not named"),
        pytest.param(sign(SECRET * 2, "HS512"), verifier(SECRET * 2, ["HS256"]), id="another hash"),
        pytest.param(
            sign(rsa_key(), "PS256"),
            verifier(jwk(rsa_key(), alg="RS256"), ["RS256", "PS256"]),
            id="JWK for another alg",
        ),
        pytest.param(SIGNED[: SIGNED.rindex(".") + 1], verifier(), id="no signature"),
        pytest.param(SIGNED[:-2], verifier(), id="signature cut short"),
        pytest.param(SIGNED + "=", verifier(), id="padded"),
        pytest.param(sign(SECRET, "HS256", {"aud": "mail"}), verifier(audience="chat"), id="wrong audience"),
        pytest.param(sign(SECRET, "HS256", {"aud": "chat2"}), verifier(audience="chat"), id="audience is a prefix"),
        pytest.param(sign(SECRET, "HS256", {"aud": ["chat", 1]}), verifier(audience="chat"), id="audience not text"),
        pytest.param(sign(SECRET, "HS256", {"aud": {"chat": 1}}), verifier(audience="chat"), id="audience an object"),
        pytest.param(sign(SECRET, "HS256", {"aud": []}), verifier(audience="chat"), id="audience empty"),
        pytest.param(SIGNED, verifier(audience="chat"), id="no audience"),
        pytest.param(sign(SECRET, "HS256", {"aud": "chat"}), verifier(), id="an audience nobody configured"),
        pytest.param(sign(SECRET, "HS256", {"iss": "https://evil"}), verifier(issuer="https://id"), id="wrong issuer"),
        pytest.param(sign(SECRET, "HS256", {"iss": "https://i"}), verifier(issuer="https://id"), id="issuer a prefix"),
        pytest.param(
            sign(SECRET, "HS256", {"iss": "https://id.evil"}), verifier(issuer="https://id"), id="issuer has the prefix"
        ),
        pytest.param(
            sign(SECRET, "HS256", {"iss": "https://i"}), verifier(issuer=["https://id"]), id="issuer a prefix, of many"
        ),
        pytest.param(forge(HS256, {**CLAIMS, "iss": ["https://id"]}), verifier(issuer="https://id"), id="issuers"),
        pytest.param(SIGNED, verifier(issuer="https://id"), id="no issuer"),
        pytest.param(forge(HS256, {"sub": "alice"}), verifier(), id="no exp"),
        pytest.param(forge(HS256, {**CLAIMS, "exp": None}), verifier(), id="exp null"),
        pytest.param(forge(HS256, {"exp": NOW + 60}), verifier(), id="no user claim"),
        pytest.param(forge(HS256, {**CLAIMS, "sub": None}), verifier(), id="user null"),
        pytest.param(forge(HS256, {**CLAIMS, "sub": ""}), verifier(), id="user empty"),
        pytest.param(forge(HS256, {**CLAIMS, "sub": 42}), verifier(), id="sub not text"),
        pytest.param(forge(HS256, {**CLAIMS, "uid": True}), verifier(user_claim="uid"), id="user a boolean"),
        pytest.param(forge(HS256, {**CLAIMS, "uid": ["alice"]}), verifier(user_claim="uid"), id="user a list"),
        pytest.param(forge(HS256, {**CLAIMS, "uid": 1.5}), verifier(user_claim="uid"), id="user a fraction"),
        pytest.param(forge(HS256, {**CLAIMS, "sub": "\ud800"}), verifier(), id="user a lone surrogate"),
        pytest.param(forge(HS256, {**CLAIMS, "jti": 1}), verifier(), id="jti not text"),
        pytest.param(forge({**HS256, "crit": ["exp"]}), verifier(), id="crit"),
        pytest.param(forge({**HS256, "crit": ["b64"], "b64": True}), verifier(), id="crit PyJWT knows"),
        pytest.param(forge({**HS256, "crit": []}), verifier(), id="crit empty"),
        pytest.param(forge({**HS256, "b64": False}), verifier(), id="b64"),
        pytest.param(forge({**HS256, "b64": True}), verifier(), id="b64 true"),
        pytest.param(forge({**HS256, "jku": "https://evil.example/jwks"}), verifier(), id="jku"),
        pytest.param(forge({**HS256, "x5u": "https://evil.example/x5u"}), verifier(), id="x5u"),
        pytest.param(forge({**HS256, "x5c": ["MII"]}), verifier(), id="x5c"),
        pytest.param(forge({**HS256, "jwk": {"kty": "oct", "k": b64(SECRET.encode())}}), verifier(), id="jwk"),
        pytest.param(
            sign(rsa_key(nth=1), "RS256", jwk=jwk(rsa_key(nth=1))),
            verifier(pem(rsa_key()), ["RS256"]),
            id="jwk of its own",
        ),
        pytest.param(forge({**HS256, "kid": 1}), verifier(), id="kid not text"),
        pytest.param(forge({**HS256, "kid": None}), verifier(), id="kid null"),
        pytest.param(forge({**HS256, "typ": "secevent+jwt"}), verifier(), id="another typ"),
        pytest.param(forge({**HS256, "typ": ""}), verifier(), id="typ empty"),
        pytest.param(forge({**HS256, "typ": None}), verifier(), id="typ null"),
        pytest.param(forge({"typ": "JWT"}), verifier(), id="no alg"),
        pytest.param(forge({**HS256, "alg": ["HS256"]}), verifier(), id="alg a list"),
        pytest.param(forge({**HS256, "alg": "hs256"}), verifier(), id="alg in small letters"),
    ],
)
def test_a_token_with_one_fault_is_refused_as_invalid(token: str, by: JWTVerifier) -> None:
    # A20
    assert refusal(token, by).reason == "jwt_invalid"


def test_the_header_is_judged_before_a_key_is_asked_for() -> None:
    # A20
    class Keys:
        asked = 0

        async def key_for(self, kid: str | None, alg: str) -> VerificationKey:
            self.asked += 1
            return prepare_key(pem(rsa_key()), ["RS256"])

    keys = Keys()
    by = verifier(keys, ["RS256"])
    for header in ({"jku": "https://evil"}, {"crit": ["x"]}, {"kid": 1}, {"typ": "x"}, {"jwk": {}}):
        refusal(forge({"alg": "RS256", **header}), by)
    refusal(forge(HS256), by)
    assert keys.asked == 0
    assert at_once(by.verify(sign(rsa_key(), "RS256"))) == CLAIMS
    assert keys.asked == 1


# kid


def test_each_kid_is_verified_with_its_own_key_alone() -> None:
    # A21
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    by = verifier({"old": old, "new": new})
    for kid, key in (("old", old), ("new", new)):
        assert at_once(by.verify(sign(key, "HS256", kid=kid))) == CLAIMS
    for kid, key in (("old", new), ("new", old), ("other", new), ("", new)):
        assert refusal(sign(key, "HS256", kid=kid), by).reason == "jwt_invalid"
    for key in (old, new):
        assert refusal(sign(key, "HS256"), by).reason == "jwt_invalid"


def test_keys_added_to_the_mapping_later_are_not_used() -> None:
    keys = {"old": SECRET}
    by = verifier(keys)
    keys["new"] = SECRET[::-1]
    assert refusal(sign(SECRET[::-1], "HS256", kid="new"), by).reason == "jwt_invalid"


def test_a_key_source_that_has_no_key_is_not_the_clients_fault() -> None:
    class Down:
        async def key_for(self, kid: str | None, alg: str) -> VerificationKey:
            raise KeySourceError("down")

    with pytest.raises(KeySourceError):
        at_once(verifier(Down(), ["RS256"]).verify(sign(rsa_key(), "RS256")))


def test_a_key_a_source_gives_for_another_algorithm_verifies_nothing() -> None:
    class Confused:
        async def key_for(self, kid: str | None, alg: str) -> VerificationKey:
            return prepare_key(pem(rsa_key()), ["RS256"])

    by = verifier(Confused(), ["RS256", "PS256"])
    assert at_once(by.verify(sign(rsa_key(), "RS256"))) == CLAIMS
    assert refusal(sign(rsa_key(), "PS256"), by).reason == "jwt_invalid"
    # Its header says PS256, its signature is the one RS256 makes.
    signing_input = forge({"alg": "PS256"}).rpartition(".")[0]
    signature = b64(rsa_key().sign(signing_input.encode(), PKCS1v15(), SHA256()))
    assert refusal(f"{signing_input}.{signature}", by).reason == "jwt_invalid"


# A23: time


@pytest.mark.parametrize("leeway", [0, 5, 0.5])
def test_a_token_is_good_until_just_before_exp_plus_leeway(leeway: float) -> None:
    # A23
    exp = NOW + 60
    token = forge(HS256, {"sub": "alice", "exp": exp})
    for now in (exp - 1, exp + leeway - 0.001, *([exp] if leeway else [])):
        assert at_once(verifier(now=now, leeway=leeway).verify(token))["sub"] == "alice"
    for now in (exp + leeway, exp + leeway + 0.001, exp + leeway + 1):
        assert refusal(token, verifier(now=now, leeway=leeway)).reason == "jwt_expired"


def test_exp_keeps_its_fraction_of_a_second() -> None:
    # A23
    token = forge(HS256, {"sub": "alice", "exp": NOW + 0.5})
    assert at_once(verifier(now=NOW + 0.25).verify(token))["sub"] == "alice"
    assert refusal(token, verifier(now=NOW + 0.5)).reason == "jwt_expired"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_from_the_future_is_refused_until_leeway_reaches_it(claim: str) -> None:
    # A23
    token = forge(HS256, {**CLAIMS, claim: NOW + 5})
    assert at_once(verifier(leeway=5).verify(token))["sub"] == "alice"
    assert at_once(verifier(now=NOW + 5).verify(token))["sub"] == "alice"
    assert refusal(token, verifier(leeway=4.999)).reason == "jwt_invalid"
    assert refusal(token, verifier(now=NOW + 4)).reason == "jwt_invalid"


def test_an_expired_token_with_another_fault_is_invalid_so_that_no_client_renews_it_in_vain() -> None:
    expired = {"sub": "alice", "exp": NOW - 1}
    assert refusal(forge(HS256, expired)).reason == "jwt_expired"
    assert refusal(forge(HS256, expired, secret=SECRET[::-1])).reason == "jwt_invalid"
    assert refusal(forge(HS256, {**expired, "nbf": NOW + 1})).reason == "jwt_invalid"
    assert refusal(forge(HS256, expired), verifier(issuer="https://id")).reason == "jwt_invalid"


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400, "true", '"1700000060"', "[]", "{}", "null"]
)
def test_a_time_that_is_not_a_finite_number_is_refused(claim: str, value: str) -> None:
    payload = json.dumps({**CLAIMS, claim: "?"}).replace('"?"', value)
    assert refusal(forge(HS256, payload.encode())).reason == "jwt_invalid"
