"""Attacks with early and broken frames, with floods, and by leaving. `attacks` lists them."""

from __future__ import annotations

import os
import struct

from tornado_wsauth.testing.attack import BAD_MESSAGE, CONTINUATION, TOO_BIG, TRY_AGAIN_LATER, Attack, attack, named
from tornado_wsauth.testing.client import BINARY, CLOSE, PING, PONG, TEXT, frame, jwt_message
from tornado_wsauth.testing.target import GateBreach, Intruder, Line

ATTACKS: list[Attack] = []

FLOOD = 2000
"""How many frames make a flood here; what a flood does in a minute is for a test with time."""


def with_bits(bits: int, opcode: int = TEXT) -> bytes:
    """Return a frame with reserved bits set (RFC 6455 §5.2)."""
    whole = frame(b"x", opcode)
    return bytes([whole[0] | bits]) + whole[1:]


BROKEN_FRAMES: dict[str, bytes] = {
    **{f"opcode {opcode:#x}": frame(b"x", opcode) for opcode in (0x3, 0x4, 0x5, 0x6, 0x7)},
    **{f"opcode {opcode:#x}": frame(b"x", opcode) for opcode in (0xB, 0xC, 0xD, 0xE, 0xF)},
    "a reserved opcode in fragments": frame(b"x", 0x3, fin=False) + frame(b"x", CONTINUATION),
    "a continuation of nothing": frame(b"x", CONTINUATION),
    "an unfinished continuation of nothing": frame(b"x", CONTINUATION, fin=False),
    "a message within a message": frame(b"x", fin=False) + frame(b"x"),
    "a fragmented ping": frame(b"x", PING, fin=False) + frame(b"x", CONTINUATION),
    "a fragmented pong": frame(b"x", PONG, fin=False) + frame(b"x", CONTINUATION),
    "a fragmented close": frame(b"\x03\xe8", CLOSE, fin=False) + frame(b"", CONTINUATION),
    "reserved bit 2": with_bits(0x20),
    "reserved bit 3": with_bits(0x10),
    "all reserved bits": with_bits(0x70),
    "reserved bits on a ping": with_bits(0x30, PING),
    "a long ping": frame(b"x" * 126, PING),
    "a longer pong": frame(b"x" * 70_000, PONG),
    "a long close": frame(b"\x03\xe8" + b"x" * 200, CLOSE),
    "text that is not UTF-8": frame(b"\xff\xfe\xfd"),
    "an encoded surrogate": frame(b'{"type": "jwt", "token": "\xed\xa0\x80"}'),
    "UTF-8 cut short": frame(b'{"type": "jwt", "token": "\xe2\x82'),
    "garbage": b"\xff" * 64,
    "a second request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}


@attack(ATTACKS)
async def broken_frame(intruder: Intruder) -> None:
    """Send frames that RFC 6455 forbids, the good first message right behind each: ended, and nothing let in."""
    target = intruder.target
    for name, broken in BROKEN_FRAMES.items():
        line = await intruder.upgraded()
        line.send(broken + target.first_message() + target.message())
        await named(name, line.ended())


@attack(ATTACKS)
async def compressed_without_agreement(intruder: Intruder) -> None:
    """Set the bit of compression where none was agreed on: ended, and nothing let in."""
    line = await intruder.upgraded()
    line.send(frame(jwt_message(intruder.target.make_jwt()).encode(), rsv1=True) + intruder.target.message())
    await line.ended()


@attack(ATTACKS)
async def no_deflate(intruder: Intruder) -> None:
    """Offer compression and send what cannot be decompressed: ended, at once and not at the deadline."""
    line = await intruder.upgraded(Sec_WebSocket_Extensions="permessage-deflate")
    line.send(frame(b"\xff" * 20, rsv1=True) + intruder.target.first_message() + intruder.target.message())
    await line.ended()


@attack(ATTACKS)
async def unmasked_frame(intruder: Intruder) -> None:
    """Send an unmasked message that is no JWT, the good first message behind it: refused, whatever the mask."""
    line = await intruder.upgraded()
    line.send(b"\x81\x05hello" + intruder.target.first_message() + intruder.target.message())
    await line.ended(BAD_MESSAGE, 1002)


@attack(ATTACKS)
async def early_pings_and_pongs(intruder: Intruder) -> None:
    """Ping and pong before the first message, of every length allowed: pongs come back, nothing else; then 4400."""
    line = await intruder.upgraded()
    for payload in (b"", b"x", b"\xff" * 125):
        await line.answers_ping(payload)
        line.send(frame(payload, PONG))
    line.send(intruder.target.message())
    await line.closed(BAD_MESSAGE)


CLOSE_FRAMES: dict[str, bytes] = {
    "without a code": b"",
    "1000": struct.pack("!H", 1000),
    "1001 with a reason": struct.pack("!H", 1001) + b"bye",
    "4000": struct.pack("!H", 4000),
    "a code that is not for the wire": struct.pack("!H", 1005),
    "code 0": struct.pack("!H", 0),
    "half a code": b"\x03",
    "a reason that is not UTF-8": struct.pack("!H", 1000) + b"\xff\xfe",
}


@attack(ATTACKS)
async def close_frame_first(intruder: Intruder) -> None:
    """Send a close frame instead of the first message, then the first message: ended, and nothing let in."""
    target = intruder.target
    for name, payload in CLOSE_FRAMES.items():
        line = await intruder.upgraded()
        line.send(frame(payload, CLOSE) + target.first_message() + target.message())
        await named(name, line.ended())


@attack(ATTACKS)
async def deaf_to_the_close_frame(intruder: Intruder) -> None:
    """Be refused, ignore the close frame and go on with hundreds of messages and JWTs: not one is answered."""
    target = intruder.target
    line = await intruder.upgraded()
    line.send(target.message())
    line.send((target.first_message() + target.message() + frame(b"x", BINARY)) * 200)
    await line.closed(BAD_MESSAGE)


# Floods ---------------------------------------------------------------------------------------------------------------


@attack(ATTACKS)
async def ping_flood(intruder: Intruder) -> None:
    """Send thousands of pings, read no pong and then send a message: closed, for the message or as a slow reader."""
    line = await intruder.upgraded()
    line.send(b"".join(frame(os.urandom(8), PING) for _ in range(FLOOD)) + intruder.target.message())
    await line.ended(BAD_MESSAGE, TRY_AGAIN_LATER)


@attack(ATTACKS)
async def pong_flood(intruder: Intruder) -> None:
    """Send thousands of pongs that nobody asked for: they lead nowhere, and the next message is refused, 4400."""
    line = await intruder.upgraded()
    line.send(frame(b"x", PONG) * FLOOD + intruder.target.message())
    await line.closed(BAD_MESSAGE)


@attack(ATTACKS)
async def empty_fragment_flood(intruder: Intruder) -> None:
    """Send thousands of empty fragments and then the end of the message: 4400, for it is empty."""
    line = await intruder.upgraded()
    line.send(frame(b"", fin=False) + frame(b"", CONTINUATION, fin=False) * FLOOD + frame(b"", CONTINUATION))
    await line.closed(BAD_MESSAGE)


@attack(ATTACKS)
async def one_byte_fragment_flood(intruder: Intruder) -> None:
    """Send one-byte fragments, one more than the first message may have bytes: closed 1009, or ended."""
    line = await intruder.upgraded()
    line.send(frame(b" ", fin=False) + frame(b" ", CONTINUATION, fin=False) * intruder.target.max_preauth_bytes)
    await line.ended(TOO_BIG)


@attack(ATTACKS)
async def slow_drip(intruder: Intruder) -> None:
    """Send all of the good first message but its last byte, one byte at a time: not let in for any of them."""
    line = await intruder.upgraded()
    for byte in intruder.target.first_message()[:-1]:
        line.send(bytes([byte]))
        await line.client.writer.drain()
    await line.nothing_more()


# Leaving --------------------------------------------------------------------------------------------------------------


@attack(ATTACKS)
async def leaves_during_the_handshake(intruder: Intruder) -> None:
    """Leave anywhere in the upgrade request, by the end of the stream or a reset: no data frame on any of them."""
    target = intruder.target
    token = await target.new_token()
    whole = target.request(target.path(token))
    for reset in (False, True):
        for at in {*range(0, len(whole), 40), len(whole) - 1}:
            line = await intruder.line()
            line.send(whole[:at])
            await leaves(line, reset)
        line = await intruder.line()
        line.send(target.request(target.path(await target.new_token())))
        await leaves(line, reset)
    line = await intruder.line()
    line.send(whole)
    await line.answered(101)


@attack(ATTACKS)
async def leaves_after_the_101(intruder: Intruder) -> None:
    """Leave anywhere between the 101 and the last byte of the JWT, by the end of the stream or a reset: no data."""
    target = intruder.target
    whole = target.first_message()
    for reset in (False, True):
        for at in {*range(0, len(whole), 40), 1, 2, 4, 8, len(whole) - 1}:
            line = await intruder.upgraded()
            line.send(whole[:at])
            await leaves(line, reset)


@attack(ATTACKS)
async def leaves_while_it_is_let_in(intruder: Intruder) -> None:
    """Send the good JWT and a message and leave at once, by the end of the stream or a reset: first an ``auth_ok``."""
    target = intruder.target
    for reset in (False, True):
        line = await intruder.upgraded()
        line.send(target.first_message() + target.message())
        if reset:
            line.reset()
        else:
            await line.half_closed()
            got = await line.frames_until(TEXT, CLOSE)
            if got is not None and got[0] == TEXT and b'"auth_ok"' not in got[1]:
                raise GateBreach(f"before auth_ok came {got[1]!r}")


async def leaves(line: Line, reset: bool) -> None:
    """Leave by a reset, or by the end of the stream, reading on to the server's."""
    if reset:
        line.reset()
        return
    await line.half_closed()
    await line.client.reader.read()
