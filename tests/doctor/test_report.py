"""What the report looks like to people, and where it ends."""

from __future__ import annotations

import re

import pytest

from tornado_wsauth.doctor.findings import Finding
from tornado_wsauth.doctor.report import Report

WARNING = Finding("no-ping-interval", "warning", "Application(x=…)", "clients are never " + "ever " * 30, "set it")
NOTE = Finding("memory-store", "note", "WSAuth()", "one process", "say so")


def report(*findings: Finding, **options) -> Report:
    return Report("app:app", findings, options.pop("fail_on", "warning"), routes=3, **options)


@pytest.mark.parametrize(
    ("fail_on", "findings", "failed"),
    [
        ("note", [NOTE], True),
        ("warning", [NOTE], False),
        ("warning", [NOTE, WARNING], True),
        ("error", [NOTE, WARNING], False),
        ("note", [], False),
    ],
)
def test_it_fails_from_the_level_on_that_was_named(fail_on, findings, failed):
    assert report(*findings, fail_on=fail_on).failed is failed


def test_colours_add_nothing_but_colours():
    plain, coloured = (report(WARNING, NOTE).as_text(colour=colour) for colour in (False, True))
    assert coloured.startswith("\x1b[33mwarning ")
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain
    assert "\x1b" not in plain


def test_lines_are_as_wide_as_the_terminal_and_never_too_narrow_to_read():
    assert max(map(len, report(WARNING).as_text(width=60).splitlines())) <= 60
    assert 30 < max(map(len, report(WARNING).as_text(width=1).splitlines())) <= 40


def test_the_summary_counts_each_level_in_words():
    text = report(WARNING, NOTE, NOTE, ignored=["weak-key", "weak-key"]).as_text()
    assert text.splitlines()[-1] == "app:app: 1 warning, 2 notes in 3 routes; 2 ignored (weak-key)"
