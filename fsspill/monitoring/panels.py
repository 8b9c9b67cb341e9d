"""The panels of the dashboard, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fsspill.monitoring.expressions import FAILED, dollars, quantile, rate, series

__all__ = ["NOT_SHOWN", "ROWS", "Panel", "Query"]

NOT_SHOWN = {
    "fsspill_copy_evictions": "the bytes that were evicted are shown",
    "fsspill_request_rate_limit": "throttled requests are shown",
}
"""Metrics without a panel, and the reason."""


class Query(NamedTuple):
    """One expression of a panel.

    Attributes
    ----------
    expression : str
        The expression, in PromQL with the variables of Grafana.
    legend : str
        Name of each of its series, with their labels in double braces.
    """

    expression: str
    legend: str


class Panel(NamedTuple):
    """One panel.

    Attributes
    ----------
    title : str
        Its title.
    unit : str
        Unit of its values, by Grafana's name for it.
    queries : sequence of Query
        Its series.
    description : str
        What is not seen from the title.
    kind : {"timeseries", "stat"}
        Curves over time, or their last values as numbers.
    """

    title: str
    unit: str
    queries: Sequence[Query]
    description: str = ""
    kind: str = "timeseries"


_BY_TIER = "{{tier}}"
_BY_URI = "{{uri}}"
_BY_NODE = "{{NodeAddress}}"
_NODE = "node, NodeAddress"


def _quantiles(name: str) -> list[Query]:
    return [
        Query(quantile(q, "tier", name), f"{{{{tier}}}} {shown}")
        for q, shown in ((0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"))
    ]


_THROUGHPUT = (
    Panel(
        "Spilled, by tier",
        "binBps",
        [Query(rate("tier", "fsspill_spilled_bytes"), _BY_TIER)],
        "Before compression.",
    ),
    Panel(
        "Restored, by tier",
        "binBps",
        [Query(rate("tier", "fsspill_restored_bytes"), _BY_TIER)],
        "copy: from a local copy on the node's disk, without a request to the bucket.",
    ),
    Panel(
        "Spilled objects, by tier",
        "ops",
        [Query(rate("tier", "fsspill_spilled_objects"), _BY_TIER)],
    ),
    Panel(
        "Restored objects, by tier",
        "ops",
        [Query(rate("tier", "fsspill_restored_objects"), _BY_TIER)],
    ),
    Panel(
        "Files",
        "ops",
        [
            Query(rate("tier", "fsspill_spilled_files"), "written to {{tier}}"),
            Query(rate("uri", "fsspill_deleted_files"), "deleted from {{uri}}"),
        ],
    ),
    Panel(
        "Requests, by operation",
        "reqps",
        [Query(rate("operation", "fsspill_requests"), "{{operation}}")],
    ),
)

_LATENCY = (
    Panel("Time to spill a batch", "s", _quantiles("fsspill_spill_seconds")),
    Panel("Time to restore an object", "s", _quantiles("fsspill_restore_seconds")),
)

_ERRORS = (
    Panel(
        "Failed requests and retries",
        "reqps",
        [
            Query(rate("outcome", "fsspill_requests", FAILED), "{{outcome}}"),
            Query(rate("uri", "fsspill_retries"), "retries {{uri}}"),
            Query(rate("uri", "fsspill_hedges"), "hedges {{uri}}"),
        ],
        "Each attempt counts. Those that are tried again with success cost only time; hedges, made "
        "a second time because they were late, save it.",
    ),
    Panel(
        "Circuit open",
        "none",
        [
            Query(
                f"max by ({_NODE}, uri) ({series('fsspill_circuit_open')})", f"{_BY_NODE} {_BY_URI}"
            )
        ],
        "1: the node does not write to the URI, which is unhealthy, until a probe succeeds.",
    ),
    Panel(
        "Events since the processes started",
        "none",
        [
            Query(
                f"sum by (reason) ({series('fsspill_lost_objects')})", "lost objects: {{reason}}"
            ),
            Query(f"sum({series('fsspill_refused_objects')})", "refused objects"),
            Query(f"sum by (uri) ({series('fsspill_failovers')})", "failovers {{uri}}"),
            Query(
                f"sum by (tier) ({series('fsspill_digest_mismatches')})", "wrong blocks {{tier}}"
            ),
        ],
        "Wrong blocks are read again, and never restored.",
    ),
)

_BACKLOG = (
    Panel(
        "Requests in flight",
        "none",
        [Query(f"sum by (uri) ({series('fsspill_requests_in_flight')})", _BY_URI)],
    ),
    Panel(
        "Bytes in flight",
        "bytes",
        [Query(f"sum by (uri) ({series('fsspill_bytes_in_flight')})", _BY_URI)],
    ),
    Panel(
        "Files that wait for their deletion",
        "none",
        [Query(f"sum by ({_NODE}) ({series('fsspill_pending_deletions')})", _BY_NODE)],
        "Those whose deletion failed. What is left when a node ends is removed by fsspill clean.",
    ),
)

_LISTED = "At the list prices of AWS, Google and Azure; other stores have none here. See the bill."

_COSTS = (
    Panel(
        "Dollars an hour for requests",
        "currencyUSD",
        [Query(f"3600 * {dollars('rate', '$__rate_interval')}", _BY_URI)],
        _LISTED,
    ),
    Panel(
        "Dollars for requests, in the time that is shown",
        "currencyUSD",
        [Query(dollars("increase", "$__range"), _BY_URI)],
        _LISTED,
        "stat",
    ),
    Panel(
        "Stored bytes for each spilled byte",
        "percentunit",
        [
            Query(
                f"{rate('uri', 'fsspill_stored_bytes')} / {rate('uri', 'fsspill_spilled_bytes')}",
                _BY_URI,
            )
        ],
        "What compression leaves.",
    ),
)

_COPIES = (
    Panel(
        "Local copies, by node",
        "bytes",
        [Query(f"max by ({_NODE}) ({series('fsspill_copy_bytes')})", _BY_NODE)],
    ),
    Panel(
        "Written to and evicted from local copies",
        "binBps",
        [
            Query(rate("", "fsspill_copied_bytes"), "written"),
            Query(rate("", "fsspill_copy_evicted_bytes"), "evicted"),
        ],
    ),
)

ROWS = {
    "Throughput": _THROUGHPUT,
    "Latency": _LATENCY,
    "Errors and circuit": _ERRORS,
    "Backlog": _BACKLOG,
    "Cost": _COSTS,
    "Local copies": _COPIES,
}
"""The panels, by the title of their row."""
