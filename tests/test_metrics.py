"""Metrics of one storage in this process."""

from __future__ import annotations

import threading

import pytest

from fsspill.metrics import BOUNDS, METRICS, Metrics, Sample, Series

PLACE = {"uri": "s3://b", "tier": "bucket"}


def test_counters_add_up_by_labels() -> None:
    """Each combination of labels is a series of its own, and `total` sums those that are wanted."""
    metrics = Metrics()
    metrics.add("fsspill_spilled_bytes", 5, **PLACE)
    metrics.add("fsspill_spilled_bytes", 7, **PLACE)
    metrics.add("fsspill_spilled_bytes", 1, uri="s3://c", tier="bucket")
    stats = metrics.stats()
    assert Sample("fsspill_spilled_bytes", PLACE, 12) in stats
    assert stats.total("fsspill_spilled_bytes") == 13
    assert stats.total("fsspill_spilled_bytes", uri="s3://c") == 1
    assert stats.total("fsspill_spilled_bytes", uri="s3://d") == 0


def test_a_gauge_has_its_last_value() -> None:
    """It is set, or changed by an amount."""
    metrics = Metrics()
    metrics.set("fsspill_pending_deletions", 3)
    metrics.set("fsspill_pending_deletions", 2)
    metrics.add("fsspill_pending_deletions", -1)
    assert metrics.values() == {Series("fsspill_pending_deletions"): 1}


def test_a_histogram_has_cumulative_buckets() -> None:
    """As Prometheus expects: each has what is at most its bound, the last one all."""
    metrics = Metrics()
    for seconds in (BOUNDS[0], 0.003, 1e9):
        metrics.observe("fsspill_spill_seconds", seconds, tier="local")
    stats = metrics.stats()
    buckets = {
        sample.labels["le"]: sample.value for sample in stats if sample.name.endswith("_bucket")
    }
    assert [buckets["0.001"], buckets["0.005"], buckets["120.0"], buckets["+Inf"]] == [1, 2, 2, 3]
    assert stats.total("fsspill_spill_seconds_count") == 3
    assert stats.total("fsspill_spill_seconds_sum") == pytest.approx(1e9 + 0.004)


def test_observations_are_handed_on() -> None:
    """With their series and their seconds."""
    metrics, seen = Metrics(), []
    metrics.on_observe = lambda *observed: seen.append(observed)
    metrics.observe("fsspill_restore_seconds", 0.5, tier="copy")
    assert seen == [(Series("fsspill_restore_seconds", ("copy",)), 0.5)]


def test_a_label_that_is_missing_is_an_error() -> None:
    """No series is counted under labels that the table does not have."""
    with pytest.raises(KeyError):
        Metrics().add("fsspill_spilled_bytes", 1, uri="s3://b")
    with pytest.raises(KeyError):
        Metrics().add("fsspill_unknown", 1)


def test_no_event_of_any_thread_is_lost() -> None:
    """Event loop, callers and background threads count at the same time."""
    metrics = Metrics()

    def count() -> None:
        for _ in range(2000):
            metrics.add("fsspill_retries", uri="s3://b")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.stats().total("fsspill_retries") == 8000


def test_names_follow_the_conventions_of_prometheus() -> None:
    """The unit is in the name, and `_total`, which Ray adds, is not."""
    for name, row in METRICS.items():
        assert name.startswith("fsspill_")
        assert not name.endswith("_total")
        assert row.description.endswith(".")
        if row.unit in ("bytes", "seconds"):
            assert row.unit in name
        assert "key" not in row.labels
