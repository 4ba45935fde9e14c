"""docs/doctor.md has a section for each finding, and no section for one that is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tornado_wsauth
from tests.doctor.kit import findings
from tests.doctor.pairs import PAIRS
from tornado_wsauth.doctor.findings import IDS

PAGE = Path(tornado_wsauth.__file__).parent.parent / "docs" / "doctor.md"


def test_every_finding_has_a_section_and_every_section_a_finding():
    assert sorted(re.findall(r"^### `([a-z-]+)`", PAGE.read_text(), re.MULTILINE)) == sorted(IDS)


@pytest.mark.gen_test
@pytest.mark.parametrize("pair", PAIRS, ids=str)
async def test_a_section_begins_with_the_level_that_its_finding_has(pair):
    found = (await findings(pair.has()))[pair.id]
    section = PAGE.read_text().split(f"### `{pair.id}`\n\n")[1]
    assert found.level in re.split(r"[.:]", section)[0].lower()
