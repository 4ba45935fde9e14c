"""A second reader of JSON, written from RFC 8259 alone: what it says of a first message must be what `gate` says.

`properties` imports it. It is slow and short, and shares nothing with Python's own ``json``.
"""

from __future__ import annotations

import re
import sys
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_STRING = re.compile(r'"((?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*)"')
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


class NotJSON(Exception):
    """This is no JSON text, or one that two readers could read differently."""


def read(text: str) -> Any:
    """Return the value of a JSON text; every number is 0.0. Raises `NotJSON`, also for a member given twice.

    An integer of more digits than Python converts is refused, too.
    """
    value, end = _value(text, _skip(text, 0))
    if _skip(text, end) != len(text):
        raise NotJSON
    return value


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _value(text: str, at: int) -> tuple[Any, int]:
    first = text[at : at + 1]
    if first == "{":
        return _object(text, at)
    if first == "[":
        return _array(text, at)
    if first == '"':
        return _string(text, at)
    for word, value in _WORDS.items():
        if text.startswith(word, at):
            return value, at + len(word)
    return _number(text, at)


def _number(text: str, at: int) -> tuple[float, int]:
    found = _NUMBER.match(text, at)
    if found is None:
        raise NotJSON
    is_integer = found[2] is None and found[3] is None
    if is_integer and len(found[1]) > sys.get_int_max_str_digits():
        raise NotJSON
    return 0.0, found.end()


def _string(text: str, at: int) -> tuple[str, int]:
    found = _STRING.match(text, at)
    if found is None:
        raise NotJSON

    def unescaped(escape: re.Match[str]) -> str:
        return chr(int(escape[1], 16)) if escape[1] else _SHORT.get(escape[2], escape[2])

    # Two escapes may be the halves of one character, which UTF-16 puts together.
    halves = _ESCAPE.sub(unescaped, found[1])
    return halves.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"), found.end()


def _array(text: str, at: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        return items, at + 1
    while True:
        item, at = _value(text, at)
        items.append(item)
        at, is_over = _comma(text, at, "]")
        if is_over:
            return items, at


def _object(text: str, at: int) -> tuple[dict[str, Any], int]:
    members: dict[str, Any] = {}
    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        return members, at + 1
    while True:
        name, at = _string(text, at)
        at = _skip(text, at)
        if text[at : at + 1] != ":" or name in members:
            raise NotJSON
        members[name], at = _value(text, _skip(text, at + 1))
        at, is_over = _comma(text, at, "}")
        if is_over:
            return members, at


def _comma(text: str, at: int, end: str) -> tuple[int, bool]:
    """Step over the comma before the next item, or over ``end``; say which it was."""
    at = _skip(text, at)
    if text[at : at + 1] == end:
        return at + 1, True
    if text[at : at + 1] != ",":
        raise NotJSON
    return _skip(text, at + 1), False
