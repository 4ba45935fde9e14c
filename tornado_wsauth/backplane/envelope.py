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

_VERSION = 1


class Parcel(NamedTuple):
    """A message on its way out."""

    channel: str
    text: str
    """The message as JSON, in ASCII."""


class Envelope(NamedTuple):
    """What came in."""

    sender: str
    seq: int
    messages: list[tuple[str, dict[str, Any]]]


def wrap(channel: str, message: Mapping[str, Any]) -> Parcel:
    """Write ``message``. Raises `TypeError` or `ValueError` for what is not JSON, `ValueError` for what is too long."""
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
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    match found:
        case {"v": 1, "from": str(sender), "seq": int(seq), "messages": list(pairs)} if all(map(_is_message, pairs)):
            return Envelope(sender, seq, [(channel, message) for channel, message in pairs])
    raise ValueError("it is no envelope of this version")


def _is_message(pair: object) -> bool:
    match pair:
        case [str(), dict()]:
            return True
    return False
