"""Whether what is in the checkout can be released: ``tox run -e release``, ``audit``, ``verifytypes``.

A plain ``pytest`` leaves this folder alone: what it needs (`build`, `twine`, `griffe`) is in those environments only.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""
