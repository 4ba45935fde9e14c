"""The records of the logger ``tornado_wsauth``, for the tests of it (a pytest plugin)."""

from __future__ import annotations

import logging
from typing import Any

import pytest

FIELDS = ("event", "reason", "user_id", "remote_ip", "path", "code")
UNKNOWN_TOKEN = "A" * 43


class Log:
    """The records of the library's logger, as tuples of (event, reason, user_id, code)."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def records(self) -> list[logging.LogRecord]:
        return [record for record in self._caplog.records if record.name == "tornado_wsauth"]

    @property
    def events(self) -> list[tuple[Any, ...]]:
        return [(r.event, r.reason, r.user_id, r.code) for r in self.records]  # type: ignore[attr-defined]

    @property
    def errors(self) -> list[logging.LogRecord]:
        return [record for record in self._caplog.records if record.exc_info]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Log:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "tornado_wsauth")
    return Log(caplog)


@pytest.fixture
def check(logged: Log) -> Any:
    """``check(expected…)``: exactly these records, each with every attribute and a sensible level."""

    def check_them(*expected: tuple[Any, ...], path: str = "/ws") -> None:
        assert logged.events == list(expected)
        for record in logged.records:
            assert record.remote_ip == "127.0.0.1"  # type: ignore[attr-defined]
            assert record.path == path  # type: ignore[attr-defined]
            assert record.levelno == (logging.WARNING if record.event == "refused" else logging.INFO)  # type: ignore[attr-defined]
            assert record.reason in record.getMessage()  # type: ignore[attr-defined]
            assert "\n" not in record.getMessage()

    return check_them
