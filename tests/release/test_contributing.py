"""``CONTRIBUTING.md`` names a command for each part: what it names is there."""

from __future__ import annotations

import re
from configparser import ConfigParser

from tests.release import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_environment_that_is_named_is_one_of_toxs() -> None:
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    known = {section.partition(":")[2] for section in tox.sections()}
    named = set(re.findall(r"tox run -e ([a-z][\w-]*)", CONTRIBUTING))
    assert {name for name in named if not name.startswith("py3")} - known == set()


def test_every_environment_has_its_command() -> None:
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    environments = {
        name for kind, _, name in (section.partition(":") for section in tox.sections()) if kind == "testenv"
    }
    assert {name for name in environments if name and f"tox run -e {name}" not in CONTRIBUTING} == set()


def test_every_test_that_is_named_is_there() -> None:
    named = set(re.findall(r"\btests/[\w/.]*\w", CONTRIBUTING))
    assert {name for name in named if not (ROOT / name).exists()} == set()
