"""The documentation is tested by ``tox run -e docs``, which has what reads it; the matrix does not."""

from __future__ import annotations

from importlib.util import find_spec

# Under every Python of the matrix the pages would say the same, and take as long again.
collect_ignore_glob = [] if find_spec("myst_parser") else ["test_*.py"]
