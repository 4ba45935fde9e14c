"""`JWKS`: public keys fetched from the URL where an identity provider publishes them (RFC 7517 §5).

Applications make one and hand it to `JWTVerifier`; none of our modules imports this one. It fetches through Tornado,
because PyJWT's own client would stop the event loop while it waits.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, urlsplit

from tornado.httpclient import HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from tornado_wsauth.errors import AuthError, ConfigurationError, KeySourceError
from tornado_wsauth.log import logger
from tornado_wsauth.verifier import ASYMMETRIC_ALGORITHMS, VerificationKey, is_number, load_algorithm, prepare_key


class JWKS:
    """A `KeySource` that fetches a JWK Set, keeps it, and notices when keys are rotated.

    - ``url``: of the set; ``https``, or ``http`` on a loopback host. ``allow_http=True`` lifts that, for a network
      in which nobody can put keys of his own into the answer.
    - ``cache_ttl``: seconds after which the set is fetched again, in the background: the keys at hand stay in use
      until newer ones have arrived, and if none arrive.
    - ``min_refetch_interval``: least seconds between the beginnings of two fetches, whatever they came to. A token
      whose ``kid`` is unknown causes a fetch at most that often, and is refused in between.
    - ``timeout``: seconds a fetch may take in all.
    - ``max_bytes``: the longest answer accepted.
    - ``clock``: returns seconds that only ever grow.

    A fetch is made once for all who wait for it, sends no cookie and no credential, and follows no redirect. One
    that fails, or brings no usable key, leaves the cached keys in use and writes one warning.

    Of a set only keys for verifying signatures are taken, as `prepare_key` judges: no symmetric key, no RSA key
    under 2048 bits, none with another ``use`` or ``alg``, and none published together with its private half. A
    token names its key by ``kid``; without one, it is accepted if exactly one key of the set is usable with its
    ``alg``. Two keys that share ``kid`` and algorithm make that ``kid`` ambiguous, and it is refused as if unknown
    (RFC 7517 §4.5 wants them distinct).

    Raises `ConfigurationError` for a bad URL or option, or when the ``cryptography`` package is missing.
    """

    def __init__(
        self,
        url: str,
        *,
        cache_ttl: float = 300,
        min_refetch_interval: float = 30,
        timeout: float = 5,
        max_bytes: int = 64 * 1024,
        allow_http: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = _check_url(url, allow_http)
        numbers = {"cache_ttl": cache_ttl, "min_refetch_interval": min_refetch_interval, "timeout": timeout}
        for option, value in {**numbers, "max_bytes": max_bytes}.items():
            if not is_number(value) or value <= 0:
                raise ConfigurationError(f"JWKS({option}={value!r}): must be a positive number")
        load_algorithm("RS256", "JWKS(…)")
        self._url = url
        self._place = f"{parts.scheme}://{parts.netloc}{parts.path}"  # for the log: a query may hold an API key
        self._cache_ttl = cache_ttl
        self._min_refetch_interval = min_refetch_interval
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._clock = clock
        self._keys: list[tuple[str | None, VerificationKey]] = []  # (kid, key); empty until a fetch succeeded
        self._fetched_at = float("-inf")  # when the last fetch that brought keys ended
        self._attempted_at = float("-inf")  # when the last fetch began
        self._fetching: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"JWKS({self._place!r})"

    async def key_for(self, kid: str | None, alg: str) -> VerificationKey:
        """Return the key for a token with this ``kid`` and ``alg``; it waits only if no cached key will do.

        Raises `AuthError` (``"jwt_invalid"``) for a key the set does not have, `KeySourceError` while there is no
        set at all.
        """
        if self._clock() - self._fetched_at >= self._cache_ttl:
            self._refetch()
        key = self._find(kid, alg)
        if key is None:
            fetching = self._refetch()
            if fetching is not None:
                # Shielded: a client that leaves takes its own wait with it, not the fetch others wait for.
                await asyncio.shield(fetching)
                key = self._find(kid, alg)
        if key is not None:
            return key
        if not self._keys:
            raise KeySourceError(f"{self!r}: no keys could be fetched; the log says why")
        raise AuthError("jwt_invalid", "no single key of the JWK Set for this kid and alg")

    def _find(self, kid: str | None, alg: str) -> VerificationKey | None:
        found = [key for its_kid, key in self._keys if (kid is None or kid == its_kid) and alg in key.algorithms]
        return found[0] if len(found) == 1 else None

    def _refetch(self) -> asyncio.Task[None] | None:
        """Return the fetch that is under way, or a new one if the interval allows it, or else None."""
        if self._fetching is None or self._fetching.done():
            if self._clock() - self._attempted_at < self._min_refetch_interval:
                return None
            self._attempted_at = self._clock()
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        """Replace the keys by those now published. Never raises; nobody may be waiting for it."""
        try:
            keys = _usable_keys(await self._get())
        except Exception as error:
            # Its name only: the text of some errors repeats the answer they could not read.
            logger.warning("%r: fetching failed (%s); %d cached keys stay in use", self, _name(error), len(self._keys))
            return
        if not keys:
            logger.warning("%r: the answer has no usable key; %d cached keys stay in use", self, len(self._keys))
            return
        self._keys = keys
        self._fetched_at = self._clock()

    async def _get(self) -> bytes:
        # A client of its own: the application's may be busy, may be configured to send credentials, and allows a body
        # of 100 MB. Not the curl one either, which cannot bound the body.
        client = SimpleAsyncHTTPClient(force_instance=True, max_body_size=self._max_bytes)
        request = HTTPRequest(
            self._url,
            headers={"Accept": "application/jwk-set+json, application/json"},
            follow_redirects=False,
            decompress_response=False,
            connect_timeout=self._timeout,
            request_timeout=self._timeout,
        )
        try:
            response = await client.fetch(request, raise_error=False)
        finally:
            client.close()
        if response.code != 200:
            raise KeySourceError(f"HTTP status {response.code}")
        return response.body


def _name(error: Exception) -> str:
    return str(error) if isinstance(error, KeySourceError) else type(error).__name__


def _usable_keys(body: bytes) -> list[tuple[str | None, VerificationKey]]:
    """Return the keys in a JWK Set that can verify a signature, each with its ``kid``."""
    jwks = json.loads(body)
    if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
        raise KeySourceError('not a JWK Set: a JSON object with a list "keys"')
    usable = []
    for jwk in jwks["keys"]:
        if not isinstance(jwk, dict) or "d" in jwk:
            continue
        try:
            usable.append((jwk.get("kid"), prepare_key(jwk, ASYMMETRIC_ALGORITHMS, where="JWKS")))
        except ConfigurationError:
            continue  # RFC 7517 §5: ignore keys that are of no use here
    return usable


def _check_url(url: Any, allow_http: bool) -> SplitResult:
    try:
        parts: SplitResult = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except (ValueError, TypeError, AttributeError):
        host = None
    if not isinstance(url, str) or not host or parts.scheme not in ("https", "http"):
        raise ConfigurationError('JWKS(url): give its URL, e.g. "https://issuer.example/.well-known/jwks.json"')
    if "@" in parts.netloc:
        raise ConfigurationError("JWKS(url): a URL with a user name in it; keys are fetched without credentials")
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        raise ConfigurationError(
            f"JWKS(url): http to {host}; whoever is on the way could put in a key of his own. Use https, or "
            "allow_http=True where that cannot happen"
        )
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
