"""The good first message, one byte at a time, against the deadline."""

from __future__ import annotations

import pytest

from tests.hostile.scene import Answers, target_of
from tests.support import ManualClock, make_auth, nothing_is_left, settle
from tornado_wsauth.testing.target import Intruder

TIMEOUT = 10.0


@pytest.mark.gen_test
@pytest.mark.parametrize("in_time", [True, False])
async def test_a_dripped_jwt_is_accepted_if_its_last_byte_comes_before_the_deadline_and_only_then(serve, in_time):
    # A15
    class Chat(Answers):
        pass

    clock = ManualClock()
    server = serve(Chat, auth=make_auth(clock=clock, auth_timeout=TIMEOUT))
    async with Intruder(target_of(server)) as intruder:
        line = await intruder.upgraded()
        *dripped, last = intruder.target.first_message()
        for byte in dripped:
            line.send(bytes([byte]))
            await settle()
            clock.advance(TIMEOUT * 0.99 / len(dripped))
        assert len(server.auth.pending) == 1
        clock.advance(0 if in_time else TIMEOUT * 0.02)
        line.send(bytes([last]) + intruder.target.message())
        await (line.let_in() if in_time else line.closed(4408))
    await nothing_is_left(server)
    assert in_time or Chat.events == []
