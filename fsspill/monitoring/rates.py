"""The difference of two scrapes, as rates and quantiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from fsspill.metrics import Sample
from fsspill.monitoring.scrape import Scrape

__all__ = ["Change", "Changes", "compare"]

_Series: TypeAlias = tuple[str, str, frozenset[tuple[str, str]]]
"""Endpoint, name and labels, which tell a series from all others."""


class Change(NamedTuple):
    """One series, and what became of it.

    Attributes
    ----------
    node : str
        Id of its node; its endpoint where no label names a node.
    sample : Sample
        Its last sample.
    increase : float
        What it has grown by, if it only grows.
    """

    node: str
    sample: Sample
    increase: float


class Changes:
    """The series of a cluster, or of one of its nodes, between two scrapes.

    Parameters
    ----------
    changes : sequence of Change
        The series.
    seconds : float or None
        Time between the scrapes; None if there is only one.
    """

    def __init__(self, changes: Sequence[Change], seconds: float | None) -> None:
        self._changes = changes
        self._seconds = seconds

    def by_node(self) -> dict[str, Changes]:
        """Return the changes of each node."""
        found: dict[str, list[Change]] = defaultdict(list)
        for change in self._changes:
            found[change.node].append(change)
        return {node: Changes(changes, self._seconds) for node, changes in found.items()}

    def values(self, name: str, label: str) -> dict[str, list[float]]:
        """Return the values of a metric by the value of one of its labels."""
        found: dict[str, list[float]] = defaultdict(list)
        for _, sample, _ in self._matching(name, {}):
            found[sample.labels.get(label, "")].append(sample.value)
        return dict(found)

    def labels(self, label: str) -> set[str]:
        """Return the values of a label in all series."""
        return {
            change.sample.labels[label] for change in self._changes if label in change.sample.labels
        }

    def total(self, name: str) -> float:
        """Return the sum of a metric over all series."""
        return sum(change.sample.value for change in self._matching(name, {}))

    def rate(self, name: str, **labels: str) -> float | None:
        """Return what a counter grows by in a second, of the series with these labels."""
        if self._seconds is None:
            return None
        return sum(change.increase for change in self._matching(name, labels)) / self._seconds

    def quantile(self, q: float, name: str, **labels: str) -> float | None:
        """Return a quantile of a histogram, as Prometheus interpolates it; None without data."""
        buckets: dict[float, float] = defaultdict(float)
        if self._seconds is not None:
            for _, sample, increase in self._matching(name, labels):
                buckets[float(sample.labels["le"])] += increase
        return _quantile(q, sorted(buckets.items()))

    def _matching(self, name: str, labels: Mapping[str, str]) -> Iterator[Change]:
        for change in self._changes:
            sample = change.sample
            if sample.name == name and labels.items() <= sample.labels.items():
                yield change


def compare(before: Scrape | None, after: Scrape) -> Changes:
    """Return what changed between two scrapes.

    Parameters
    ----------
    before : Scrape or None
        The earlier scrape; None if there is none, so that nothing has a rate.
    after : Scrape
        The later one.
    """
    earlier = {series: sample.value for series, sample in _series(before)} if before else {}
    changes = []
    for series, sample in _series(after):
        endpoint, value = series[0], sample.value
        # A series that is new began at 0, unless its endpoint did not answer before.
        known = before is not None and endpoint in before.samples
        old = earlier.get(series, 0.0 if known else value)
        # A counter that is lower than before began again at 0.
        increase = value - old if value >= old else value
        changes.append(Change(sample.labels.get("node") or endpoint, sample, increase))
    return Changes(changes, after.time - before.time if before else None)


def _series(scrape: Scrape) -> Iterator[tuple[_Series, Sample]]:
    for endpoint, samples in scrape.samples.items():
        for sample in samples:
            yield (endpoint, sample.name, frozenset(sample.labels.items())), sample


def _quantile(q: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """Return a quantile of cumulative buckets, sorted by their bounds, the last one infinite."""
    if len(buckets) < 2 or not buckets[-1][1]:
        return None
    rank = q * buckets[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in buckets[:-1]:
        if count >= rank and count > below:
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower  # above the last bound: how far is not known
