"""What `terminal` shows: messages on the standard output, and on the standard error what is going on."""

from __future__ import annotations

import io
import os
import sys
import time
from typing import TextIO

from tornado_wsauth.client.reactions import Close

_COLOURS = {"dim": "2", "red": "31", "green": "32", "cyan": "36"}


class Console:
    """Prints; in colour on a terminal, unless ``NO_COLOR`` is set. ``raw``: nothing but what was received, as it is.

    What comes from a server is shown with its control characters escaped: it must not steer the terminal.
    """

    def __init__(self, *, raw: bool = False) -> None:
        self._raw = raw
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to fail

    def received(self, message: str | bytes) -> None:
        """Show a message of the server. Raises `BrokenPipeError` when nobody reads the standard output any more."""
        if self._raw:
            sys.stdout.flush()
            sys.stdout.buffer.write(message if isinstance(message, bytes) else message.encode() + b"\n")
            sys.stdout.flush()
        else:
            print(_coloured("<", "cyan", sys.stdout), _shown(message), flush=True)  # noqa: T201

    def sent(self, line: str) -> None:
        """Show what was sent, where the screen does not show it already."""
        if not self._raw and not sys.stdin.isatty():
            print(_coloured(">", "dim", sys.stdout), _shown(line), flush=True)  # noqa: T201

    def step(self, words: str) -> None:
        """Say what is being done."""
        self._say("·", words, "dim")

    def success(self, words: str) -> None:
        """Say what has come about."""
        self._say("✓", words, "green")

    def failure(self, words: str) -> None:
        """Say what went wrong."""
        self._say("✗", words, "red")

    def closed(self, close: Close) -> None:
        """Say how an attempt or a connection ended, and what comes next."""
        what = " ".join(str(part) for part in (close.code, close.reason) if part) or "closed"
        if close.retry_in is None:
            after = "giving up"
        else:
            after = f"trying again {'at once' if close.retry_in == 0 else f'in {close.retry_in:.1f} s'}"
        self.failure(f"{_shown(what)}: {_shown(close.words)[:-1]}; {after}")

    def _say(self, mark: str, words: str, colour: str) -> None:
        print(_coloured(f"{mark} {words}", colour, sys.stderr), file=sys.stderr, flush=True)  # noqa: T201


def clock_time(unix_seconds: float | None) -> str:
    """Return a time of the day, with its date if that is another day; both are local."""
    if unix_seconds is None:
        return "the server ends it"
    try:
        then = time.localtime(unix_seconds)
    except (ValueError, OverflowError, OSError):  # no time that a calendar knows
        return str(unix_seconds)
    same_day = time.strftime("%Y-%m-%d", then) == time.strftime("%Y-%m-%d")
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", then)


def escaped(text: str) -> str:
    """Return ``text`` with everything escaped that is not to be seen, or does more than that."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _shown(message: str | bytes) -> str:
    return escaped(message) if isinstance(message, str) else f"({len(message)} bytes) {message.hex(' ')}"


def _coloured(text: str, colour: str, stream: TextIO) -> str:
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"
