"""The table of metrics."""

from __future__ import annotations

from fsspill.monitoring.names import METRICS


def test_names_are_those_of_prometheus() -> None:
    """Ray adds the end of counters."""
    assert all(name.startswith("fsspill_") for name in METRICS)
    assert not any(name.endswith(("_total", "_bucket")) for name in METRICS)
