"""What every backplane must do: the promises of ``backplane/base.py`` as tests.

A backplane's own test module subclasses `BackplaneContract` and gives it a fixture ``harness``: a `ServerHarness`. One
that is no server, and so has nothing that can die or be cut, subclasses `LocalBackplaneContract`, whose ``harness`` is
a `BackplaneHarness`.
"""

from __future__ import annotations

from tests.contracts.backplane_harness import BackplaneHarness, Recorder, ServerHarness
from tests.contracts.backplane_messages import LifeContract, MessageContract
from tests.contracts.backplane_outages import CutContract, DeathContract
from tests.contracts.backplane_places import PlaceContract

__all__ = ["BackplaneContract", "BackplaneHarness", "LocalBackplaneContract", "Recorder", "ServerHarness"]


class LocalBackplaneContract(MessageContract, LifeContract, PlaceContract):
    """Inherit it as ``class TestMyBackplane(LocalBackplaneContract)``."""


class BackplaneContract(LocalBackplaneContract, DeathContract, CutContract):
    """Inherit it as ``class TestMyBackplane(BackplaneContract)``."""
