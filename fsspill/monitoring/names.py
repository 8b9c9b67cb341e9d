"""The metrics that fsspill exports, by name. Ray adds ``ray_``, and to counters ``_total``."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["METRICS", "Metric"]


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
        Meaning.
    """

    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...] = ()
    description: str = ""


METRICS = {
    "fsspill_spilled_bytes": Metric("counter", "bytes", ("uri", "tier")),
    "fsspill_stored_bytes": Metric("counter", "bytes", ("uri", "tier")),
    "fsspill_spilled_objects": Metric("counter", "objects", ("uri", "tier")),
    "fsspill_spilled_files": Metric("counter", "files", ("uri", "tier")),
    "fsspill_spill_seconds": Metric("histogram", "seconds", ("tier",)),
    "fsspill_restored_bytes": Metric("counter", "bytes", ("uri", "tier")),
    "fsspill_restored_objects": Metric("counter", "objects", ("uri", "tier")),
    "fsspill_restore_seconds": Metric("histogram", "seconds", ("tier",)),
    "fsspill_requests": Metric("counter", "requests", ("uri", "operation", "outcome")),
    "fsspill_retries": Metric("counter", "requests", ("uri",)),
    "fsspill_requests_in_flight": Metric("gauge", "requests", ("uri",)),
    "fsspill_bytes_in_flight": Metric("gauge", "bytes", ("uri",)),
    "fsspill_digest_mismatches": Metric("counter", "blocks", ("uri", "tier")),
    "fsspill_failovers": Metric("counter", "times", ("uri",)),
    "fsspill_circuit_open": Metric("gauge", "0 or 1", ("uri",)),
    "fsspill_deleted_files": Metric("counter", "files", ("uri",)),
    "fsspill_pending_deletions": Metric("gauge", "files"),
    "fsspill_refused_objects": Metric("counter", "objects"),
    "fsspill_lost_objects": Metric("counter", "objects", ("reason",)),
    "fsspill_copy_bytes": Metric("gauge", "bytes"),
    "fsspill_copied_bytes": Metric("counter", "bytes"),
    "fsspill_copy_evicted_bytes": Metric("counter", "bytes"),
    "fsspill_copy_evictions": Metric("counter", "files"),
}
