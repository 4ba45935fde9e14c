"""The only module that touches what Tornado does not document. ``tests/test_wire.py`` pins each thing it relies on.

`connections` and `mixin` import it; it imports none of our modules.
"""

from __future__ import annotations

from tornado.websocket import WebSocketHandler


def set_max_message_size(handler: WebSocketHandler, size: int) -> int:
    """Make ``size`` bytes the largest message ``handler`` reads from now on; return what it was.

    Tornado reads ``websocket_max_message_size`` once, at the upgrade, and keeps a copy for decompression.
    """
    connection = handler.ws_connection
    assert connection is not None, "only an upgraded handler has a message size"
    previous: int = connection.params.max_message_size  # type: ignore[attr-defined]
    connection.params.max_message_size = size  # type: ignore[attr-defined]
    decompressor = connection._decompressor  # type: ignore[attr-defined]
    if decompressor is not None:
        decompressor._max_message_size = size
    return previous


def refuses_origin(handler: WebSocketHandler) -> bool:
    """Say whether Tornado would answer this upgrade with 403 because of its Origin.

    Tornado asks between ``prepare()`` and the upgrade, which is too late for us: a foreign page must not burn a
    token. Tornado 6.6 decides in a method of its own; before that it asked ``check_origin`` about any Origin.
    """
    decide = getattr(handler, "_check_cross_origin", None)
    if decide is not None:
        return decide(handler.check_origin) is not None
    headers = handler.request.headers
    origin = headers.get("Origin", headers.get("Sec-Websocket-Origin"))
    return origin is not None and not handler.check_origin(origin)
