"""Fixtures of the tests of clean-up."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Return the URI of an empty directory."""
    return f"file://{tmp_path}"
