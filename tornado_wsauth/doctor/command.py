"""``python -m tornado_wsauth doctor module:app``: loads an application, looks at it, and says what would hurt."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import logging
import os
import shutil
import sys
from typing import Any, TextIO

from tornado_wsauth.doctor.checks import examine
from tornado_wsauth.doctor.findings import IDS, LEVELS
from tornado_wsauth.doctor.loading import LoadError, load
from tornado_wsauth.doctor.report import Report, failure_as_json
from tornado_wsauth.doctor.secrets import hide, secrets_of
from tornado_wsauth.doctor.subject import subject_of

HEALTHY, FOUND, NOT_LOADED = 0, 1, 2

_DESCRIPTION = """\
Import an application and say what would hurt in production, and what to do about it. The target is a Tornado
Application, an HTTPServer, or a function without arguments (sync or async) that returns one. It is not started: its
routes and settings are read, its token routes are asked as a foreign page would ask, and its MongoDB and Redis are
looked at, where --no-connect does not forbid it. Nothing is changed, and no secret is printed."""

_EPILOG = """\
exit status: 0 if nothing was found that --fail-on names; 1 if something was; 2 if the application cannot be loaded, or
for a wrong option."""


def add_command(commands: Any) -> None:
    """Add ``doctor`` to the subcommands of the command line."""
    parser = commands.add_parser(
        "doctor",
        help="say what would hurt in production",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="MODULE:APP", help="what to look at, such as app:make_app")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--fail-on",
        choices=LEVELS,
        default="warning",
        help="from which level on a finding makes the status 1 (warning)",
    )
    parser.add_argument(
        "--ignore",
        metavar="ID",
        choices=IDS,
        action="append",
        default=[],
        help="accept a finding, by its id; may be repeated",
    )
    parser.add_argument("--processes", metavar="N", type=_count, help="how many processes there will be")
    parser.add_argument(
        "--connect",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="ask the application's MongoDB and Redis how they are set up (the default)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look at the application, print the report, and return the exit status."""
    logging.getLogger().addHandler(logging.NullHandler())  # what the application logs meanwhile is not the report
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the application prints is not the report either
            report = asyncio.run(_examine(arguments))
    except LoadError as error:
        return _cannot_load(arguments, hide(str(error), secrets_of(os.environ)))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to fail
    width = shutil.get_terminal_size((100, 24)).columns
    print(report.as_json() if arguments.json else report.as_text(width=width, colour=_wants_colour(sys.stdout)))  # noqa: T201
    return FOUND if report.failed else HEALTHY


async def _examine(arguments: argparse.Namespace) -> Report:
    target = await load(arguments.target)
    subject = subject_of(target, processes=arguments.processes, connect=arguments.connect)
    findings = await examine(subject)
    return Report(
        arguments.target,
        [finding for finding in findings if finding.id not in arguments.ignore],
        arguments.fail_on,
        [finding.id for finding in findings if finding.id in arguments.ignore],
        len(subject.routes),
    )


def _cannot_load(arguments: argparse.Namespace, why: str) -> int:
    if arguments.json:
        print(failure_as_json(arguments.target, why))  # noqa: T201
    else:
        print(f"doctor: {why}", file=sys.stderr)  # noqa: T201
    return NOT_LOADED


def _wants_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number
