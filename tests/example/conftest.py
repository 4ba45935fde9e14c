"""Fixtures of the tests of the reference application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tests.example.site import Site, Visitor


@pytest.fixture
def visit(io_loop: IOLoop) -> Iterator[Callable[..., Site]]:
    """Start the example: ``site = visit(**options of make_app)``."""
    sites: list[Site] = []

    def start(**options: Any) -> Site:
        sites.append(Site(**options))
        return sites[-1]

    yield start
    for site in sites:
        io_loop.run_sync(site.close)


@pytest.fixture
def visitor_of(io_loop: IOLoop) -> Iterator[Callable[[int], Visitor]]:
    """Visit an example that runs elsewhere: ``visitor = visitor_of(port)``."""
    visitors: list[Visitor] = []

    def come(port: int) -> Visitor:
        visitors.append(Visitor(port))
        return visitors[-1]

    yield come
    for visitor in visitors:
        io_loop.run_sync(visitor.close)
