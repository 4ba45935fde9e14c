"""``python -m example_app`` with its clocks going faster, for tests: ``python -m tests.browser.server JSON OPTION…``.

The JSON is an object of `make_app`'s times and intervals, and ``jwt_lifetime`` in seconds; the options are the
example's own. Everything else is what ``__main__`` does. Each log record of the library, and each line of the access
log, goes to the standard output as a line of JSON.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
from typing import Any

import example_app.__main__ as example
from example_app import accounts
from example_app.app import make_app


class Lines(logging.Handler):
    """Writes records as JSON: the library's own fields, or ``{"event": "http", "line": "200 POST /login …"}``."""

    FIELDS = ("event", "reason", "user_id", "path", "code")

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "tornado.access":
            fields: dict[str, Any] = {"event": "http", "line": record.getMessage()}
        else:
            fields = {name: getattr(record, name, None) for name in self.FIELDS}
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()


def turn_clocks(*, jwt_lifetime: float, **times: Any) -> None:
    """Make `example_app` hurry."""

    class HastyAccounts(accounts.Accounts):
        def issue_jwt(self, login: accounts.Login, lifetime: float = jwt_lifetime) -> str:
            return super().issue_jwt(login, lifetime)

    vars(example).update(Accounts=HastyAccounts, make_app=functools.partial(make_app, **times))


if __name__ == "__main__":
    turn_clocks(**json.loads(sys.argv.pop(1)))
    for name in ("tornado_wsauth", "tornado.access"):
        logging.getLogger(name).addHandler(Lines(level=logging.INFO))
    example.main()
