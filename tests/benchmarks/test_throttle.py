"""The measurement of processes on a storage that throttles, once and small."""

from __future__ import annotations

import pytest

from tests.benchmarks.throttle import measure

pytest.importorskip("s3fs")


def test_a_throttled_node_is_measured() -> None:
    """Its processes move objects, the server answers, and no call fails."""
    found = measure(100, 2.0, processes=2)
    assert found.used > 0
    assert 0 <= found.refused < 1
    assert found.failures == 0
