"""`JWTVerifier` at construction: the keys and options it will not work with, and that it keeps keys to itself."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import jwt
import pytest

from tests.jwt_factory import SECRET, b64, ec_key, everything_in, jwk, pem, rsa_key, verifier
from tornado_wsauth.errors import ConfigurationError
from tornado_wsauth.verifier import JWTVerifier, VerificationKey, prepare_key

CANARY = "canary7f3acanary7f3acanary7f3acanary7f3a"

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"


@pytest.mark.parametrize(
    ("key", "algorithms", "message"),
    [
        (SECRET, [], r'^JWTVerifier\(algorithms=\[\]\): name at least one, e\.g\. \["HS256"\]$'),
        (SECRET, "HS256", "must be a list"),
        (SECRET, None, "must be a list"),
        (SECRET, ["none"], "accepted are HS256, .*, never none"),
        (SECRET, ["HS256", "none"], "never none"),
        (SECRET, ["HS257"], "accepted are"),
        (SECRET, [None], "accepted are"),
        (SECRET, [["HS256"]], "accepted are"),
        (SECRET, ["HS256", "RS256"], "one family"),
        (pem(ec_key()), ["ES256", "EdDSA"], "one family"),
        (SECRET[:31], ["HS256"], r"31 bytes; HS256 needs at least 32 \(RFC 7518 §3\.2\)"),
        (SECRET[:32], ["HS256", "HS384"], "32 bytes; HS384 needs at least 48"),
        (b"x" * 63, ["HS512", "HS256"], "63 bytes; HS512 needs at least 64"),
        ({"kty": "oct", "k": b64(b"x" * 31)}, ["HS256"], "31 bytes"),
        ("", ["HS256"], "give a secret"),
        (None, ["HS256"], "give a secret"),
        (bytearray(40), ["HS256"], "give a secret"),
        (pem(rsa_key()), ["HS256"], "give a secret .* never a PEM"),
        (pem(ec_key()).decode(), ["HS256"], "never a PEM"),
        (CERTIFICATE, ["HS256"], "never a PEM"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq0aGVyZSBpcyBubyBrZXk=", ["HS256"], "never a PEM"),
        (json.dumps(jwk(rsa_key())), ["HS256"], "give a secret"),
        (rsa_key().public_key(), ["HS256"], "give a secret"),
        (jwk(rsa_key()), ["HS256"], "another algorithm"),
        ({"kty": "oct", "k": b64(pem(rsa_key()))}, ["HS256"], "never a PEM"),
        (SECRET, ["RS256"], "give an RSA public key"),
        (pem(ec_key()), ["RS256"], "give an RSA public key"),
        (CERTIFICATE, ["RS256"], "give an RSA public key"),
        (pem(rsa_key(1024)), ["RS256"], r"1024 bits; 2048 is the least \(RFC 7518 §3\.3\)"),
        (jwk(rsa_key(1024)), ["PS256"], "1024 bits"),
        (pem(ec_key("secp384r1")), ["ES256"], "on the algorithm's own curve"),
        (ec_key(), ["ES384"], "on the algorithm's own curve"),
        (jwk(ec_key("secp256k1")), ["ES256"], "on the algorithm's own curve"),
        (pem(rsa_key()), ["EdDSA"], "give an Ed25519 or Ed448 public key"),
        (jwk(rsa_key(), use="enc"), ["RS256"], "not for verifying"),
        (jwk(rsa_key(), key_ops=["sign"]), ["RS256"], "not for verifying"),
        (jwk(rsa_key(), alg="PS256"), ["RS256"], "another algorithm"),
        (jwt.PyJWK(jwk(rsa_key())), ["PS256"], "another algorithm"),
        (jwt.PyJWK(jwk(rsa_key(), use="enc")), ["RS256"], "not for verifying"),
        ({"kty": "RSA"}, ["RS256"], "malformed"),
        ({"kty": "RSA", "n": 5, "e": []}, ["RS256"], "malformed"),
        ({}, ["HS256"], "map at least one kid"),
        ({1: SECRET}, ["HS256"], "map at least one kid"),
        ({"a": SECRET, "b": SECRET[:31]}, ["HS256"], "key 2 of 2: 31 bytes"),
        ({"keys": [jwk(rsa_key())]}, ["RS256"], "key 1 of 1"),
    ],
)
def test_a_key_or_algorithm_that_cannot_be_right_is_refused_at_construction(
    key: Any, algorithms: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        JWTVerifier(key, algorithms)


def test_an_hmac_key_is_not_expected_from_a_source_of_public_keys() -> None:
    class Keys:
        async def key_for(self, kid: str | None, alg: str) -> VerificationKey:
            raise AssertionError("not asked")

    with pytest.raises(ConfigurationError, match="public keys"):
        JWTVerifier(Keys(), ["HS256"])


@pytest.mark.parametrize(
    "options",
    [
        {"leeway": -1},
        {"leeway": math.inf},
        {"leeway": math.nan},
        {"leeway": "5"},
        {"leeway": True},
        {"user_claim": ""},
        {"user_claim": None},
        *({name: value} for name in ("audience", "issuer") for value in ("", [], [""], 5, [5], b"chat", {"a": 1})),
    ],
)
def test_an_option_of_the_wrong_kind_is_named_in_the_error(options: dict[str, Any]) -> None:
    [name] = options
    with pytest.raises(ConfigurationError, match=rf"^JWTVerifier\({name}="):
        JWTVerifier(SECRET, ["HS256"], **options)


def test_a_private_key_is_not_kept() -> None:
    assert not hasattr(prepare_key(rsa_key(), ["RS256"]).material, "private_numbers")


WITHOUT_CRYPTOGRAPHY = """
import sys
sys.modules["cryptography"] = None
from tornado_wsauth.errors import ConfigurationError
from tornado_wsauth.jwks import JWKS
from tornado_wsauth.verifier import JWTVerifier

JWTVerifier("x" * 32, ["HS256"])
for make in (lambda: JWTVerifier("x" * 32, ["RS256"]), lambda: JWKS("https://id.example/jwks")):
    try:
        make()
    except ConfigurationError as error:
        print(error)
"""


def test_without_cryptography_hmac_works_and_the_rest_says_what_to_install() -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT_CRYPTOGRAPHY], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert len(lines) == 2, run.stdout
    assert all('pip install "tornado_wsauth[jwks]"' in line for line in lines)


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (CANARY[:31], ["HS256"]),
        (CANARY, ["HS512"]),
        (CANARY, ["RS256"]),
        (CANARY, ["ES256"]),
        (CANARY, ["EdDSA"]),
        (f"-----BEGIN PUBLIC KEY-----\n{CANARY}\n-----END PUBLIC KEY-----", ["RS256"]),
        (f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----", ["HS256"]),
        (f"ssh-rsa {CANARY}", ["HS256"]),
        ({"kty": "oct", "k": CANARY[:8]}, ["HS256"]),
        ({"kty": CANARY}, ["RS256"]),
        ({"kty": "RSA", "n": CANARY, "d": CANARY}, ["RS256"]),
        ({"kty": "oct", "k": CANARY, "use": CANARY, "alg": CANARY}, ["HS256"]),
        ({"one": CANARY[:31]}, ["HS256"]),
        ({CANARY: "the kid and the key, swapped"}, ["HS256"]),
        (["HS256"], CANARY),
        (["HS256"], [CANARY]),
    ],
)
def test_no_part_of_a_refused_key_is_in_the_error_or_its_chain(key: Any, algorithms: Any) -> None:
    # A38
    with pytest.raises(ConfigurationError) as caught:
        JWTVerifier(key, algorithms)
    assert CANARY[:8] not in everything_in(caught.value)


def test_the_repr_shows_options_and_no_key() -> None:
    # A38
    by = verifier({"kid-1": CANARY}, audience="chat", issuer=["b", "a"], leeway=3)
    expected = "JWTVerifier(algorithms=['HS256'], audience=['chat'], issuer=['a', 'b'], leeway=3, user_claim='sub')"
    assert repr(by) == expected
    assert CANARY not in repr(prepare_key(CANARY, ["HS256"]))
