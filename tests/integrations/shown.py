"""Whether a page of the documentation shows the files that the tests run, as they are."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs" / "integrations"


def differences(page: Path, recipe: Path) -> list[str]:
    """Return the names of the files in the folder ``recipe`` that ``page`` does not show word for word."""
    text = page.read_text(encoding="utf-8")
    files = [*recipe.glob("*.py"), *recipe.glob("*.js")]
    assert files, f"there is no recipe in {recipe}"
    languages = {".py": "python", ".js": "js"}
    blocks = {file: f"\n```{languages[file.suffix]}\n{file.read_text(encoding='utf-8')}```\n" for file in files}
    return sorted(file.name for file, block in blocks.items() if block not in text)
