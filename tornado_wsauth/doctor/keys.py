"""Findings about the keys that JWTs are verified with. A key itself is in none of them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator

from tornado_wsauth.doctor.findings import Finding
from tornado_wsauth.doctor.subject import Policy, Subject, cookie_secrets

LEAST_ENTROPY = 80
"""Bits, by the frequency of the bytes. Sixteen random bytes in hexadecimal digits had 90 or more in 300,000 trials."""

_TELLTALES = (
    *("secret", "password", "passwort", "change", "example", "default", "insecure", "letmein", "qwerty", "foobar"),
    *("generate", "random_value", "replace-me", "replace_me", "placeholder", "development", "your-256-bit", "at-least"),
    *("at least", "long enough", "lorem ipsum", "12345678", "abcdefgh", "tornado", "jwt_key", "jwt-key"),
)
"""Words in keys that somebody has thought up, or copied from an example. By chance, a random key of 32 bytes in base64
has one with six letters once in thirty million."""

_MAKE_ONE = "make one with python -c 'import secrets; print(secrets.token_urlsafe(48))', and keep it out of the source"


def weak_key(subject: Subject) -> Iterator[Finding]:
    """An HMAC key that can be guessed: whoever does is any user he likes."""
    seen: list[object] = []
    for policy in subject.policies:
        verifier = policy.auth.jwt
        if any(verifier is one for one in seen):
            continue
        seen.append(verifier)
        for key in verifier.known_keys:
            weakness = _weakness(key.material) if isinstance(key.material, bytes) else None
            if weakness is not None:
                yield Finding(
                    "weak-key",
                    "error",
                    policy.at("JWTVerifier(key, …)"),
                    f"the HMAC key {weakness}: whoever guesses it signs JWTs for any user, and can try without asking "
                    "this server",
                    _MAKE_ONE,
                )


def shared_key(subject: Subject) -> Iterator[Finding]:
    """One secret for two purposes."""
    for policy in subject.policies:
        secrets = cookie_secrets(policy.application)
        if any(key.material in secrets for key in policy.auth.jwt.known_keys if isinstance(key.material, bytes)):
            yield Finding(
                "shared-key",
                "warning",
                f"Application(cookie_secret=…, {policy.at('JWTVerifier(key, …)')})",
                "cookies and JWTs are signed with the same secret: neither can be replaced alone, and who learns one "
                "has both",
                _MAKE_ONE,
            )


def same_key_twice(subject: Subject) -> Iterator[Finding]:
    """The JWTs of one policy are good for another."""
    for one, other in itertools.combinations(subject.policies, 2):
        if _is_for_both(one, other):
            yield Finding(
                "same-key-twice",
                "warning",
                f"Application({one.setting}=…, {other.setting}=…)",
                "both verify with the same key, and neither by audience or issuer: a JWT for one opens the other",
                "give each JWTVerifier an audience= of its own, or a key of its own; if a JWT is meant to be good for "
                "both, give both the same JWTVerifier object",
            )


def _is_for_both(one: Policy, other: Policy) -> bool:
    first, second = one.auth.jwt, other.auth.jwt
    if first is second or not _overlap(first.audience, second.audience) or not _overlap(first.issuer, second.issuer):
        return False
    materials = [key.material for key in first.known_keys]
    return any(key.material == material for key in second.known_keys for material in materials)


def _overlap(one: frozenset[str] | None, other: frozenset[str] | None) -> bool:
    """Say whether a JWT can satisfy both; None stands for no check."""
    return one is None or other is None or bool(one & other)


def _weakness(key: bytes) -> str | None:
    """Say what makes ``key`` easy to guess, in words that follow "the key"; None for nothing that can be seen."""
    period = _period(key)
    if period == 1:
        return "is one character, again and again"
    if period < len(key):
        return f"is the same {period} characters, again and again"
    text = key.decode("latin-1").lower()
    if any(word in text for word in _TELLTALES):
        return "has words in it that examples and people use"
    if _steps(key) > len(key) * 2 / 3:
        return "is a sequence, such as the alphabet"
    if _entropy(key) < LEAST_ENTROPY:
        return "has too little variety to be random"
    return None


def _period(key: bytes) -> int:
    """Return after how many bytes ``key`` begins again, its length if it does not."""
    return next((n for n in range(1, len(key) // 2 + 1) if key[n:] == key[:-n]), len(key))


def _steps(key: bytes) -> int:
    """Return how often a byte is the next one, or the one before, of the alphabet."""
    return sum(abs(a - b) == 1 for a, b in itertools.pairwise(key))


def _entropy(key: bytes) -> float:
    """Return the bits of entropy that the frequency of its bytes allows for."""
    counts = Counter(key).values()
    return sum(-count * math.log2(count / len(key)) for count in counts)
