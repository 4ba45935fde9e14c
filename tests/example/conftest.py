"""A fixture of the tests of the reference application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tests.example.site import Site


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
