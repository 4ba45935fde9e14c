"""Keeping connection tokens out of logs: out of the request a handler sees, and out of what Tornado writes.

`auth` installs the filter and `mixin` takes the token from the request; it imports none of our modules.

Tornado writes a request's URI in four places: the access log, the warning of an ``HTTPError``, the line of an
uncaught exception, and ``repr(request)``. Taking the token out of the request covers the handlers that have our
mixin. The filter covers the rest: a mistyped path that ends in a 404 is logged with its token too.
"""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote_plus

from tornado.httputil import HTTPServerRequest

_TORNADO_LOGGERS = ("tornado.access", "tornado.application", "tornado.general")


def take_query_argument(request: HTTPServerRequest, name: str) -> list[bytes]:
    """Remove the query argument ``name`` from ``request`` and return its values, undecoded, in order.

    Afterwards ``request.uri``, ``query``, ``arguments``, ``query_arguments``, ``full_url()`` and ``repr()`` know
    nothing of it.
    """
    values = request.query_arguments.pop(name, [])
    request.arguments.pop(name, None)
    if not request.arguments:  # an emptied dictionary keeps its room, a new one has none
        request.arguments, request.query_arguments = {}, {}
    pairs = request.query.split("&")
    request.query = "&".join(pair for pair in pairs if unquote_plus(pair.partition("=")[0]) != name)
    request.uri = f"{request.path}?{request.query}" if request.query else request.path
    return values


class RedactTokens(logging.Filter):
    """A logging filter that replaces the value of ``?token=…`` in whatever is logged with ``[redacted]``."""

    def __init__(self) -> None:
        super().__init__()
        self._patterns: dict[str, re.Pattern[str]] = {}

    def add(self, name: str) -> None:
        """Redact the query argument ``name`` from now on, however its letters are percent-encoded."""
        letters = "".join(f"(?:{re.escape(letter)}|%{ord(letter):02x})" for letter in name)
        self._patterns[name] = re.compile(rf"([?&;]{letters}=)[^&;\s]+", re.IGNORECASE)

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:
            return True  # the record is broken, and it is for its handler to say so
        redacted = self._redact(message)
        if redacted != message:
            record.msg, record.args = redacted, ()
        if record.exc_info and not record.exc_text:
            traceback = _formatter.formatException(record.exc_info)
            redacted = self._redact(traceback)
            if redacted != traceback:
                record.exc_text = redacted  # which formatters take instead of making their own
        return True

    def _redact(self, text: str) -> str:
        for pattern in self._patterns.values():
            text = pattern.sub(r"\1[redacted]", text)
        return text


_formatter = logging.Formatter()
_redact_tokens = RedactTokens()


def redact_in_tornado_logs(name: str) -> None:
    """Keep the query argument ``name`` out of Tornado's three loggers, for good and in the whole process."""
    _redact_tokens.add(name)
    for logger in _TORNADO_LOGGERS:
        logging.getLogger(logger).addFilter(_redact_tokens)  # adding it twice does nothing
