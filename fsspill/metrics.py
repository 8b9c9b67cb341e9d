"""Metrics: counters, gauges and histograms of what a storage does, by name and labels.

Their names and units are those of Prometheus. Under Ray they are reported by `fsspill.ray.metrics`;
without it `fsspill.ExternalStorage.stats` returns them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal, NamedTuple

__all__ = ["BOUNDS", "METRICS", "Metric", "Metrics", "Sample", "Series", "Stats"]


class Metric(NamedTuple):
    """One row of the table of metrics.

    Attributes
    ----------
    kind : {"counter", "gauge", "histogram"}
        Its type, as of Prometheus.
    unit : str
        Unit of its value.
    labels : tuple of str
        Names of its labels.
    description : str
        Meaning, for Prometheus and for ``docs/metrics.md``.
    """

    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    description: str


_PLACE = ("uri", "tier")

METRICS = {
    "fsspill_spilled_bytes": Metric(
        "counter", "bytes", _PLACE, "Bytes of objects spilled, before compression."
    ),
    "fsspill_stored_bytes": Metric(
        "counter", "bytes", _PLACE, "Bytes of the same objects as stored, after compression."
    ),
    "fsspill_spilled_objects": Metric("counter", "objects", _PLACE, "Objects spilled."),
    "fsspill_spilled_files": Metric("counter", "files", _PLACE, "Fused files written."),
    "fsspill_spill_seconds": Metric(
        "histogram", "seconds", ("tier",), "Time of a call that wrote files, one batch of objects."
    ),
    "fsspill_restored_bytes": Metric(
        "counter", "bytes", _PLACE, "Bytes of objects restored, before compression."
    ),
    "fsspill_restored_objects": Metric("counter", "objects", _PLACE, "Objects restored."),
    "fsspill_restore_seconds": Metric(
        "histogram", "seconds", ("tier",), "Time to restore one object."
    ),
    "fsspill_requests": Metric(
        "counter",
        "requests",
        ("uri", "operation", "outcome"),
        "Requests that have ended, by operation and outcome.",
    ),
    "fsspill_requests_in_flight": Metric("gauge", "requests", ("uri",), "Requests in flight."),
    "fsspill_bytes_in_flight": Metric(
        "gauge", "bytes", ("uri",), "Bytes of the bodies and ranges of requests in flight."
    ),
    "fsspill_request_rate_limit": Metric(
        "gauge",
        "requests/s",
        ("uri",),
        "Requests per second of all processes of the node, while it is throttled; else 0.",
    ),
    "fsspill_retries": Metric(
        "counter", "requests", ("uri",), "Requests made again after a failure."
    ),
    "fsspill_hedges": Metric(
        "counter",
        "requests",
        ("uri", "operation", "winner"),
        "Requests made a second time because the first took longer than usual.",
    ),
    "fsspill_digest_mismatches": Metric(
        "counter", "blocks", _PLACE, "Blocks read that did not match their digest."
    ),
    "fsspill_circuit_open": Metric(
        "gauge", "0 or 1", ("uri",), "1 while the URI is unhealthy and not written to."
    ),
    "fsspill_failovers": Metric("counter", "times", ("uri",), "Times that a URI became unhealthy."),
    "fsspill_deleted_files": Metric("counter", "files", ("uri",), "Fused files deleted."),
    "fsspill_pending_deletions": Metric(
        "gauge", "files", (), "Files whose deletion failed and is retried."
    ),
    "fsspill_refused_objects": Metric("counter", "objects", (), "Objects that no URI takes."),
    "fsspill_lost_objects": Metric(
        "counter", "objects", ("reason",), "Objects that ray.get raises SpilledObjectLostError for."
    ),
    "fsspill_copy_bytes": Metric(
        "gauge", "bytes", (), "Bytes of all local copies of the node, the same in each process."
    ),
    "fsspill_copied_bytes": Metric("counter", "bytes", (), "Bytes written to local copies."),
    "fsspill_copy_evictions": Metric("counter", "files", (), "Local copies evicted."),
    "fsspill_copy_evicted_bytes": Metric("counter", "bytes", (), "Bytes of local copies evicted."),
}
"""Every metric by name. Ray adds the prefix ``ray_``, and ``_total`` to counters."""

BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0)
"""Upper bounds of the buckets of histograms, in seconds: from a small object on a local disk to a
batch over a slow link."""


class Series(NamedTuple):
    """A metric with values of its labels, in the order of `Metric.labels`."""

    name: str
    labels: tuple[str, ...] = ()


class Sample(NamedTuple):
    """One line of a Prometheus endpoint.

    Attributes
    ----------
    name : str
        Name of the metric, with ``_bucket``, ``_sum`` and ``_count`` for those of a histogram.
    labels : mapping
        Its labels; ``le`` is the upper bound of a bucket.
    value : float
        Its value.
    """

    name: str
    labels: Mapping[str, str]
    value: float


class Stats(tuple[Sample, ...]):
    """The samples of all metrics at one moment; a metric without any event has none."""

    __slots__ = ()

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a name that have these labels, among others."""
        wanted = labels.items()
        return sum(
            sample.value
            for sample in self
            if sample.name == name and wanted <= sample.labels.items()
        )


@dataclass
class _Histogram:
    """Observations by bucket; the last one has what is above all bounds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0


class Metrics:
    """The metrics of one storage in this process, since its first event.

    May be used by several threads. An event costs about a microsecond.

    Attributes
    ----------
    on_observe : callable or None
        Called with the series and the seconds of each observation of a histogram.
    """

    def __init__(self) -> None:
        self.on_observe: Callable[[Series, float], None] | None = None
        self._lock = Lock()
        self._values: defaultdict[Series, float] = defaultdict(float)
        self._histograms: dict[Series, _Histogram] = {}

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Increase a counter, or change a gauge by an amount."""
        self.change((_series(name, labels), amount))

    def change(self, *changes: tuple[Series, float]) -> None:
        """Change several counters and gauges by an amount each, for those who know their series."""
        with self._lock:
            for series, amount in changes:
                self._values[series] += amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        series = _series(name, labels)
        with self._lock:
            self._values[series] = value

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add an observation to a histogram."""
        series = _series(name, labels)
        with self._lock:
            histogram = self._histograms.setdefault(series, _Histogram())
            histogram.counts[bisect_left(BOUNDS, seconds)] += 1
            histogram.total += seconds
        if self.on_observe:
            self.on_observe(series, seconds)

    def values(self) -> dict[Series, float]:
        """Return the values of all counters and gauges."""
        with self._lock:
            return dict(self._values)

    def stats(self) -> Stats:
        """Return the samples of all metrics."""
        with self._lock:
            values = dict(self._values)
            histograms = {
                series: (list(found.counts), found.total)
                for series, found in self._histograms.items()
            }
        samples = [Sample(series.name, _named(series), value) for series, value in values.items()]
        for series, (counts, total) in histograms.items():
            samples += _histogram_samples(series, counts, total)
        return Stats(sorted(samples, key=lambda sample: (sample.name, *sample.labels.values())))


def _series(name: str, labels: Mapping[str, str]) -> Series:
    return Series(name, tuple(labels[label] for label in METRICS[name].labels))


def _named(series: Series) -> dict[str, str]:
    return dict(zip(METRICS[series.name].labels, series.labels, strict=True))


def _histogram_samples(series: Series, counts: list[int], total: float) -> Iterator[Sample]:
    labels, below = _named(series), 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), counts, strict=True):
        below += count
        yield Sample(f"{series.name}_bucket", {**labels, "le": bound}, below)
    yield Sample(f"{series.name}_sum", labels, total)
    yield Sample(f"{series.name}_count", labels, below)
