"""What `CHANGELOG.md` must name: every public thing that differs from the last release. `test_api` asks here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.release.api import API

_HEADING = re.compile(r"^## (?P<version>\S+) \((?P<date>unreleased|\d{4}-\d\d-\d\d)\)$", re.MULTILINE)
_CODE = re.compile(r"`+([^`]+)`+")


@dataclass(frozen=True)
class Section:
    version: str
    date: str
    """``unreleased``, or the day as ``2026-12-01``."""
    text: str

    @property
    def is_released(self) -> bool:
        return self.date != "unreleased"

    @property
    def named(self) -> set[str]:
        """The words in its code spans: prose that happens to contain one names nothing."""
        return {word for span in _CODE.findall(self.text) for word in re.findall(r"\w+", span)}


def sections(changelog: str) -> list[Section]:
    """Return the sections, the newest first. Raises `ValueError` for a heading that is not understood."""
    headings = list(_HEADING.finditer(changelog))
    for line in re.findall(r"^## .*$", changelog, re.MULTILINE):
        if not _HEADING.fullmatch(line):
            raise ValueError(
                f"CHANGELOG.md: {line!r} is no heading; write '## 1.2.0 (unreleased)' or a date, 2026-12-01"
            )
    ends = [heading.start() for heading in headings[1:]] + [len(changelog)]
    return [
        Section(heading["version"], heading["date"], changelog[heading.end() : end])
        for heading, end in zip(headings, ends, strict=True)
    ]


def differences(old: API, new: API) -> dict[str, str]:
    """Return what was added, removed or changed: the outermost thing only, so not each method of a new class."""
    found: dict[str, str] = {}
    for name in sorted({*old, *new}):
        if old.get(name) == new.get(name) or any(found.get(owner) in ("added", "removed") for owner in _owners(name)):
            continue
        found[name] = "added" if name not in old else "removed" if name not in new else "changed"
    return found


def unnamed(old: API, new: API, section: Section) -> list[str]:
    """Return the differences that ``section`` does not name, each as a line to show."""
    return [f"{name} ({how})" for name, how in differences(old, new).items() if own_name(name) not in section.named]


def own_name(name: str) -> str:
    """Return what a thing is called by itself: ``grace`` for ``tornado_wsauth.WSAuth.close(grace)``."""
    return re.split(r"[.(]", name.rstrip(")"))[-1]


def _owners(name: str) -> Iterator[str]:
    while match := re.match(r"(.*)[.(]", name):
        name = match[1]
        yield name
