"""What the application says on its terminal, and how it says that it cannot start."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from tornado_wsauth import ConfigurationError


class StartError(Exception):
    """The application cannot start. The message says why and what to do about it; ``status`` is what it exits with."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@contextlib.contextmanager
def one_line_for_errors() -> Iterator[None]:
    """Exit with 1 or 2, and a line that says why, if what is done here cannot start."""
    try:
        yield
    except (StartError, ConfigurationError) as error:
        sys.stderr.write(f"example_app: {error}\n")
        sys.exit(error.status if isinstance(error, StartError) else 2)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
