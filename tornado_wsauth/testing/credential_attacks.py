"""Attacks on the token, the handshake, the first message and the JWT. `attacks` lists them."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib
from typing import Any

from tornado_wsauth.testing.attack import (
    BAD_MESSAGE,
    CONTINUATION,
    FORBIDDEN,
    TOO_BIG,
    UNAUTHORIZED,
    Attack,
    attack,
    named,
)
from tornado_wsauth.testing.client import BINARY, PING, TEXT, frame, jwt_message
from tornado_wsauth.testing.target import GateBreach, Intruder, Line, Target

ATTACKS: list[Attack] = []

# The connection token -------------------------------------------------------------------------------------------------


@attack(ATTACKS)
async def no_token(intruder: Intruder) -> None:
    """Connect without a connection token: 401."""
    await intruder.refused(401, request=intruder.target.request(intruder.target.path()))


@attack(ATTACKS)
async def malformed_token(intruder: Intruder) -> None:
    """Connect with what cannot be a token, or is none that was issued: 401 for each, good ones unspent."""
    target = intruder.target
    name, token = target.token_param, await target.new_token()
    for raw in (
        f"{name}=",
        f"{name}={'A' * 42}",
        f"{name}={'A' * 43}",
        f"{name}={'A' * 44}",
        f"{name}={'A' * 5000}",
        f"{name}={'A' * 42}%00",
        f"{name}={'%ff' * 43}",
        f"{name}={'+' * 43}",
        f"{name}[$ne]=",
        f"{name}[]={token}",
        f"x{name}={token}",
    ):
        await intruder.refused(401, request=target.request(target.path(raw=raw)))
    await still_good(intruder, token)


@attack(ATTACKS)
async def duplicate_token(intruder: Intruder) -> None:
    """Connect with two tokens at once, good ones among them: 401, and neither is spent by it."""
    target = intruder.target
    token = await target.new_token()
    for pair in ((token, token), (token, "A" * 43), ("A" * 43, token), (token, "")):
        await intruder.refused(401, request=target.request(target.path(*pair)))
    await still_good(intruder, token)


@attack(ATTACKS, needs="single_use")
async def spent_token(intruder: Intruder) -> None:
    """Connect with a token that has opened a connection: 401, while that lives and afterwards."""
    target = intruder.target
    token = await target.new_token()
    first = await still_good(intruder, token)
    await intruder.refused(401, request=target.request(target.path(token)))
    first.reset()
    await intruder.refused(401, request=target.request(target.path(token)))


@attack(ATTACKS, needs="single_use")
async def raced_token(intruder: Intruder) -> None:
    """Connect with one token on ten connections at once: a single 101, and 401 for the others."""
    request = intruder.target.request(intruder.target.path(await intruder.target.new_token()))
    lines = [await intruder.line() for _ in range(10)]
    for line in lines:
        line.send(request)
    statuses = sorted([await line.answered(101, 401) for line in lines])
    if statuses != [101] + [401] * 9:
        raise GateBreach(f"one token opened {statuses.count(101)} connections")


async def still_good(intruder: Intruder, token: str) -> Line:
    """Connect with ``token``; the answer must be a 101."""
    line = await intruder.line()
    line.send(intruder.target.request(intruder.target.path(token)))
    await line.answered(101)
    return line


# The opening handshake ------------------------------------------------------------------------------------------------

BAD_HANDSHAKES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "POST": ({"method": "POST", "Content_Length": "0"}, (403, 405)),  # 403 is Tornado's, where XSRF checks are on
    "HEAD": ({"method": "HEAD"}, (405,)),
    "no Upgrade": ({"Upgrade": None}, (426,)),
    "another Upgrade": ({"Upgrade": "h2c"}, (426,)),
    "no Connection": ({"Connection": None}, (400,)),
    "another Connection": ({"Connection": "keep-alive"}, (400,)),
    "no version": ({"Sec_WebSocket_Version": None}, (426,)),
    "version 8": ({"Sec_WebSocket_Version": "8"}, (426,)),
    "two versions": ({"Sec_WebSocket_Version": "13, 8"}, (426,)),
    "no key": ({"Sec_WebSocket_Key": None}, (400,)),
    "a short key": ({"Sec_WebSocket_Key": base64.b64encode(b"x" * 15).decode()}, (400,)),
    "a key that is no base64": ({"Sec_WebSocket_Key": "*" * 24}, (400,)),
    "an empty Host": ({"Host": ""}, (400,)),
}


@attack(ATTACKS)
async def bad_handshake(intruder: Intruder) -> None:
    """Send opening handshakes that are none, each with one good token: refused as RFC 6455 says, the token unspent."""
    target = intruder.target
    token = await target.new_token()
    for name, (changes, statuses) in BAD_HANDSHAKES.items():
        try:
            await intruder.refused(*statuses, request=target.request(target.path(token), **changes))
        except GateBreach as breach:
            raise GateBreach(f"{name}: {breach}") from breach
    await intruder.refused(400, request=target.request(target.path(token)).replace(b" HTTP/1.1\r", b" HTTP/1.0\r", 1))
    await still_good(intruder, token)


@attack(ATTACKS, needs="foreign_origin")
async def foreign_origin(intruder: Intruder) -> None:
    """Connect from a page of another origin: 403, the token unspent."""
    target = intruder.target
    token = await target.new_token()
    foreign = target.request(target.path(token), Origin=target.foreign_origin)
    await intruder.refused(403, request=foreign)
    await still_good(intruder, token)


# The first message ----------------------------------------------------------------------------------------------------


@attack(ATTACKS)
async def silence(intruder: Intruder) -> None:
    """Say nothing after the 101, and answer the server's silence with the end: not one data frame."""
    line = await intruder.upgraded()
    await line.answers_ping()
    await line.nothing_more()


@attack(ATTACKS)
async def message_behind_the_request(intruder: Intruder) -> None:
    """Send messages in one segment with the upgrade request, the JWT last: 4400, and no message is answered."""
    target = intruder.target
    line = await intruder.upgraded(glued=target.message() + target.first_message() + target.message())
    await line.closed(BAD_MESSAGE)


def bad_first_messages(target: Target) -> dict[str, bytes]:
    """Return frames that look like the first message to a careless reader."""
    good = target.make_jwt()
    text = jwt_message(good)
    room = target.max_preauth_bytes
    messages: dict[str, str | bytes] = {
        "empty": "",
        "no JSON": "hello",
        "half of it": text[:-1],
        "twice": text * 2,
        "the bare JWT": good,
        "an array": json.dumps(["jwt", good]),
        "another type": json.dumps({"type": "JWT", "token": good}),
        "a type of many": json.dumps({"type": ["jwt"], "token": good}),
        "no type": json.dumps({"token": good}),
        "no token": '{"type": "jwt"}',
        "a token of many": json.dumps({"type": "jwt", "token": [good]}),
        "a query operator": '{"type": "jwt", "token": {"$ne": null}}',
        "a number": '{"type": "jwt", "token": 1}',
        "a huge integer": '{"type": "jwt", "token": ' + "9" * min(5000, room - 100) + "}",
        "deep nesting": "[" * room,
        "a token of deep nesting": '{"type": "jwt", "token": ' + "[" * (room - 100),
        "a lone surrogate": '{"type": "jwt", "token": "\\ud800"}',
        "a lone surrogate in the JWT": text[:-2] + '\\udfff"}',
        "two tokens": text[:-1] + f', "token": "{good}"}}',
        "two tokens, one escaped": text[:-1] + ', "\\u0074oken": "x"}',
        "two types": text[:-1] + ', "type": "jwt"}',
    }
    frames = {name: frame(message.encode()) for name, message in messages.items() if isinstance(message, str)}
    return {**frames, "binary": frame(text.encode(), BINARY)}


@attack(ATTACKS)
async def bad_first_message(intruder: Intruder) -> None:
    """Send first messages that are not the one expected, the good one right behind each: 4400."""
    target = intruder.target
    for name, bad in bad_first_messages(target).items():
        line = await intruder.upgraded()
        line.send(bad + target.first_message() + target.message())
        await named(name, line.closed(BAD_MESSAGE))


# The size of the first message ----------------------------------------------------------------------------------------


@attack(ATTACKS)
async def too_large(intruder: Intruder) -> None:
    """Send a good first message with one byte too many of white space: closed 1009, or ended."""
    padded = jwt_message(intruder.target.make_jwt()).encode().ljust(intruder.target.max_preauth_bytes + 1)
    line = await intruder.upgraded()
    line.send(frame(padded) + intruder.target.message())
    await line.ended(TOO_BIG)


@attack(ATTACKS)
async def too_large_announced(intruder: Intruder) -> None:
    """Announce a message of 2**63 - 1 bytes and send a few: closed 1009, or ended, without waiting for the rest."""
    line = await intruder.upgraded()
    line.send(struct.pack("!BBQ", 0x80 | TEXT, 0x80 | 127, 2**63 - 1) + b" " * 64)
    await line.ended(TOO_BIG)


@attack(ATTACKS)
async def too_large_in_fragments(intruder: Intruder) -> None:
    """Send a good first message that is too large in fragments, each of which is not: closed 1009, or ended."""
    padded = jwt_message(intruder.target.make_jwt()).encode().rjust(intruder.target.max_preauth_bytes + 1)
    half = len(padded) // 2
    line = await intruder.upgraded()
    line.send(frame(padded[:half], fin=False) + frame(padded[half:], CONTINUATION) + intruder.target.message())
    await line.ended(TOO_BIG)


@attack(ATTACKS)
async def compression_bomb(intruder: Intruder) -> None:
    """Offer compression and send 10 MB of white space in 10 kB: closed 1009, or ended; nothing is let in."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = (compressor.compress(b" " * 10_000_000) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    for pieces in (1, 2):
        line = await intruder.upgraded(Sec_WebSocket_Extensions="permessage-deflate")
        size = len(bomb) // pieces + 1
        line.send(frame(bomb[:size], rsv1=True, fin=pieces == 1))
        if pieces > 1:
            line.send(frame(bomb[size:], CONTINUATION))
        await line.ended(TOO_BIG)


# The JWT --------------------------------------------------------------------------------------------------------------


@attack(ATTACKS)
async def bad_jwt_then_good(intruder: Intruder) -> None:
    """Send a bad JWT, a good JWT and a message in one segment: 4401, and the first decision stands."""
    line = await intruder.upgraded()
    bad = frame(jwt_message("e30.e30.e30").encode())
    line.send(bad + intruder.target.first_message() + intruder.target.message())
    await line.closed(UNAUTHORIZED)


@attack(ATTACKS, needs="other_jwt")
async def jwt_of_another_user(intruder: Intruder) -> None:
    """Send another user's valid JWT on a connection that this user's token opened: 4403."""
    assert intruder.target.other_jwt is not None
    line = await intruder.upgraded()
    line.send(frame(jwt_message(intruder.target.other_jwt()).encode()) + intruder.target.message())
    await line.closed(FORBIDDEN)


@attack(ATTACKS, needs="expired_jwt")
async def expired_jwt(intruder: Intruder) -> None:
    """Send a JWT that was valid once: 4401."""
    assert intruder.target.expired_jwt is not None
    line = await intruder.upgraded()
    line.send(frame(jwt_message(intruder.target.expired_jwt()).encode()) + intruder.target.message())
    await line.closed(UNAUTHORIZED)


def forgeries(good: str) -> dict[str, str]:
    """Return JWTs made from a good one without the key."""
    header, claims, signature = good.split(".")
    none = {name: base64url(json.dumps({"alg": name, "typ": "JWT"}).encode()) for name in ("none", "None", "NONE", "")}
    altered = base64url(base64.urlsafe_b64decode(claims + "==")[:-1] + b',"admin":true}')
    return {
        **{f"alg {name!r}": f"{head}.{claims}." for name, head in none.items()},
        "alg 'none' with a signature": f"{none['none']}.{claims}.{signature}",
        "no signature": f"{header}.{claims}.",
        "another signature": f"{header}.{claims}.{base64url(bytes(32))}",
        "altered claims": f"{header}.{altered}.{signature}",
        "a fourth part": f"{good}.{signature}",
        "white space": f" {good} ",
        "no parts": "x" * 100,
    }


def base64url(data: bytes) -> str:
    """Return ``data`` as a JWT writes it (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@attack(ATTACKS)
async def forged_jwt(intruder: Intruder) -> None:
    """Send JWTs without a signature (``alg: none``), with a wrong one, or altered: 4401."""
    for name, forgery in forgeries(intruder.target.make_jwt()).items():
        line = await intruder.upgraded()
        line.send(frame(jwt_message(forgery).encode()) + intruder.target.message())
        await named(name, line.closed(UNAUTHORIZED))


# Good credentials in odd pieces ---------------------------------------------------------------------------------------


@attack(ATTACKS)
async def jwt_split_anywhere(intruder: Intruder) -> None:
    """Send the good JWT in two segments, split at every byte on a connection of its own: accepted each time."""
    whole = intruder.target.first_message()

    async def send_split(at: int) -> None:
        line = await intruder.upgraded()
        line.send(whole[:at])
        await asyncio.sleep(0.001)  # so that the two arrive as two
        line.send(whole[at:])
        await named(f"split at byte {at}", line.let_in())
        line.client.abort()

    for start in range(1, len(whole), 5):  # few at once, for a user may hold only so many tokens
        await asyncio.gather(*(send_split(at) for at in range(start, min(start + 5, len(whole)))))


@attack(ATTACKS)
async def jwt_in_one_byte_fragments(intruder: Intruder) -> None:
    """Send the good JWT as a message of one-byte fragments, with pings in between: accepted."""
    text = jwt_message(intruder.target.make_jwt()).encode()
    pieces = [frame(text[at : at + 1], CONTINUATION if at else TEXT, fin=False) for at in range(len(text))]
    line = await intruder.upgraded()
    line.send(frame(b"", PING).join(pieces) + frame(b"", CONTINUATION))
    await line.let_in()


@attack(ATTACKS)
async def message_behind_the_jwt(intruder: Intruder) -> None:
    """Send the good JWT and a message in one segment: the message is handled, and once."""
    line = await intruder.upgraded()
    line.send(intruder.target.first_message() + intruder.target.message())
    await line.let_in()
    await line.handled(1)


@attack(ATTACKS)
async def everything_behind_the_request(intruder: Intruder) -> None:
    """Send the upgrade request, the good JWT and a message in one segment: the message is handled, and once."""
    line = await intruder.upgraded(glued=intruder.target.first_message() + intruder.target.message())
    await line.let_in()
    await line.handled(1)
