"""The only module that touches what Tornado does not document. ``tests/test_wire.py`` pins each thing it relies on.

`connections` and `mixin` import it; it imports none of our modules.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from tornado.websocket import WebSocketHandler, WebSocketProtocol

CURRENT_USER = "_current_user"
"""Where a handler keeps ``current_user``; the mixin gives it a slot, and one to its own attribute.

CPython lets a class's instances share the keys of their dictionaries up to the 29th. Tornado sets 27 on each handler,
the guard two more, and a 30th would cost every connection a dictionary of its own, of 1.3 kB.
"""


class Delegate(Protocol):
    """What Tornado's protocol object calls as a connection lives: usually a handler."""

    def on_message(self, message: str | bytes) -> object: ...
    def on_ping(self, data: bytes) -> object: ...
    def on_pong(self, data: bytes) -> object: ...
    def on_ws_connection_close(self, close_code: int | None = None, close_reason: str | None = None) -> None: ...
    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None: ...


class MutedConnection:
    """Stands in for the connection of a handler that may not write to it yet, but may close it."""

    def __init__(self, connection: WebSocketProtocol) -> None:
        self._connection = connection

    def is_closing(self) -> bool:
        return True  # so that write_message() and ping() raise WebSocketClosedError

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        self._connection.close(code, reason)

    def on_connection_close(self) -> None:
        self._connection.on_connection_close()

    def set_nodelay(self, x: bool) -> None:
        self._connection.set_nodelay(x)

    @property
    def selected_subprotocol(self) -> str | None:
        return self._connection.selected_subprotocol


def take_over(handler: WebSocketHandler, delegate: Delegate) -> WebSocketProtocol:
    """Put ``delegate`` between ``handler`` and its connection, from ``open()`` on.

    Whatever comes in goes to ``delegate`` instead of ``handler``, for good. For ``handler``, writing to its
    connection raises `WebSocketClosedError` until `give_back`. Raises `RuntimeError`, which ends the connection, if
    this Tornado is built in another way.
    """
    connection = handler.ws_connection
    if connection is None or connection.handler is not handler:
        raise RuntimeError("this version of Tornado is not supported: its connections speak to another handler")
    connection.handler = delegate  # type: ignore[assignment]
    handler.ws_connection = MutedConnection(connection)  # type: ignore[assignment]
    return connection


def give_back(handler: WebSocketHandler, connection: WebSocketProtocol) -> None:
    """Let ``handler`` write to its ``connection``, unless it has closed it."""
    if handler.ws_connection is not None:
        handler.ws_connection = connection


def is_closing(connection: WebSocketProtocol) -> bool:
    """Say whether either side has begun to close ``connection``, or it broke."""
    return connection.is_closing()


def set_max_message_size(connection: WebSocketProtocol, size: int) -> int:
    """Make ``size`` bytes the largest message ``connection`` reads from now on; return what it was.

    Tornado reads ``websocket_max_message_size`` once, at the upgrade, and keeps a copy for decompression.
    """
    previous: int = connection.params.max_message_size  # type: ignore[attr-defined]
    connection.params.max_message_size = size  # type: ignore[attr-defined]
    decompressor = connection._decompressor  # type: ignore[attr-defined]
    if decompressor is not None:
        decompressor._max_message_size = size
    return previous


def refuses_extensions(handler: WebSocketHandler) -> bool:
    """Say whether Tornado would choke on the compression this upgrade offers (RFC 7692 §7.1).

    It reads the offer after everything else, and aborts without an answer: too late for us, as with the Origin.
    """
    if "permessage-deflate" not in handler.request.headers.get("Sec-WebSocket-Extensions", ""):
        return False
    options = handler.get_compression_options()
    connection = handler.get_websocket_protocol()
    if options is None or connection is None:
        return False
    for name, parameters in connection._parse_extensions_header(handler.request.headers):  # type: ignore[attr-defined]
        if name == "permessage-deflate":
            try:
                connection._create_compressors("server", parameters, options)  # type: ignore[attr-defined]
            except ValueError:
                return True
            break
    return False


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
