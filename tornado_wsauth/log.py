"""The library's log: one structured record for each accept, refusal and close, on the logger ``tornado_wsauth``.

`auth`, `mixin`, `token_handler` and others write to it; it imports none of our modules.

Each record carries, beside its readable message, the attributes ``event`` (``accepted``, ``refused``,
``closed``), ``reason``, ``user_id``, ``remote_ip``, ``path`` and ``code`` (an HTTP status or a WebSocket close
code), so that a JSON formatter or a `logging.Filter` has nothing to parse. That of a replayed token has ``spent_by``,
too: the address from which it was used first.
"""

from __future__ import annotations

import logging

from tornado.httputil import HTTPServerRequest

logger: logging.Logger = logging.getLogger("tornado_wsauth")

_LEVELS = {"accepted": logging.INFO, "refused": logging.WARNING, "closed": logging.INFO}


def record(
    event: str,
    request: HTTPServerRequest,
    *,
    reason: str,
    user_id: str | None,
    code: int | None,
    detail: str = "",
    **more: object,
) -> None:
    """Write one record about the client behind ``request``. ``detail`` is for people and may be empty.

    ``more`` are further attributes of the record.
    """
    fields = {
        "event": event,
        "reason": reason,
        "user_id": user_id,
        "remote_ip": request.remote_ip,
        "path": request.path,
        "code": code,
        **more,
    }
    # What comes from outside is quoted: a line break in it must not start a line of its own in the log.
    logger.log(
        _LEVELS[event],
        "%s %s: user=%r remote=%s path=%r code=%s%s",
        event,
        reason,
        user_id,
        request.remote_ip,
        request.path,
        code,
        f" detail={detail!r}" if detail else "",
        extra=fields,
        stacklevel=2,
    )
