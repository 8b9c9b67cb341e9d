"""Report of the metrics of an IO worker through ``ray.util.metrics``.

Ray exposes them at the Prometheus endpoint of the node, beside its own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from fsspill.log import get_logger
from fsspill.metrics import BOUNDS, METRICS, Series
from fsspill.placement.file_store import FileStore

__all__ = ["INTERVAL", "NODE", "MetricsReporter"]

logger = get_logger(__name__)

INTERVAL = 5.0
"""Seconds between two reports. Ray's own metrics are as old; it drops a gauge that is not set for
some tens of seconds."""

NODE = "node"
"""Label with the id of the node, which Ray itself adds to its own metrics only."""

_OBSERVATIONS = 10_000
"""Observations that are kept until the next report."""

_STOP_TIMEOUT = 2.0
"""Seconds that stopping waits for a report."""


class MetricsReporter:
    """Periodic report of what one IO worker has counted, on a thread of its own.

    Parameters
    ----------
    files : FileStore
        The files of the IO worker, whose metrics are reported.
    node_id : str
        The node.
    make_metric : callable, optional
        Makes the metric of Ray for a name of `fsspill.metrics.METRICS`.

    Notes
    -----
    Counters are reported as their increase since the last report, so no event waits for Ray. Where
    Ray runs without its metrics agent (``ray[default]`` is not installed), it drops them.
    """

    def __init__(
        self,
        files: FileStore,
        node_id: str,
        make_metric: Callable[[str], Any] | None = None,
    ) -> None:
        self._files = files
        self._node_id = node_id
        self._make_metric = make_metric or _make_metric
        self._metrics: dict[str, Any] = {}
        self._reported: dict[Series, float] = {}
        self._observed: deque[tuple[Series, float]] = deque(maxlen=_OBSERVATIONS)
        files.metrics.on_observe = lambda *observed: self._observed.append(observed)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fsspill-metrics", daemon=True)

    def start(self) -> None:
        """Start the thread, unless it was started before."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Report once more, and end the thread; wait for that up to 2 seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_STOP_TIMEOUT)

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL):
            self.report()
        self.report()

    def report(self) -> None:
        """Report all that was counted since the last time. Never raises: no spill fails for it."""
        try:
            self._files.update_gauges()
            for series, value in self._files.metrics.values().items():
                self._report(series, value)
            while self._observed:
                series, seconds = self._observed.popleft()
                self._metric(series.name).observe(seconds, tags=self._tags(series))
        except Exception as error:
            logger.debug("cannot report metrics: %r", error)

    def _report(self, series: Series, value: float) -> None:
        metric, tags = self._metric(series.name), self._tags(series)
        if METRICS[series.name].kind == "gauge":
            metric.set(value, tags=tags)
        elif increase := value - self._reported.get(series, 0):
            metric.inc(increase, tags=tags)
            self._reported[series] = value

    def _metric(self, name: str) -> Any:
        if name not in self._metrics:
            self._metrics[name] = self._make_metric(name)
        return self._metrics[name]

    def _tags(self, series: Series) -> dict[str, str]:
        labels = METRICS[series.name].labels
        return {**dict(zip(labels, series.labels, strict=True)), NODE: self._node_id}


def _make_metric(name: str) -> Any:
    from ray.util import metrics

    row = METRICS[name]
    described: dict[str, Any] = {"description": row.description, "tag_keys": (*row.labels, NODE)}
    if row.kind == "histogram":
        return metrics.Histogram(name, boundaries=list(BOUNDS), **described)
    return (metrics.Counter if row.kind == "counter" else metrics.Gauge)(name, **described)
