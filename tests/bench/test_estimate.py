"""Requests that are expected; tests/bench/test_run.py compares them with those that are made."""

from __future__ import annotations

import pytest

from fsspill.bench.contenders import variants
from fsspill.bench.estimate import estimate
from fsspill.settings import MIB, Settings


def test_directories_cost_nothing() -> None:
    """They get no requests."""
    found = estimate(Settings("file:///x"), 2**40, [])
    assert (found.writes, found.reads, found.dollars) == (0, 0, 0)


def test_larger_batches_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default some cents, a batch of tens of GiB more than a user is charged unasked."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    settings = Settings("s3://bucket")
    small, large = (
        estimate(settings, size, variants(settings)) for size in (160 * MIB, 10 * 1024 * MIB)
    )
    assert 0.001 < small.dollars < 0.1 < large.dollars
    assert large.dollars == large.writes * 5e-6 + large.reads * 4e-7
