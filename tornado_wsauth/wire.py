"""The only module that touches what Tornado does not document. ``tests/test_wire.py`` pins each thing it relies on.

`binding`, `fanout`, `handshake`, `guard` and `mixin` import it; of ours, it imports `message`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection, Hashable, Sequence
from types import TracebackType
from typing import Any, Protocol

from tornado.httputil import HTTPServerRequest
from tornado.iostream import IOStream, SSLIOStream, StreamBufferFullError, StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol, WebSocketProtocol13

from tornado_wsauth.message import Message

logger: logging.Logger = logging.getLogger("tornado_wsauth")

CURRENT_USER = "_current_user"
"""Where a handler keeps ``current_user``; the mixin gives it a slot, and one to its own attribute.

CPython lets a class's instances share the keys of their dictionaries up to the 29th. Tornado sets 27 on each handler,
the guard two more, and a 30th would cost every connection a dictionary of its own, of 1.3 kB.
"""


class Delegate(Protocol):
    """What Tornado's protocol object calls as a connection lives, usually a handler; and what a `Writer` does."""

    def on_message(self, message: str | bytes) -> object: ...
    def on_ping(self, data: bytes) -> object: ...
    def on_pong(self, data: bytes) -> object: ...
    def on_ws_connection_close(self, close_code: int | None = None, close_reason: str | None = None) -> None: ...
    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None: ...
    def may_write(self, opcode: int, queued: int) -> bool: ...
    def too_slow(self) -> None: ...


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

    Whatever comes in goes to ``delegate`` instead of ``handler``, for good, and ``delegate`` is asked about every frame
    that Tornado sends. For ``handler``, writing to its connection raises `WebSocketClosedError` until `give_back`.
    Raises `RuntimeError`, which ends the connection, if this Tornado is built in another way.
    """
    connection = handler.ws_connection
    if connection is None or connection.handler is not handler:
        raise RuntimeError("this version of Tornado is not supported: its connections speak to another handler")
    connection.handler = delegate  # type: ignore[assignment]
    _watch(connection)
    handler.ws_connection = MutedConnection(connection)  # type: ignore[assignment]
    return connection


def give_back(handler: WebSocketHandler, connection: WebSocketProtocol | Writer) -> None:
    """Let ``handler`` write to its ``connection``, unless it has closed it."""
    if handler.ws_connection is not None:
        handler.ws_connection = connection  # type: ignore[assignment]


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


def seconds_between_pings(handler: WebSocketHandler) -> float:
    """Return how often Tornado pings ``handler``'s client, in seconds; 0 for never.

    It asks the handler, which says ``websocket_ping_interval`` unless a framework has its own idea.
    """
    return handler.ping_interval or 0


def largest_message(handler: WebSocketHandler) -> int:
    """Return the size of the largest message that Tornado would read for this handler, in bytes."""
    return handler.max_message_size


def peer_address(request: HTTPServerRequest) -> str:
    """Return the address at the other end of the TCP connection, which Tornado keeps beside that of ``xheaders``.

    That of a Unix-domain socket is empty.
    """
    connection: Any = request.connection
    address = connection.context.address
    return str(address[0]) if isinstance(address, tuple) and address else ""


def abort(connection: WebSocketProtocol) -> None:
    """End ``connection`` at once, and with it what its stream has queued."""
    connection._abort()


# Sending --------------------------------------------------------------------------------------------------------------


class Traffic(Protocol):
    """What a writer knows of the messages to many, and they of it."""

    most_queued: float
    """How many bytes may be queued for a connection when another message comes for it alone."""

    lagging: set[Writer]
    """Those that had something queued, or began to close, when they were last written to."""

    @property
    def unfinished(self) -> Collection[object]:
        """The messages that are not sent to everyone yet."""

    def catch_up(self, writer: Writer) -> None:
        """Send to ``writer`` whatever it has not had of them."""


class _NoTraffic:
    """For a connection that gets nothing more."""

    most_queued = float("inf")
    unfinished: Collection[object] = ()

    def __init__(self) -> None:
        self.lagging: set[Writer] = set()  # that of its one connection, or it would outlive it

    def catch_up(self, writer: Writer) -> None: ...


PING_TIMED_OUT = "ping timed out"
"""What Tornado closes a connection for whose client answers no ping."""


class _WatchedProtocol(WebSocketProtocol13):
    """Asks its delegate before it sends a frame, such as a pong or a close frame; and ends when it is over.

    A connection takes this class when it is taken over. An attribute on the instance would do the same, and cost
    every connection a dictionary of its own.
    """

    def _write_frame(self, fin: bool, opcode: int, data: bytes, flags: int = 0) -> Any:
        delegate: Any = self.handler
        if delegate.may_write(opcode, _queued(self.stream)):
            return super()._write_frame(fin, opcode, data, flags)
        if opcode & 0x8:  # nobody waits for a ping or a pong (RFC 6455 §5.5)
            unsent: asyncio.Future[None] = asyncio.Future()
            unsent.set_result(None)
            return unsent
        raise StreamClosedError

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        super().close(code, reason)
        if reason == PING_TIMED_OUT:
            self._abort()  # nobody is there to answer the close frame, for which Tornado would wait another 5 s

    def _handle_message(self, opcode: int, data: bytes) -> Any:
        """End the connection over a message that cannot be read. Tornado raises, and 6.5 forgets its handler."""
        try:
            return super()._handle_message(opcode, data)
        except Exception as error:  # a close frame's reason that is not Unicode, a message that cannot be decompressed
            logger.debug("a message could not be read: %s", type(error).__name__)
            self._abort()
            return None


def _watch(connection: Any) -> None:
    """Have ``connection`` ask before it sends, unless it is built in a way that we do not know."""
    if type(connection) is not WebSocketProtocol13 or type(connection.stream) not in (IOStream, SSLIOStream):
        return
    try:
        _ = connection._write_frame, connection.handler, _queued(connection.stream)
    except AttributeError as error:
        _warn_of_unknown_tornado(error)
    else:
        connection.__class__ = _WatchedProtocol


def _queued(stream: Any) -> int:
    """Return how many bytes ``stream`` has still to send; a closed one has none."""
    if stream.closed():
        return 0
    queued: int = stream._write_buffer._size
    return queued


class Writer:
    """The sending half of an authenticated connection. A handler has it in place of Tornado's protocol object.

    A message to a connection with nothing queued goes straight to its socket; what the socket does not take, and
    whatever comes after that, goes through Tornado's own buffer. A connection that compresses, and one that is
    built in a way we do not know, has Tornado frame its messages, too.

    What a handler sends comes after what is unfinished of ``traffic``, so the order is always the one of the calls.
    """

    __slots__ = ("_connection", "_framed", "_kept", "_socket", "_stream", "_traffic", "idle")

    def __init__(self, connection: WebSocketProtocol, traffic: Traffic) -> None:
        self._connection: Any = connection
        self._traffic = traffic
        self._kept: dict[Hashable, Message] | None = None  # for a slow reader, the newest on each topic
        self._stream: Any = None  # None: how much is queued cannot be known
        self._socket: Any = None  # None: never past the stream
        self._framed = False  # the stream takes frames of ours
        self.idle: bool = False  # nothing is queued and no close frame was sent: the socket may be written to
        if type(connection) is _WatchedProtocol:
            stream = self._stream = connection.stream
            self._framed = connection._compressor is None
            if self._framed and type(stream) is IOStream and os.name == "posix":  # Windows chokes on large pieces
                self._socket = stream.socket
                self.idle = not _queued(stream)

    def __getattr__(self, name: str) -> Any:
        """Whatever else an application looks for on its connection is Tornado's."""
        return getattr(self._connection, name)

    # What a handler calls, through Tornado's `WebSocketHandler`

    def write_message(self, message: str | bytes, binary: bool = False) -> asyncio.Future[None]:
        """Send ``message``. The future is done when the kernel has it, or fails with `WebSocketClosedError`.

        A reader for whom too much is queued already is closed, and this raises `WebSocketClosedError`.
        """
        if self._traffic.unfinished:
            self._traffic.catch_up(self)
        if not self.idle and self.queued() > self._traffic.most_queued:
            self.too_slow()
            raise WebSocketClosedError
        return self.send(Message(message, binary))

    def write_ping(self, data: bytes) -> None:
        self._settle()
        self._connection.write_ping(data)

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        self._settle()
        self._traffic.lagging.add(self)
        self._connection.close(code, reason)

    def is_closing(self) -> bool:
        closing: bool = self._connection.is_closing()
        return closing

    def _settle(self) -> None:
        if self._traffic.unfinished:
            self._traffic.catch_up(self)
        self._flush()

    # What `fanout` calls

    def queued(self) -> int:
        """Return how many bytes wait to be sent; 0 where that cannot be known."""
        return 0 if self._stream is None else _queued(self._stream)

    def send(self, message: Message) -> asyncio.Future[None]:
        """Send ``message`` after what is kept. Raises `WebSocketClosedError`, or `StreamBufferFullError`."""
        if self._kept is not None:
            self._flush()
        if self.is_closing():
            raise WebSocketClosedError
        if self._framed:
            return self._write_frame(message.frame)
        written: asyncio.Future[None] = self._connection.write_message(message.content, message.binary)
        written.add_done_callback(_retrieve)
        if self.queued():
            self._traffic.lagging.add(self)
        return written

    def keep(self, message: Message, topic: Hashable) -> bool:
        """Send ``message`` when the client has read what is queued, unless a newer one on ``topic`` comes first.

        Says whether it takes the place of an older one.
        """
        if self._kept is None:
            self._kept = {}
            self._stream.write(b"").add_done_callback(self._drained)
        older = self._kept.pop(topic, None)
        self._kept[topic] = message
        return older is not None

    def too_slow(self) -> None:
        """Have the connection closed for its slowness."""
        self._connection.handler.too_slow()

    def discard(self) -> None:
        """Forget what was broadcast before, and write no more past the stream."""
        self._traffic.lagging.discard(self)
        self._traffic = _NoTraffic()
        self._kept = None
        self.idle = False
        self._socket = None

    def _drained(self, written: asyncio.Future[None]) -> None:
        if not written.cancelled() and written.exception() is None:
            self._flush()

    def _flush(self) -> None:
        """Send what is kept, unless the connection is closing."""
        kept, self._kept = self._kept, None
        for message in (kept or {}).values():
            try:
                self.send(message)
            except WebSocketClosedError:
                return
            except StreamBufferFullError:
                self.too_slow()
                return

    def _write_frame(self, frame: bytes) -> asyncio.Future[None]:
        sent = 0
        if not self.idle and self._socket is not None:
            self.idle = not self._stream._write_buffer._size
        if self.idle:
            try:
                sent = self._socket.send(frame)
            except OSError:  # no room; or the connection broke, which the stream finds out and deals with
                sent = 0
            if sent == len(frame):
                done: asyncio.Future[None] = asyncio.Future()
                done.set_result(None)
                return done
        return self._write_rest(frame, sent)

    def _write_rest(self, frame: bytes, sent: int) -> asyncio.Future[None]:
        """Have the stream send what the socket has not taken of ``frame``. Raises what `send` does."""
        self.idle = False
        promise: asyncio.Future[None] = asyncio.Future()

        def settle(written: asyncio.Future[None]) -> None:
            if promise.done():
                return
            if written.cancelled() or written.exception() is not None:
                promise.set_exception(WebSocketClosedError())
                _retrieve(promise)
            else:
                promise.set_result(None)

        try:
            self._stream.write(memoryview(frame)[sent:]).add_done_callback(settle)
        except StreamClosedError:
            raise WebSocketClosedError from None
        except StreamBufferFullError:
            if sent:
                abort(self._connection)  # half a frame is out, and nothing can follow but its other half
            raise
        self._traffic.lagging.add(self)
        return promise


def send_to_idle(writers: Sequence[Writer], message: Message) -> list[Writer]:
    """Hand ``message`` to the sockets of those ``writers`` that have nothing queued; return the others."""
    frame = message.frame
    size = len(frame)
    others = []
    for writer in writers:
        if not writer.idle:
            others.append(writer)
            continue
        try:
            sent = writer._socket.send(frame)
        except OSError:  # no room, or closed
            others.append(writer)
            continue
        if sent != size:
            try:
                writer._write_rest(frame, sent)
            except (WebSocketClosedError, StreamBufferFullError):
                others.append(writer)
    return others


def _retrieve(written: asyncio.Future[None]) -> None:
    """Look at a write's failure, which is the client's leaving, so that asyncio does not complain that nobody did."""
    if not written.cancelled():
        written.exception()


_warned = False


def _warn_of_unknown_tornado(error: AttributeError) -> None:
    global _warned
    if not _warned:
        _warned = True
        logger.warning(
            "this Tornado is not built as expected (%s): messages take the slower way through write_message(), and "
            "max_buffer_bytes is not enforced; look for a newer tornado_wsauth",
            error,
        )
