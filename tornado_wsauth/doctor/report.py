"""What the doctor prints: text for people, JSON for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tornado_wsauth.doctor.findings import LEVELS, Finding, Level, is_at_least

VERSION = 1
"""Of the JSON. It changes when something that was there is gone, or means something else."""

_COLOURS = {"error": "31", "warning": "33", "note": "36"}
_INDENT = " " * 9
_NARROWEST = 40


@dataclass(frozen=True, slots=True)
class Report:
    """The findings about ``target``, and from which level on they fail it.

    ``ignored`` are the ids of findings that were made, and left out because somebody accepts them; ``routes`` says how
    many were looked at.
    """

    target: str
    findings: Sequence[Finding]
    fail_on: Level
    ignored: Sequence[str] = ()
    routes: int = 0

    @property
    def failed(self) -> bool:
        """Whether there is a finding that must not be there."""
        return any(is_at_least(finding.level, self.fail_on) for finding in self.findings)

    def as_json(self) -> str:
        """Return the report as docs/doctor.md describes it."""
        counts = {level: self._count(level) for level in reversed(LEVELS)}
        return json.dumps(
            {
                "version": VERSION,
                "target": self.target,
                "failed": self.failed,
                "counts": counts,
                "ignored": list(self.ignored),
                "findings": [asdict(finding) for finding in self.findings],
            },
            indent=2,
        )

    def as_text(self, *, width: int = 100, colour: bool = False) -> str:
        """Return the report in lines of at most ``width`` characters, where words allow for it."""
        parts = [_in_lines(finding, max(width, _NARROWEST), colour) for finding in self.findings]
        return "\n\n".join([*parts, self._summary()])

    def _summary(self) -> str:
        kinds = [f"{count} {level}{'s' * (count != 1)}" for level in reversed(LEVELS) if (count := self._count(level))]
        accepted = f"; {len(self.ignored)} ignored ({', '.join(sorted(set(self.ignored)))})" if self.ignored else ""
        return f"{self.target}: {', '.join(kinds) or 'nothing found'} in {self.routes} routes{accepted}"

    def _count(self, level: Level) -> int:
        return sum(finding.level == level for finding in self.findings)


def failure_as_json(target: str, why: str) -> str:
    """Return what stands for a report where there was nothing to look at."""
    return json.dumps({"version": VERSION, "target": target, "failed": True, "error": why}, indent=2)


def _in_lines(finding: Finding, width: int, colour: bool) -> str:
    level = f"{finding.level:<8}"
    if colour:
        level = f"\x1b[{_COLOURS[finding.level]}m{level}\x1b[0m"

    def wrapped(first: str, text: str) -> str:
        return textwrap.fill(
            text,
            width,
            initial_indent=_INDENT + first,
            subsequent_indent=_INDENT + " " * len(first),
            break_long_words=False,
            break_on_hyphens=False,
        )

    where = wrapped("", finding.where)
    return "\n".join(
        [f"{level} {finding.id}", where, wrapped("", _sentence(finding.problem)), wrapped("-> ", finding.advice)]
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
