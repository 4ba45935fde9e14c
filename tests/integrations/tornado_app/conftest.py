"""Fixtures: the application of the recipe, and people who use it as a browser would."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.web import Application

from tests.integrations.tornado_app.member import Visitor

RECIPE = Path(__file__).parent / "recipe"


@pytest.fixture(autouse=True)
def _recipe_on_the_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the two files find each other as in the folder of a reader, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(RECIPE))
    yield
    for name in ("chatapp", "secured"):
        sys.modules.pop(name, None)


@pytest.fixture
def db() -> Any:
    from chatapp import Database

    return Database()


@pytest.fixture
def app(db: Any) -> Application:
    """The application of the recipe, for pytest-tornado and the fixtures of tornado_wsauth."""
    from secured import make_app

    return make_app(db)


@pytest.fixture
def visitor(http_server: object, http_port: int) -> Callable[[], Visitor]:
    """Return somebody with a browser that has no cookie yet: ``visitor()``."""
    return lambda: Visitor(http_port)
