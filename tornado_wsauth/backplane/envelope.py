"""The envelope: how messages between processes are written, and how what comes in is told from what does not belong.

One envelope carries messages of one process, in order::

    {"v": 1, "from": "3f0c…", "seq": 17, "messages": [["everyone", {…}], ["group:\\"red\\"", {…}]]}

``seq`` rises with each envelope of a process; it is what a copy is known by. `outbox` and `inbox` use this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

MOST_BYTES = 8 * 2**20
"""The longest message, as JSON; MongoDB's documents end at 16 MiB."""

MOST_DEPTH = 100
"""How deeply a message may be nested: whoever reads it, deep in some stack, must be able to."""

_VERSION = 1


class Parcel(NamedTuple):
    """A message on its way out."""

    channel: str
    text: str
    """The message as JSON, in ASCII."""

    @property
    def size(self) -> int:
        """Roughly how many bytes it takes in an envelope."""
        return len(self.channel) + len(self.text)


class Envelope(NamedTuple):
    """What came in."""

    sender: str
    seq: int
    messages: list[tuple[str, dict[str, Any]]]


def wrap(channel: str, message: Mapping[str, Any]) -> Parcel:
    """Write ``message``. Raises `TypeError` for no JSON object, and `ValueError` for one that is too long or deep."""
    if not isinstance(message, dict):
        raise TypeError(f"a message between processes is a dict, not {type(message).__name__}")
    if _is_deeper(message, MOST_DEPTH):
        raise ValueError(f"a message between processes is nested at most {MOST_DEPTH} deep")
    text = json.dumps(message, separators=(",", ":"), allow_nan=False)
    if len(text) > MOST_BYTES:
        raise ValueError(f"a message of {len(text)} bytes is too long for the backplane: at most {MOST_BYTES}")
    return Parcel(channel, text)


def seal(sender: str, seq: int, parcels: Iterable[Parcel]) -> str:
    """Write the envelope of ``parcels``."""
    messages = ",".join(f"[{json.dumps(parcel.channel)},{parcel.text}]" for parcel in parcels)
    return f'{{"v":{_VERSION},"from":"{sender}","seq":{seq},"messages":[{messages}]}}'


def unseal(text: str | bytes) -> Envelope:
    """Read an envelope. Raises `ValueError` for what is none."""
    try:
        # Decoded first: json would look for the encoding of each.
        found = json.loads(text if isinstance(text, str) else text.decode(), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    match found:
        case {"v": 1, "from": str(sender), "seq": int(seq), "messages": list(pairs)} if all(map(_is_message, pairs)):
            return Envelope(sender, seq, [(channel, message) for channel, message in pairs])
    raise ValueError("it is no envelope of this version")


def _is_deeper(value: object, depth: int) -> bool:
    match value:
        case dict():
            return depth == 0 or any(_is_deeper(member, depth - 1) for member in value.values())
        case list() | tuple():
            return depth == 0 or any(_is_deeper(member, depth - 1) for member in value)
    return False


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _is_message(pair: object) -> bool:
    # No pattern: this is done for each message that any process sends.
    return type(pair) is list and len(pair) == 2 and type(pair[0]) is str and type(pair[1]) is dict
