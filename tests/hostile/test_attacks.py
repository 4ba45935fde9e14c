"""Every attack on handlers of every kind: the attacker gets nothing, nobody notices, and nothing is left."""

from __future__ import annotations

import pytest

from tests.hostile.scene import (
    PREAUTH_BYTES,
    Answers,
    Baseline,
    Compresses,
    Honest,
    OverridesEverything,
    target_of,
)
from tests.support import make_auth
from tornado_wsauth.testing.attacks import ATTACKS


@pytest.mark.usefixtures("quick_garbage_collection")
@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Answers, OverridesEverything, Compresses])
@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
async def test_an_attack_is_refused_and_leaves_no_trace_on_others_or_in_the_server(serve, login, attack, handler):
    # A7, A8, A9, A11, A13, A14, A16, A17, A20, A22
    class Chat(handler):
        pass

    server = serve(Chat, auth=make_auth(max_preauth_bytes=PREAUTH_BYTES))
    honest = Honest(await login(server, "bob"))
    await honest.is_served()
    before = Baseline(server)
    target = target_of(server)
    assert attack.possible(target)
    await attack.launch(target)
    await honest.is_served()
    await before.is_back()
