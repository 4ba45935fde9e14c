"""``python -m example_app`` with its clocks going faster, for tests: ``python -m tests.browser.server JSON OPTION…``.

The JSON is an object of `make_app`'s times and intervals, ``jwt_lifetime`` in seconds, and ``users``, of whom there are
so many more, ``user-1`` and so on, with their names for passwords; with ``"page": false``, the page is not built. The
options are the example's own. Everything else is what ``__main__`` does. Each log record of the library, and each line
of the access log, goes to the standard output as a line of JSON.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
from typing import Any

import example_app.__main__ as example
from example_app import accounts, app, serving


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


def change_example(
    *, jwt_lifetime: float = accounts.JWT_LIFETIME, users: int = 0, page: bool = True, **times: Any
) -> None:
    """Make `example_app` hurry, let more users in, and leave the page out if it is not wanted."""
    if not page:
        vars(example).update(ensure_page=lambda: None)
    accounts.USERS.update({name: name for name in (f"user-{number + 1}" for number in range(users))})

    class HastyAccounts(accounts.Accounts):
        async def issue_jwt(self, login: accounts.Login, lifetime: float = jwt_lifetime) -> str:
            return await super().issue_jwt(login, lifetime)

    vars(app).update(Accounts=HastyAccounts)
    vars(serving).update(make_app=functools.partial(app.make_app, **times))


if __name__ == "__main__":
    change_example(**json.loads(sys.argv.pop(1)))
    for name in ("tornado_wsauth", "tornado.access"):
        logging.getLogger(name).addHandler(Lines(level=logging.INFO))
    example.main()
