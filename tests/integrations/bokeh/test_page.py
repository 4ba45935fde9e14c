"""``docs/integrations/bokeh.md`` shows what these tests run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integrations.shown import DOCS, differences

PAGE = DOCS / "bokeh.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the tests run without the documentation beside them")


def test_the_page_shows_the_files_of_the_recipe_as_they_are() -> None:
    assert differences(PAGE, Path(__file__).parent / "recipe") == []
