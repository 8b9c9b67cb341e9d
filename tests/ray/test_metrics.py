"""Report of metrics to Ray, with metrics of the test in the place of Ray's."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

pytest.importorskip("ray")

from fsspill import ExternalStorage
from fsspill.metrics import METRICS
from fsspill.ray import metrics as ray_metrics
from fsspill.ray.metrics import MetricsReporter, _make_metric
from tests.running import BegunThreads, poll
from tests.spilling import restore, spill

Key = tuple[str, tuple[tuple[str, str], ...]]


class RaysMetrics:
    """What Ray has been told."""

    def __init__(self) -> None:
        self.values: Counter[Key] = Counter()
        self.made: list[str] = []
        self.is_broken = False

    def make(self, name: str) -> Any:
        self.made.append(name)
        return _Metric(self, name)

    def total(self, name: str, **labels: str) -> float:
        wanted = set(labels.items())
        return sum(
            value for key, value in self.values.items() if key[0] == name and wanted <= set(key[1])
        )


class _Metric:
    def __init__(self, told: RaysMetrics, name: str) -> None:
        self._told, self._name = told, name

    def _key(self, tags: dict[str, str]) -> Key:
        if self._told.is_broken:
            raise RuntimeError("Ray has changed")
        assert set(tags) == {*METRICS[self._name].labels, "node"}
        return self._name, tuple(sorted(tags.items()))

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0  # Ray refuses 0
        self._told.values[self._key(tags)] += value  # type: ignore[assignment]

    def set(self, value: float, tags: dict[str, str]) -> None:
        self._told.values[self._key(tags)] = value  # type: ignore[assignment]

    def observe(self, value: float, tags: dict[str, str]) -> None:
        self._told.values[self._key(tags)] += 1


@pytest.fixture
def told() -> RaysMetrics:
    return RaysMetrics()


def reporter_of(storage: ExternalStorage, told: RaysMetrics) -> MetricsReporter:
    return MetricsReporter(storage.files, "node", told.make)


def test_reports_add_up_to_what_was_counted(memory_uri: str, told: RaysMetrics) -> None:
    """Each tells what is new since the last one, and each metric of Ray is made once."""
    storage = ExternalStorage(memory_uri)
    reporter = reporter_of(storage, told)
    for _ in range(3):
        [url] = spill(storage, b"data")
        restore(storage, url)
        reporter.report()
        reporter.report()
    stats = storage.stats()
    for name in ("fsspill_spilled_bytes", "fsspill_restored_objects", "fsspill_requests"):
        assert told.total(name, uri=memory_uri, node="node") == stats.total(name) > 0
    assert told.total("fsspill_restore_seconds", tier="bucket") == 3
    assert told.total("fsspill_circuit_open") == 0
    assert len(told.made) == len(set(told.made))


def test_a_report_that_fails_fails_nothing_and_loses_nothing(
    memory_uri: str, told: RaysMetrics
) -> None:
    """What was not told is told with the next report."""
    storage = ExternalStorage(memory_uri)
    reporter = reporter_of(storage, told)
    spill(storage, b"data")
    told.is_broken = True
    reporter.report()
    told.is_broken = False
    reporter.report()
    assert told.total("fsspill_spilled_objects") == 1


def test_the_thread_reports_and_ends(
    memory_uri: str, told: RaysMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself, and once more when it is stopped."""
    monkeypatch.setattr(ray_metrics, "INTERVAL", 0.05)
    threads = BegunThreads("fsspill-metrics")
    storage = ExternalStorage(memory_uri)
    reporter = reporter_of(storage, told)
    reporter.start()
    reporter.start()
    spill(storage, b"data")
    poll(lambda: told.total("fsspill_spilled_objects") == 1, "a report")
    monkeypatch.setattr(ray_metrics, "INTERVAL", 3600.0)
    spill(storage, b"more")
    reporter.stop()
    assert told.total("fsspill_spilled_objects") == 2
    assert not threads()


def test_one_that_was_never_started_stops(memory_uri: str, told: RaysMetrics) -> None:
    """A worker that neither spills nor restores has no thread."""
    reporter_of(ExternalStorage(memory_uri), told).stop()
    assert not told.made


@pytest.mark.parametrize("name", METRICS)
def test_ray_takes_every_metric(name: str) -> None:
    """Names, labels and bounds are such as Ray accepts."""
    made = _make_metric(name)
    assert made.info["name"] == name
    assert set(made.info["tag_keys"]) == {*METRICS[name].labels, "node"}
