"""What is not installed is not collected, so that the tests of the library run without any of it.

A tox environment that should have it and has not then finds no tests at all, which pytest counts as a failure.
"""

from __future__ import annotations

import importlib.util

NEEDS = {"bokeh": "bokeh", "jupyter": "jupyter_server"}

collect_ignore = [folder for folder, package in NEEDS.items() if importlib.util.find_spec(package) is None]
