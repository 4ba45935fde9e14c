"""Every attack that the gate must withstand. `conformance` throws them at any handler; tests may pick some."""

from __future__ import annotations

from tornado_wsauth.testing import credential_attacks, frame_attacks
from tornado_wsauth.testing.attack import Attack as Attack

ATTACKS: list[Attack] = [*credential_attacks.ATTACKS, *frame_attacks.ATTACKS]
"""All of them, in the order of a connection's life."""
