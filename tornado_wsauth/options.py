"""What an option must be, checked where it is given: a wrong one fails at start-up and says what to write instead.

`auth` and `broadcaster` import this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from tornado_wsauth.errors import ConfigurationError
from tornado_wsauth.verifier import is_number

_Choice = TypeVar("_Choice", bound=str)

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def require(condition: bool, option: str, hint: str) -> None:
    """Raise `ConfigurationError` unless ``condition`` holds; ``option`` reads like ``WSAuth(token_ttl=0)``."""
    if not condition:
        raise ConfigurationError(f"{option}: {hint}")


def require_positive(owner: str, option: str, value: object, hint: str) -> None:
    """Raise `ConfigurationError` unless ``value`` is a positive, finite number."""
    require(is_number(value) and value > 0, f"{owner}({option}={value!r})", f"must be a positive number; {hint}")  # type: ignore[operator]


def require_positive_int(owner: str, option: str, value: object, hint: str) -> None:
    """Raise `ConfigurationError` unless ``value`` is a positive whole number."""
    positive = isinstance(value, int) and not isinstance(value, bool) and value > 0
    require(positive, f"{owner}({option}={value!r})", f"must be a positive whole number; {hint}")


def require_not_negative(owner: str, option: str, value: object, hint: str) -> None:
    """Raise `ConfigurationError` unless ``value`` is a finite number, 0 or more."""
    good = is_number(value) and value >= 0  # type: ignore[operator]
    require(good, f"{owner}({option}={value!r})", f"must be a number, 0 or more; {hint}")


def require_bool(owner: str, option: str, value: object, hint: str) -> None:
    """Raise `ConfigurationError` unless ``value`` is True or False."""
    require(isinstance(value, bool), f"{owner}({option}={value!r})", f"must be True or False; {hint}")


def require_callable(owner: str, option: str, value: object, hint: str) -> None:
    """Raise `ConfigurationError` unless ``value`` can be called."""
    require(
        callable(value), f"{owner}({option}={value!r})", f"must be a function that {hint}; pass the function itself"
    )


def require_one_of(owner: str, option: str, value: object, choices: Sequence[str]) -> None:
    """Raise `ConfigurationError` unless ``value`` is one of ``choices``, the first of which is the default."""
    first, *others = [repr(choice) for choice in choices]
    require(
        isinstance(value, str) and value in choices,
        f"{owner}({option}={value!r})",
        f"must be {first}, the default, {'' if len(others) > 1 else 'or '}{' or '.join(others)}",
    )


def checked_set(owner: str, option: str, values: Iterable[_Choice], choices: Sequence[_Choice]) -> frozenset[_Choice]:
    """Return ``values`` as a set; raises `ConfigurationError` unless each is one of ``choices``."""
    hint = f"must be a list of any of {', '.join(repr(choice) for choice in choices)}; none is the default"
    is_list = isinstance(values, Iterable) and not isinstance(values, (str, bytes))
    require(is_list, f"{owner}({option}={values!r})", hint)
    checked = list(values)
    require(all(value in choices for value in checked), f"{owner}({option}={checked!r})", hint)
    return frozenset(checked)


def checked_rate(owner: str, rate: object) -> tuple[int, float]:
    """Return ``(messages, seconds)``; raises `ConfigurationError` for anything else."""
    hint = "must be (messages, seconds), such as (100, 10) for a hundred messages in ten seconds; None for no limit"
    if isinstance(rate, (tuple, list)) and len(rate) == 2:
        messages, seconds = rate
        if isinstance(messages, int) and all(is_number(part) and part > 0 for part in rate):
            return messages, seconds
    raise ConfigurationError(f"{owner}(message_rate={rate!r}): {hint}")


def checked_origins(owner: str, option: str, origins: Iterable[str | None]) -> frozenset[str | None]:
    """Return ``origins`` as a set; raises `ConfigurationError` for one that no browser would ever send."""
    hint = (
        "list origins as browsers send them: scheme://host or scheme://host:port in lower case, no default port, "
        'nothing after it, such as ["https://app.example", "http://localhost:5173"]'
    )
    is_list = isinstance(origins, Iterable) and not isinstance(origins, (str, bytes))
    require(is_list, f"{owner}({option}={origins!r})", hint)
    checked = list(origins)
    for origin in checked:
        require(origin is None or _is_origin(origin), f"{owner}({option}={origin!r})", hint)
    return frozenset(checked)


def _is_origin(origin: object) -> bool:
    """Say whether ``origin`` is the serialization of one (RFC 6454 §6.2)."""
    if not isinstance(origin, str) or not origin.isascii() or "*" in origin or origin != "".join(origin.split()):
        return False
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if not parts.scheme or not host or port == _DEFAULT_PORTS.get(parts.scheme, 0):
        return False
    host = f"[{host}]" if ":" in host else host
    return origin == f"{parts.scheme}://{host}" + (f":{port}" if port else "")
