"""`JWTVerifier` and text that was made to break it: one answer, and no word of it repeated."""

from __future__ import annotations

import json
import logging
import math
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.jwt_factory import (
    CLAIMS,
    NOW,
    SECRET,
    at_once,
    b64,
    ec_key,
    ed_key,
    everything_in,
    forge,
    pem,
    refusal,
    rsa_key,
    sign,
    verifier,
)
from tornado_wsauth.errors import AuthError
from tornado_wsauth.verifier import MAX_TOKEN_CHARS, VerificationKey

HS256 = {"alg": "HS256", "typ": "JWT"}

SIGNED = sign(SECRET, "HS256")

# A16: hostile text

NESTED = b"[" * 9000
DIGITS = b"1" * 5000


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(token, id=name)
        for name, token in {
            "empty": "",
            "not text": None,
            "bytes": SIGNED.encode(),
            "a number": 5,
            "an operator": {"$ne": None},
            "a list": [SIGNED],
            "dots": "..",
            "two segments": SIGNED.rpartition(".")[0],
            "four segments": SIGNED + ".e30",
            "five segments, as in a JWE": SIGNED + ".e30.e30",
            "not ASCII": SIGNED + "é",
            "full-width digits": SIGNED[:-1] + "３",
            "lone surrogate": "\ud800" + SIGNED,
            "lone surrogate in the payload": SIGNED.replace(".", ".\ud800", 1),
            "lone surrogate in the signature": SIGNED[:-1] + "\ud800",
            "NUL": SIGNED + "\0",
            "a space": SIGNED + " ",
            "a line break": SIGNED.replace(".", ".\n", 1),
            "not base64url": SIGNED.replace(".", ".!!!!", 1),
            "standard base64": f"{SIGNED.rpartition('.')[0]}.{'+/' * 21}A",
            "impossible length": "eyJhb." + "a.a",
            "too long": SIGNED + "A" * MAX_TOKEN_CHARS,
            "too long and rightly signed": forge(HS256, {**CLAIMS, "x": "x" * MAX_TOKEN_CHARS}),
            "header not JSON": forge(b"{"),
            "header not an object": forge([1]),
            "header not UTF-8": forge(b'{"alg":"HS256","\xff":1}'),
            "header in UTF-16": forge('{"alg":"HS256"}'.encode("utf-16")),
            "header nested": forge(b'{"alg":"HS256","x":' + NESTED),
            "header with 5000 digits": forge(b'{"alg":"HS256","x":' + DIGITS + b"}"),
            "header with NaN": forge(b'{"alg":"HS256","x":NaN}'),
            "header says none at last": forge(b'{"alg":"HS256","alg":"none"}'),
            "payload not JSON": forge(HS256, b"{"),
            "payload empty": forge(HS256, b""),
            "payload a list": forge(HS256, [CLAIMS]),
            "payload a string": forge(HS256, "alice"),
            "payload not UTF-8": forge(HS256, b'{"sub":"\xff"}'),
            "payload in UTF-16": forge(HS256, json.dumps(CLAIMS).encode("utf-16")),
            "payload nested": forge(HS256, b'{"sub":"alice","x":' + NESTED),
            "payload with 5000 digits": forge(HS256, b'{"sub":"alice","exp":' + DIGITS + b"}"),
            "payload a JWT": forge({**HS256, "cty": "JWT"}, SIGNED.encode()),
        }.items()
    ],
)
def test_hostile_text_is_refused_as_invalid_and_nothing_else_comes_out(token: Any) -> None:
    # A16, A38
    error = refusal(token)
    assert error.reason == "jwt_invalid"
    assert error.__context__ is None
    assert at_once(verifier().verify(SIGNED)) == CLAIMS


def test_a_token_may_be_as_long_as_the_limit() -> None:
    room = MAX_TOKEN_CHARS - len(forge(HS256, {**CLAIMS, "x": ""}))
    token = forge(HS256, {**CLAIMS, "x": "x" * (room * 3 // 4)})
    assert MAX_TOKEN_CHARS - 4 < len(token) <= MAX_TOKEN_CHARS
    assert at_once(verifier().verify(token))["sub"] == "alice"


def test_a_backend_that_chokes_on_a_signature_has_refused_it() -> None:
    # A16, A38
    class Choking:
        def verify(self, message: bytes, key: Any, signature: bytes) -> bool:
            raise ValueError(message)

    class Keys:
        async def key_for(self, kid: str | None, alg: str) -> Any:
            return VerificationKey(None, {"RS256": Choking()})

    error = refusal(forge({"alg": "RS256"}), verifier(Keys(), ["RS256"]))
    assert error.reason == "jwt_invalid"
    assert error.__context__ is None


@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("signature", [b"", b"\0", b"\0" * 64, b"\xff" * 64, b"\0" * 256, b"\xff" * 5000])
def test_a_signature_of_any_length_is_refused_as_invalid(alg: str, signature: bytes) -> None:
    # A16; all zeros is the signature that broken ECDSA takes for every message (CVE-2022-21449)
    key = {"RS": rsa_key, "PS": rsa_key, "ES": ec_key, "Ed": ed_key}[alg[:2]]()
    token = f"{sign(key, alg).rpartition('.')[0]}.{b64(signature)}"
    assert refusal(token, verifier(pem(key), [alg])).reason == "jwt_invalid"


@settings(max_examples=150, deadline=None)
@given(
    st.text()
    | st.text(st.sampled_from("eyJhbGciOiJIUzI1NiJ9.-_="))
    | st.binary().map(lambda data: data.decode("latin1"))
)
def test_arbitrary_text_is_never_a_token(text: str) -> None:
    # A16
    assert refusal(text).reason == "jwt_invalid"


edits = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "delete", "swap"]), st.integers(0, 400), st.characters(codec="ascii")
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(edits, st.sampled_from(["HS256", "ES256"]))
def test_a_tampered_token_never_yields_other_claims_than_the_untampered_one(edits: Any, alg: str) -> None:
    # A20
    private, key = {"HS256": (SECRET, SECRET), "ES256": (ec_key(), pem(ec_key()))}[alg]
    original = token = sign(private, alg)
    for kind, place, character in edits:
        place %= len(token) + 1
        if kind == "swap":
            token = ".".join(reversed(token.split(".")))
        else:
            token = token[:place] + ("" if kind == "delete" else character) + token[place + (kind != "insert") :]
    if token == original:
        assert at_once(verifier(key, [alg]).verify(token)) == CLAIMS
    else:
        assert refusal(token, verifier(key, [alg])).reason == "jwt_invalid"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(NOW + 60),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["typ", "kid", "crit", "jku", "b64", "cty", "x"]), json_values),
    st.dictionaries(st.sampled_from(["exp", "nbf", "iat", "sub", "iss", "aud", "jti", "x"]), json_values),
)
def test_what_we_accept_of_rightly_signed_nonsense_pyjwt_accepts_too(header: Any, claims: Any) -> None:
    # A16
    token = forge({"alg": "HS256", **header}, {**CLAIMS, **claims})
    try:
        accepted = at_once(verifier().verify(token))
    except AuthError:
        return
    off = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    assert jwt.decode(token, SECRET, algorithms=["HS256"], options=off) == accepted
    assert isinstance(accepted["sub"], str)
    assert math.isfinite(accepted["exp"])
    assert accepted["exp"] > NOW


# A38: nothing is told

CANARY = "canary7f3acanary7f3acanary7f3acanary7f3a"


@pytest.mark.parametrize(
    "token",
    [
        forge(HS256, {"sub": CANARY, "exp": NOW - 1}),
        forge(HS256, {"sub": CANARY, "exp": NOW + 9, "aud": CANARY, "iss": CANARY}),
        forge(HS256, {"sub": CANARY}),
        forge(HS256, {"sub": CANARY + "\ud800", "exp": NOW + 9}),
        forge(HS256, b'{"sub":"' + CANARY.encode()),
        forge(HS256, CANARY.encode() + b"\xff"),
        forge(b'{"alg":"HS256","kid":"' + CANARY.encode()),
        forge({"alg": CANARY}),
        forge({**HS256, "kid": CANARY, "typ": CANARY}),
        forge({**HS256, "crit": [CANARY]}),
        forge(HS256, secret=CANARY),
        CANARY,
        f"{CANARY}.{CANARY}.{CANARY}",
        CANARY + "\ud800",
        "é" + CANARY,
    ],
)
@pytest.mark.parametrize("keys", [SECRET, {"one": SECRET}], ids=["one key", "keys by kid"])
def test_no_part_of_a_token_is_in_the_error_its_chain_or_the_log(
    token: str, keys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # A38
    caplog.set_level(logging.DEBUG)
    told = everything_in(refusal(token, verifier(keys))) + caplog.text
    for part in (CANARY, *filter(None, token.split("."))):
        assert part not in told
