"""The options of `connect`, checked at once: a wrong one is a `ConfigurationError` that says what to write instead."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tornado_wsauth.backoff import Seams
from tornado_wsauth.client.reactions import Close, Reaction, State, Step
from tornado_wsauth.errors import ConfigurationError

SSLOptions = dict[str, Any] | ssl.SSLContext | None

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a connection goes by, credentials apart. Times are in seconds."""

    url: str
    token_param: str
    subprotocols: list[str] | None
    origin: str | None
    timeout: float
    retries: int | None
    retry_interval: float
    max_retry_interval: float
    max_queue: int
    max_bytes: int
    ssl_options: SSLOptions = field(repr=False)
    on_state: Callable[[State], object] | None
    on_close: Callable[[Close], object] | None
    on_step: Callable[[Step], object] | None
    decide: Callable[[Close], Reaction | None] | None
    seams: Seams

    def __post_init__(self) -> None:
        if self.token_param in dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True)):
            raise _wrong(f"url has a {self.token_param}= already", "leave it out; each attempt fetches a new one")
        for name in ("timeout", "retry_interval", "max_retry_interval"):
            _check_positive(f"{name}=", getattr(self, name), (int, float), "seconds")
        _check_positive("max_queue=", self.max_queue, int, "messages")
        _check_positive("max_message_size=", self.max_bytes, int, "bytes")
        if self.retries is not None and not (_is_number(self.retries, int) and self.retries >= 0):
            raise _wrong(
                f"retries={self.retries!r}", "write how many attempts in a row may fail, or None for any number"
            )
        if not isinstance(self.token_param, str) or not self.token_param:
            raise _wrong(f"token_param={self.token_param!r}", 'write the name of the query argument; "token" is usual')
        if self.origin is not None and not re.fullmatch(r"https?://[\x21-\x2e\x30-\x7e]+", str(self.origin)):
            raise _wrong(f"origin={self.origin!r}", 'write it without a path, such as "https://app.example"')
        for name in ("on_state", "on_close", "on_step", "decide"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise _wrong(f"{name} is no function", "give one that is not async, or None")


def socket_url(url: object) -> str:
    """Return ``url`` as one of ``ws://`` or ``wss://``; ``http://`` and ``https://`` are taken for these."""
    scheme = _scheme_of("url", url, _SCHEMES, "ws:// or wss://")
    return f"{_SCHEMES[scheme]}:{str(url).strip().partition(':')[2]}"


def checked_token_url(url: object) -> str:
    """Return the URL that a token is POSTed for."""
    _scheme_of("token_url", url, {"http", "https"}, "http:// or https://")
    return str(url).strip()


def shown(url: str) -> str:
    """Return ``url`` as it may be shown: without query and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path or '/'}"


def _scheme_of(name: str, url: object, schemes: Any, expected: str) -> str:
    """Return the scheme. No message shows the URL: somebody may have put a token in it."""
    advice = f"write a whole URL that begins with {expected}"
    if not isinstance(url, str):
        raise _wrong(f"{name} is no text but {type(url).__name__}", advice)
    try:
        parts = urlsplit(url.strip())
        complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise _wrong(f"{name} is no URL", advice) from None
    if parts.scheme not in schemes or not complete:
        raise _wrong(f"{name} has {'no host' if parts.scheme in schemes else 'another scheme'}", advice)
    if parts.fragment:
        raise _wrong(f"{name} has a #fragment", "leave it out; RFC 6455 §3 forbids it")
    if any(not 0x21 <= ord(letter) <= 0x7E for letter in url.strip()):
        raise _wrong(f"{name} has characters that none has", "percent-encode them")
    return parts.scheme


def _check_positive(argument: str, value: Any, kind: Any, unit: str) -> None:
    if not _is_number(value, kind) or not value > 0:
        raise _wrong(f"{argument}{value!r}", f"write a positive number of {unit}")


def _is_number(value: object, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _wrong(what: str, advice: str) -> ConfigurationError:
    return ConfigurationError(f"connect(): {what}; {advice}")
