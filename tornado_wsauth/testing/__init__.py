"""For the tests of applications that use this library: a clock to turn by hand, clients good and bad.

Nothing in the library imports it.
"""

from __future__ import annotations

from tornado_wsauth.testing.client import RawClient as RawClient
from tornado_wsauth.testing.clock import ManualClock as ManualClock

__all__ = ["ManualClock", "RawClient"]
