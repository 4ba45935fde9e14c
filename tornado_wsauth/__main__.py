"""The command line: ``python -m tornado_wsauth``. Each subcommand has a module of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tornado_wsauth.client import terminal
from tornado_wsauth.doctor import command as doctor


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tornado_wsauth", description="Tools of tornado_wsauth.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    terminal.add_command(commands)
    doctor.add_command(commands)
    arguments = parser.parse_args(argv)
    status: int = arguments.run(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
