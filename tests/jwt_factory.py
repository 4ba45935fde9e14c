"""Makes JWTs and keys for the tests, bad ones too: what PyJWT would refuse to sign, and what never was a JWT."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
from collections.abc import Coroutine
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tornado_wsauth.errors import AuthError
from tornado_wsauth.verifier import JWTVerifier

NOW = 1_700_000_000
"""The time it is in these tests, in Unix seconds."""

SECRET = "a secret of forty characters, for HMAC.."

CLAIMS = {"sub": "alice", "exp": NOW + 60}


@functools.cache
def rsa_key(bits: int = 2048, nth: int = 0) -> rsa.RSAPrivateKey:
    """Return an RSA key, the same one for the same arguments."""
    return rsa.generate_private_key(65537, bits)


@functools.cache
def ec_key(curve: str = "secp256r1", nth: int = 0) -> ec.EllipticCurvePrivateKey:
    """Return an EC key, the same one for the same arguments."""
    curves = {
        "secp256r1": ec.SECP256R1,
        "secp384r1": ec.SECP384R1,
        "secp521r1": ec.SECP521R1,
        "secp256k1": ec.SECP256K1,
    }
    return ec.generate_private_key(curves[curve]())


@functools.cache
def ed_key(name: str = "Ed25519", nth: int = 0) -> ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey:
    """Return an Edwards-curve key, the same one for the same arguments."""
    return (ed25519.Ed25519PrivateKey if name == "Ed25519" else ed448.Ed448PrivateKey).generate()


def pem(private: Any) -> bytes:
    """Return the public half of a key as a PEM."""
    data: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def jwk(private: Any, **members: Any) -> dict[str, Any]:
    """Return the public half of a key as a JWK with ``members`` added, or removed where they are None."""
    kinds = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256"}
    alg = next((name for kind, name in kinds.items() if isinstance(private, kind)), "EdDSA")
    made = {**jwt.get_algorithm_by_name(alg).to_jwk(private.public_key(), as_dict=True), **members}
    return {name: value for name, value in made.items() if value is not None}


def b64(data: bytes) -> str:
    """Return ``data`` in base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(private: Any, alg: str, claims: Any = None, **header: Any) -> str:
    """Return a JWT that PyJWT signed. Header members that are None are left out."""
    return jwt.encode({**CLAIMS, **(claims or {})}, private, algorithm=alg, headers=header)


def forge(header: Any, payload: Any = None, secret: bytes | str = SECRET) -> str:
    """Return a token with any header and payload whatever, rightly signed with HMAC-SHA256.

    Both may be bytes, taken as they are, or a value that is written as JSON.
    """
    parts = (header, CLAIMS if payload is None else payload)
    signing_input = ".".join(b64(p if isinstance(p, bytes) else json.dumps(p).encode()) for p in parts)
    key = secret.encode() if isinstance(secret, str) else secret
    return f"{signing_input}.{b64(hmac.digest(key, signing_input.encode(), hashlib.sha256))}"


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that has nothing to wait for; fail the test if it waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("it waited for something")


def everything_in(error: BaseException | None) -> str:
    """Return all text that ``error`` and the exceptions it hangs together with hold, suppressed ones included."""
    if error is None:
        return ""
    own = [str(error), repr(error), repr(error.args), repr(vars(error))]
    own += [repr(getattr(error, name)) for name in ("doc", "object") if hasattr(error, name)]
    return "\n".join([*own, everything_in(error.__cause__), everything_in(error.__context__)])


def verifier(key: Any = SECRET, algorithms: Any = ("HS256",), *, now: float = NOW, **options: Any) -> JWTVerifier:
    """Return a verifier of HS256 with `SECRET` for which it is `NOW`, unless told otherwise."""
    return JWTVerifier(key, algorithms, clock=lambda: now, **options)


def refusal(token: Any, by: JWTVerifier | None = None) -> AuthError:
    """Return the error ``token`` is refused with; it must be an `AuthError` itself."""
    with pytest.raises(AuthError) as caught:
        at_once((by or verifier()).verify(token))
    assert type(caught.value) is AuthError
    return caught.value
