"""The fixture of the hostile tests."""

from __future__ import annotations

from tests.hostile.scene import quick_garbage_collection as quick_garbage_collection
