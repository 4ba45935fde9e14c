"""Keeps what is secret out of what the doctor prints. `command` and `loading` import this module.

No finding is made from a secret. This is the second lock: an application that cannot be loaded says why in its own
words, and those may quote the URI it failed to parse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_HIDDEN = "[hidden]"
_SHORTEST = 6  # characters; a shorter value would blank out innocent words

_USERINFO = re.compile(r"(?<=://)\S*@")  # up to the last @: a password may have one, or a slash, by mistake
_JWT = re.compile(r"\beyJ[\w-]+(\.[\w-]*)*")
_ASSIGNED = re.compile(
    r"(?i)\b(\w*(?:secret|passw(?:or)?d|token|api_?key))(\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&'\"]+)"
)
_SECRET_NAME = re.compile(r"(?i)secret|passw|token|key|credential|_ur[il]$")


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """Return the values of the environment variables whose names say that they are nobody's business."""
    return [value for name, value in environment.items() if _SECRET_NAME.search(name)]


def hide(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``text`` without ``secrets``, the user and password of URIs, JWTs, and what ``password=…`` assigns."""
    for secret in sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    text = _USERINFO.sub(f"{_HIDDEN}@", text)
    text = _JWT.sub(_HIDDEN, text)
    return _ASSIGNED.sub(rf"\1\2{_HIDDEN}", text)
