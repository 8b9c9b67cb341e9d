"""Limits of time for tests, which share a busy machine."""

from __future__ import annotations

import pytest

from tests.timeouts import PATIENT


@pytest.fixture(autouse=True)
def _patient_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for an answer as long as a busy machine may need for it."""
    monkeypatch.setattr("fsspill.diagnosis.trial.CHECK_SECONDS", PATIENT)
