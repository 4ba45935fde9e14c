"""What comes in from other processes: checked, without copies and echoes, and only what is listened to."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Set

from tornado_wsauth.backplane.base import Receiver
from tornado_wsauth.backplane.envelope import unseal

logger: logging.Logger = logging.getLogger("tornado_wsauth")

_MOST_SENDERS = 10_000


class Inbox:
    """Takes envelopes as they arrive and hands their messages on. Nothing it is given makes it raise.

    ``channels`` are those that are listened to; they may change.
    """

    def __init__(self, process_id: str, receiver: Receiver, channels: Set[str]) -> None:
        self._process_id = process_id
        self._receiver = receiver
        self._channels = channels
        self._last_seq: OrderedDict[tuple[str, str], int] = OrderedDict()  # of each process and way

    def take(self, text: str | bytes, *, way: str = "published") -> None:
        """Hand on what the envelope ``text`` carries.

        Envelopes of one process that come the same ``way`` come in order, so one that is not beyond the last is a copy.
        """
        try:
            sender, seq, messages = unseal(text)
        except ValueError as error:
            logger.warning("ignored %d bytes on the backplane that are not ours: %s", len(text), _kind(error))
            return
        if sender == self._process_id or seq <= self._last_seq.get((sender, way), -1):
            return
        self._last_seq[sender, way] = seq
        self._last_seq.move_to_end((sender, way))
        if len(self._last_seq) > _MOST_SENDERS:
            self._last_seq.popitem(last=False)
        for channel, message in messages:
            if channel in self._channels:
                try:
                    self._receiver.receive(channel, message)
                except Exception:
                    logger.exception("what came over the backplane in %r could not be dealt with", channel)


def _kind(error: ValueError) -> str:
    """Describe the error without quoting what was read."""
    return "no JSON" if type(error) is not ValueError else str(error)
