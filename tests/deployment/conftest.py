"""An environment without settings of the user."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AWS_", "RAY_", "FSSPILL_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
