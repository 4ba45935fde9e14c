"""`Message`: one message, encoded and framed once for however many connections get it.

`connections` makes them for many, `guard` and `wire` for one; `wire` sends them. It imports none of our modules.
"""

from __future__ import annotations

import struct

from tornado.escape import utf8

_TEXT, _BINARY = 0x81, 0x82  # the first byte of a frame that is a whole message (RFC 6455 §5.2)


class Message:
    """A text or, if ``binary``, a binary message, ``content`` being what Tornado would be given to send.

    ``frame`` is what goes over the wire: the header and the payload, which a server does not mask (RFC 6455 §5.1).
    """

    __slots__ = ("binary", "content", "frame")

    def __init__(self, content: str | bytes, binary: bool = False) -> None:
        payload = utf8(content)
        size = len(payload)
        first = _BINARY if binary else _TEXT
        if size < 126:
            head = bytes((first, size))
        elif size < 65536:
            head = struct.pack("!BBH", first, 126, size)
        else:
            head = struct.pack("!BBQ", first, 127, size)
        self.content: str | bytes = content
        self.binary: bool = binary
        self.frame: bytes = head + payload
