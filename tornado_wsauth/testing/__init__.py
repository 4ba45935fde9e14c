"""For the tests of applications that use this library: clients good and bad, credentials, a clock to turn by hand.

Nothing in the library imports it. ``docs/testing.md`` shows how it is used; the pytest fixtures stand in
``tornado_wsauth_pytest``, outside of the package, so that a run of pytest that needs none of this imports none of it.
"""

from __future__ import annotations

from tornado_wsauth.testing.case import AuthWebSocketTestCase as AuthWebSocketTestCase
from tornado_wsauth.testing.client import RawClient as RawClient
from tornado_wsauth.testing.clock import ManualClock as ManualClock
from tornado_wsauth.testing.clock import manual_clock as manual_clock
from tornado_wsauth.testing.conformance import assert_gate_holds as assert_gate_holds
from tornado_wsauth.testing.connection import AuthenticatedConnection as AuthenticatedConnection
from tornado_wsauth.testing.connection import AuthRefused as AuthRefused
from tornado_wsauth.testing.connection import ConnectionEnded as ConnectionEnded
from tornado_wsauth.testing.connection import connect_authenticated as connect_authenticated
from tornado_wsauth.testing.credentials import Credentials as Credentials
from tornado_wsauth.testing.target import GateBreach as GateBreach

__all__ = [
    "AuthRefused",
    "AuthWebSocketTestCase",
    "AuthenticatedConnection",
    "ConnectionEnded",
    "Credentials",
    "GateBreach",
    "ManualClock",
    "RawClient",
    "assert_gate_holds",
    "connect_authenticated",
    "manual_clock",
]
