"""What ``WSAuth(metrics=…)`` takes, and what an observer of an application's own is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.support import Echo, make_auth
from tornado_wsauth import ConfigurationError, Observer
from tornado_wsauth.metrics import Metrics


def test_two_under_one_registry_need_two_names():
    registry = CollectorRegistry()
    Metrics(registry)
    with pytest.raises(ConfigurationError, match="give each WSAuth its own namespace"):
        Metrics(registry)
    Metrics(registry, namespace="admin")


@pytest.mark.parametrize("namespace", ["", "a-b", "naïve", 7, None])
def test_a_name_that_cannot_be_one_is_refused(namespace):
    with pytest.raises(ConfigurationError, match=r"Metrics\(namespace="):
        Metrics(CollectorRegistry(), namespace=namespace)


def test_one_for_two_is_refused():
    metrics = Metrics(CollectorRegistry())
    make_auth(metrics=metrics)
    with pytest.raises(ConfigurationError, match="give each its own"):
        make_auth(metrics=metrics)


@pytest.mark.parametrize("metrics", [True, "prometheus", Metrics])
def test_what_is_no_observer_is_refused(metrics):
    with pytest.raises(ConfigurationError, match=r"WSAuth\(metrics=<.*must be an Observer"):
        make_auth(metrics=metrics)


class Heard(Observer):
    """An application's own observer: remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []


def _remember(name: str) -> Callable[..., None]:
    def method(self: Heard, *arguments: Any, **options: Any) -> None:
        self.calls.append((name, *arguments))

    return method


for _name in Observer.__abstractmethods__:
    setattr(Heard, _name, _remember(_name))
Heard.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


@pytest.mark.gen_test
async def test_an_observer_of_ones_own_hears_the_same(serve, login):
    heard = Heard()
    server = serve(Echo, make_auth(metrics=heard))
    await login(server)
    server.auth.connections.broadcast("x")
    assert [call[0] for call in heard.calls] == [
        "attach",
        "answered",  # the store, when it was started
        "answered",
        "token_issued",
        "answered",
        "token_redeemed",
        "upgraded",
        "recorded",
        "broadcast",
    ]
    upgraded, recorded = heard.calls[6:8]
    assert upgraded[1] is recorded[1]
    assert recorded[2:] == ("accepted", "auth_ok", None)
