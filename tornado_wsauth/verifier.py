"""`JWTVerifier`: says whose a JWT is, or that it is nobody's.

Anyone may import this module. It knows PyJWT and `errors` and neither Tornado nor the network: keys that come over
the network come through a `KeySource`, and `jwks` has one.

PyJWT loads the keys and checks the signatures. The compact form (RFC 7515 §3.1) is taken apart here, once: the
header that was checked is then the header that is used, keys are prepared once and not for every token, and the
payload is not parsed before its signature is known to be good.
"""

from __future__ import annotations

import base64
import copy
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

import jwt

from tornado_wsauth.errors import AuthError, ConfigurationError

if TYPE_CHECKING:
    from jwt.algorithms import Algorithm

MAX_TOKEN_CHARS = 16 * 1024
"""A longer token is refused unread. Authorization headers, where JWTs live elsewhere, are rarely allowed half of it."""

_MIN_RSA_BITS = 2048  # RFC 7518 §3.3
_HMAC_KEY_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}  # as long as the hash output, RFC 7518 §3.2

_FAMILIES = {
    "HMAC": tuple(_HMAC_KEY_BYTES),
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES256K", "ES384", "ES512"),
    "EdDSA": ("EdDSA",),
}
_FAMILY_OF = {name: family for family, names in _FAMILIES.items() for name in names}

ASYMMETRIC_ALGORITHMS: tuple[str, ...] = tuple(name for name, family in _FAMILY_OF.items() if family != "HMAC")
"""The algorithms whose keys may be published."""

_KEY_WANTED = {
    "HMAC": "a secret (str, bytes or an oct JWK), never a PEM, SSH or DER key, a certificate or a public key",
    "RSA": "an RSA public key (PEM, JWK or a cryptography key)",
    "EC": "an EC public key (PEM, JWK or a cryptography key) on the algorithm's own curve, e.g. P-256 for ES256",
    "EdDSA": "an Ed25519 or Ed448 public key (PEM, JWK or a cryptography key)",
}

# `crit` and `b64` change what a token means; with the others it brings, or points at, a key of its own choosing.
_REFUSED_HEADERS = frozenset({"crit", "b64", "jku", "jwk", "x5u", "x5c"})

_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key that `prepare_key` found good, with the algorithms it may be used with. Its repr shows no key."""

    material: Any = field(repr=False)
    algorithms: Mapping[str, Algorithm] = field(repr=False)

    def verifies(self, signature: bytes, signing_input: bytes, alg: str) -> bool:
        """Say whether ``signature`` is this key's over ``signing_input``. False if the key is not for ``alg``."""
        algorithm = self.algorithms.get(alg)
        if algorithm is None:
            return False
        try:
            return algorithm.verify(signing_input, self.material, signature)
        except Exception:  # whatever a backend thinks of hostile bytes, they are no signature
            return False


class KeySource(Protocol):
    """Where a `JWTVerifier` gets public keys that are not known at construction. `JWKS` is one."""

    async def key_for(self, kid: str | None, alg: str) -> VerificationKey:
        """Return the key for a token whose header names ``kid`` (None: no key id) and ``alg``.

        ``alg`` is already one of the verifier's algorithms. Keys are made with `prepare_key`. Raises `AuthError`
        (``"jwt_invalid"``) when there is no such key, `KeySourceError` when that cannot be told.
        """
        ...


def prepare_key(key: Any, algorithms: Sequence[str], *, where: str = "JWTVerifier(key=…)") -> VerificationKey:
    """Load ``key`` and check that it is strong enough, and of the right kind, for one or more of ``algorithms``.

    ``key`` is a str or bytes (a secret or a PEM), a JWK as a mapping, a `jwt.PyJWK`, or a ``cryptography`` key. Of a
    private key only its public half is kept. A JWK's own ``alg`` narrows the algorithms (RFC 7517 §4.4); one that is
    not for verifying signatures is refused (``use`` §4.2, ``key_ops`` §4.3). An HMAC secret must be as long as the
    hash output of the strongest algorithm (RFC 7518 §3.2), an RSA modulus 2048 bits (§3.3).

    Raises `ConfigurationError`, whose message begins with ``where`` and holds nothing of the key.
    """
    known = {name: load_algorithm(name, where) for name in algorithms}
    if isinstance(key, (Mapping, jwt.PyJWK)):
        key, known = _read_jwk(key, known, where)
    fitting: dict[str, Algorithm] = {}
    material: Any = None
    for name, algorithm in known.items():
        try:
            material = algorithm.prepare_key(key)
        except Exception:  # noqa: S112 - PyJWT raises many kinds here, some with the key in their message
            continue
        fitting[name] = algorithm
    if not fitting:
        wanted = sorted({_KEY_WANTED[_FAMILY_OF[name]] for name in algorithms})
        raise ConfigurationError(f"{where}: no key for {list(algorithms)}; give {' or '.join(wanted)}")
    if hasattr(material, "public_key"):
        material = material.public_key()
    _check_strength(material, fitting, where)
    return VerificationKey(material, fitting)


def load_algorithm(name: str, where: str) -> Algorithm:
    """Return PyJWT's algorithm of that name. Raises `ConfigurationError` when it needs ``cryptography``."""
    try:
        return jwt.get_algorithm_by_name(name)
    except NotImplementedError:
        raise ConfigurationError(
            f'{where}: {name} needs the cryptography package; pip install "tornado_wsauth[jwks]"'
        ) from None


def _read_jwk(jwk: Any, known: dict[str, Algorithm], where: str) -> tuple[Any, dict[str, Algorithm]]:
    """Return the key in a JWK (a mapping or a `jwt.PyJWK`) and which of the ``known`` algorithms it is for."""
    is_loaded = isinstance(jwk, jwt.PyJWK)
    members = {"alg": jwk.algorithm_name, "use": jwk.public_key_use} if is_loaded else dict(jwk)
    alg, key_ops = members.get("alg"), members.get("key_ops", ["verify"])
    if members.get("use", "sig") not in ("sig", None) or not isinstance(key_ops, list) or "verify" not in key_ops:
        raise ConfigurationError(f'{where}: the JWK is not for verifying; its "use" must be "sig", if it has one')
    if alg is not None:
        known = {name: algorithm for name, algorithm in known.items() if name == alg}
    for algorithm in known.values():
        try:
            return jwk.key if is_loaded else algorithm.from_jwk(members), known
        except Exception:  # noqa: S112 - as in prepare_key; another algorithm may read it
            continue
    raise ConfigurationError(f'{where}: the JWK is malformed, or its "kty" or "alg" is of another algorithm')


def _check_strength(material: Any, algorithms: Mapping[str, Algorithm], where: str) -> None:
    if isinstance(material, bytes):
        strongest = max(algorithms, key=_HMAC_KEY_BYTES.__getitem__)
        needed = _HMAC_KEY_BYTES[strongest]
        if len(material) < needed:
            raise ConfigurationError(
                f"{where}: {len(material)} bytes; {strongest} needs at least {needed} (RFC 7518 §3.2), "
                f"e.g. secrets.token_bytes({needed})"
            )
    elif _FAMILY_OF[next(iter(algorithms))] == "RSA" and material.key_size < _MIN_RSA_BITS:
        raise ConfigurationError(
            f"{where}: an RSA key of {material.key_size} bits; {_MIN_RSA_BITS} is the least (RFC 7518 §3.3)"
        )


class _OneKey:
    """One key for every token. A ``kid`` in the token is ignored: there is nothing to choose."""

    def __init__(self, key: VerificationKey) -> None:
        self._key = key

    @property
    def keys(self) -> tuple[VerificationKey, ...]:
        return (self._key,)

    async def key_for(self, kid: str | None, alg: str) -> VerificationKey:
        return self._key


class _KeysById:
    """A fixed set of keys, each with its ``kid``; a token must name one of them."""

    def __init__(self, keys: Mapping[str, VerificationKey]) -> None:
        self._keys = keys

    @property
    def keys(self) -> tuple[VerificationKey, ...]:
        return tuple(self._keys.values())

    async def key_for(self, kid: str | None, alg: str) -> VerificationKey:
        key = None if kid is None else self._keys.get(kid)
        if key is None:
            raise AuthError("jwt_invalid", "no kid" if kid is None else "unknown kid")
        return key


class JWTVerifier:
    """Verifies signed JWTs (RFC 7519) as RFC 8725 tells to.

    - ``key``: one key (a secret or a PEM as str or bytes, a JWK as a mapping that has ``kty``, a `jwt.PyJWK`, a
      ``cryptography`` key), a mapping of ``kid`` to such keys, or a `KeySource` such as `JWKS`.
    - ``algorithms``: those accepted, all of one family (HMAC, RSA, EC or EdDSA), so that a token cannot choose how
      its key is read (RFC 8725 §3.1).
    - ``audience``, ``issuer``: a str or a list of them. A token's ``aud`` must hold one of the audiences, its ``iss``
      be one of the issuers, compared exactly. A token that has an ``aud`` is refused while ``audience`` is None
      (RFC 7519 §4.1.3).
    - ``leeway``: seconds of clock difference forgiven in ``exp``, ``nbf`` and ``iat``.
    - ``user_claim``: the claim that says who the user is.
    - ``clock``: returns Unix seconds.

    Raises `ConfigurationError` for anything that could only fail later, weak keys included. No exception, and not
    the repr, shows a key or a token.
    """

    def __init__(
        self,
        key: Any,
        algorithms: Sequence[str],
        *,
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        leeway: float = 0,
        user_claim: str = "sub",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._algorithms = _check_algorithms(algorithms)
        self._keys = _key_source(key, self._algorithms)
        # One of these must be in the token; None for no check.
        self.audience: frozenset[str] | None = _names("audience", audience)
        self.issuer: frozenset[str] | None = _names("issuer", issuer)
        if not is_number(leeway) or leeway < 0:
            raise ConfigurationError(f"JWTVerifier(leeway={leeway!r}): seconds, 0 or more; 0 is the default")
        if not isinstance(user_claim, str) or not user_claim:
            raise ConfigurationError(f'JWTVerifier(user_claim={user_claim!r}): name a claim; "sub" is the default')
        self.leeway = leeway  # seconds
        self.user_claim = user_claim
        self.clock = clock  # returns Unix seconds

    def with_key(self, key: Any, algorithms: Sequence[str]) -> Self:
        """Return a copy that differs in ``key`` and ``algorithms`` alone; a subclass's own behaviour stays.

        They are what the constructor takes, and `ConfigurationError` is raised as there.
        """
        other = copy.copy(self)
        other._algorithms = _check_algorithms(algorithms)
        other._keys = _key_source(key, other._algorithms)
        return other

    @property
    def known_keys(self) -> tuple[VerificationKey, ...]:
        """The keys it was given; none where they come from a `KeySource`. The doctor looks for weak ones."""
        return self._keys.keys if isinstance(self._keys, (_OneKey, _KeysById)) else ()

    def __repr__(self) -> str:
        audience, issuer = (None if names is None else sorted(names) for names in (self.audience, self.issuer))
        return (
            f"JWTVerifier(algorithms={list(self._algorithms)}, audience={audience}, issuer={issuer}, "
            f"leeway={self.leeway}, user_claim={self.user_claim!r})"
        )

    async def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of ``token``, or say why it proves nothing.

        ``exp`` and the user claim are always required. The token is good while ``now < exp + leeway`` and from
        ``nbf - leeway`` on (RFC 7519 §4.1.4, §4.1.5); like PyJWT, an ``iat`` later than ``now + leeway`` is refused.
        ``typ`` may be ``JWT`` or ``at+jwt`` or be left out (RFC 8725 §3.11).

        Raises `AuthError`, its reason ``"jwt_expired"`` for a token whose only fault is its age and
        ``"jwt_invalid"`` for every other, and `KeySourceError` when no key can be had.
        """
        header_text, payload_text, signature_text = _segments(token)
        header = _json_object(header_text)
        if header is None:
            raise AuthError("jwt_invalid", "the header is not base64url of a JSON object")
        alg, kid = self._check_header(header)
        signature = _base64url(signature_text)
        if signature is None:
            raise AuthError("jwt_invalid", "the signature is not base64url")
        key = await self._keys.key_for(kid, alg)
        if not key.verifies(signature, f"{header_text}.{payload_text}".encode(), alg):
            raise AuthError("jwt_invalid", "the signature does not match")
        claims = _json_object(payload_text)
        if claims is None:
            raise AuthError("jwt_invalid", "the payload is not base64url of a JSON object")
        self._check_claims(claims)
        self._check_times(claims)
        # Claims stay as long as their connection, and their names are the same in all of them.
        return {sys.intern(name): value for name, value in claims.items()}

    def _check_header(self, header: dict[str, Any]) -> tuple[str, str | None]:
        """Return ``alg`` and ``kid`` of a header that asks for nothing we do not do."""
        alg, typ, kid = header.get("alg"), header.get("typ", "JWT"), header.get("kid")
        if not isinstance(alg, str) or alg not in self._algorithms:
            raise AuthError("jwt_invalid", "alg is not allowed")
        if not _REFUSED_HEADERS.isdisjoint(header):
            raise AuthError("jwt_invalid", "the header has one of crit, b64, jku, jwk, x5u, x5c")
        if not isinstance(typ, str) or typ.lower() not in _TYPES:
            raise AuthError("jwt_invalid", "typ is neither JWT nor at+jwt")
        if "kid" in header and not isinstance(kid, str):
            raise AuthError("jwt_invalid", "kid is not a string")
        return alg, kid

    def _check_claims(self, claims: dict[str, Any]) -> None:
        for name in ("iss", "sub", "jti"):  # RFC 7519 §4.1.1, §4.1.2, §4.1.7
            if name in claims and not isinstance(claims[name], str):
                raise AuthError("jwt_invalid", f"{name} is not a string")
        if not _is_user(claims.get(self.user_claim)):
            raise AuthError("jwt_invalid", "the user claim is missing, empty or neither text nor an integer")
        if self.issuer is not None and claims.get("iss") not in self.issuer:
            raise AuthError("jwt_invalid", "iss is missing or another")
        aud = claims.get("aud")
        if self.audience is None:
            if aud is not None:
                raise AuthError("jwt_invalid", "aud is present and no audience is configured")
            return
        audiences = aud if isinstance(aud, list) else [aud]
        if not all(isinstance(one, str) for one in audiences) or self.audience.isdisjoint(audiences):
            raise AuthError("jwt_invalid", "aud is missing, malformed or another")

    def _check_times(self, claims: dict[str, Any]) -> None:
        """Check ``exp``, ``nbf`` and ``iat``: ``exp`` last, so that an expired token is one with no other fault."""
        if "exp" not in claims:
            raise AuthError("jwt_invalid", "no exp")
        for name in ("exp", "nbf", "iat"):  # NumericDate, RFC 7519 §2
            if name in claims and not is_number(claims[name]):
                raise AuthError("jwt_invalid", f"{name} is not a number")
        now = self.clock()
        for name in ("nbf", "iat"):
            if name in claims and claims[name] > now + self.leeway:
                raise AuthError("jwt_invalid", f"{name} is in the future")
        if now >= claims["exp"] + self.leeway:
            raise AuthError("jwt_expired", "exp has passed")


def is_number(value: object) -> bool:
    """Say whether ``value`` is an int or a float that is finite also as a float; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int of 400 digits
        return False


def _is_user(value: object) -> bool:
    if not isinstance(value, str):
        return isinstance(value, int) and not isinstance(value, bool)
    try:
        return value.encode() != b""
    except UnicodeEncodeError:  # JSON can carry a lone surrogate; it is no text
        return False


# What hostile text makes base64 and json raise carries that text (`JSONDecodeError.doc`, `UnicodeError.object`), and
# `raise … from None` would still leave it in `__context__`. So the readers below return None, and their callers raise.


def _segments(token: object) -> Sequence[str]:
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS or not token.isascii():
        raise AuthError("jwt_invalid", f"not an ASCII string of at most {MAX_TOKEN_CHARS} characters")
    segments = token.split(".")
    if len(segments) != 3:
        raise AuthError("jwt_invalid", "not three segments")
    return segments


def _base64url(text: str) -> bytes | None:
    """Decode base64url without padding (RFC 7515 §2). Exactly one text stands for given bytes; others are None."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return data if base64.urlsafe_b64encode(data).rstrip(b"=") == text.encode() else None


_JSON = json.JSONDecoder(parse_constant=int)  # int("NaN") is a ValueError: NaN and Infinity are not JSON


def _json_object(text: str) -> dict[str, Any] | None:
    data = _base64url(text)
    if data is None:
        return None
    try:
        value = _JSON.decode(data.decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _check_algorithms(algorithms: object) -> tuple[str, ...]:
    if not isinstance(algorithms, (list, tuple)):  # a str may be the key, its place mistaken: it is not shown
        kind = type(algorithms).__name__
        raise ConfigurationError(f'JWTVerifier(algorithms=<{kind}>): must be a list, e.g. ["HS256"]')
    if not algorithms:
        raise ConfigurationError('JWTVerifier(algorithms=[]): name at least one, e.g. ["HS256"]')
    if not all(isinstance(name, str) and name in _FAMILY_OF for name in algorithms):
        raise ConfigurationError(f"JWTVerifier(algorithms=[…]): accepted are {', '.join(_FAMILY_OF)}, never none")
    where = f"JWTVerifier(algorithms={list(algorithms)})"
    if len({_FAMILY_OF[name] for name in algorithms}) > 1:
        raise ConfigurationError(f'{where}: must be of one family (RFC 8725 §3.1), e.g. ["RS256", "PS256"]')
    for name in algorithms:
        load_algorithm(name, where)
    return tuple(algorithms)


def _key_source(key: Any, algorithms: tuple[str, ...]) -> KeySource:
    if hasattr(key, "key_for"):
        if _FAMILY_OF[algorithms[0]] == "HMAC":
            where = f"JWTVerifier(algorithms={list(algorithms)})"
            raise ConfigurationError(f'{where}: a key source gives public keys; name theirs, e.g. ["RS256"]')
        source: KeySource = key
        return source
    if not isinstance(key, Mapping) or "kty" in key:
        return _OneKey(prepare_key(key, algorithms))
    if not key or not all(isinstance(kid, str) for kid in key):
        raise ConfigurationError('JWTVerifier(key={…}): map at least one kid to its key, e.g. {"2024-01": SECRET}')
    where = "JWTVerifier(key={{…}}), key {} of {}"  # by its place: who swaps kid and key must not find it in a log
    places = enumerate(key.items(), 1)
    return _KeysById({kid: prepare_key(one, algorithms, where=where.format(n, len(key))) for n, (kid, one) in places})


def _names(option: str, value: object) -> frozenset[str] | None:
    if value is None:
        return None
    names = value if isinstance(value, (list, tuple, set, frozenset)) else [value]
    if names and all(isinstance(name, str) and name for name in names):
        return frozenset(names)
    raise ConfigurationError(f"JWTVerifier({option}={value!r}): a non-empty str, or a list of them; None for no check")
