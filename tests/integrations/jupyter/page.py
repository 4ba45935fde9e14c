"""The recipe's page: its files as a reader would save them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "integrations" / "jupyter.md"

SECRET = "an-example-secret-of-at-least-32-bytes"
JUPYTER_TOKEN = "for-the-back-end-alone"


def files() -> dict[str, str]:
    """Return the Python files of the page by their names."""
    blocks = re.findall(r"^```python\n(# (\w+\.py)\n.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return {name: code for code, name in blocks}


def save(directory: Path) -> None:
    """Write the page's files into ``directory``."""
    for name, code in files().items():
        (directory / name).write_text(code, encoding="utf-8")
