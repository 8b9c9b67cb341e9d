"""The report of a running cluster, by node and tier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fsspill.monitoring.expressions import SUCCESSFUL
from fsspill.monitoring.rates import Changes, compare
from fsspill.monitoring.scrape import Scrape

__all__ = ["ALL", "NodeReport", "Quantiles", "Report", "TierReport", "make_report"]

ALL = "all nodes"
"""Name of the report of a whole cluster."""


@dataclass(frozen=True)
class Quantiles:
    """Seconds of the half, and of 99 of 100; None if nothing happened."""

    p50: float | None
    p99: float | None


@dataclass(frozen=True)
class TierReport:
    """The bytes that a node moves to and from one tier.

    Attributes
    ----------
    tier : str
        The bucket, local copies, or a local directory.
    spilled_bytes_per_second, restored_bytes_per_second : float or None
        Rates; None after a single scrape.
    spill_seconds, restore_seconds : Quantiles
        Times to spill a batch, and to restore an object.
    """

    tier: str
    spilled_bytes_per_second: float | None
    restored_bytes_per_second: float | None
    spill_seconds: Quantiles
    restore_seconds: Quantiles


@dataclass(frozen=True)
class NodeReport:
    """The activity of one node, or of all nodes together.

    Attributes
    ----------
    node, address : str
        Its id, and its IP address; its endpoint if they are not known.
    tiers : list of TierReport
        The tiers that it has used.
    errors_per_second, retries_per_second : float or None
        Rates of requests that failed, and of those that were repeated; None after a single scrape.
    open_circuits : list of str
        URIs that it does not write to, because they are unhealthy.
    requests_in_flight, bytes_in_flight, pending_deletions : int
        Its backlog now.
    lost_objects : dict
        Objects lost so far, by reason.
    copy_bytes : int
        Bytes of its local copies now.
    """

    node: str
    address: str
    tiers: list[TierReport]
    errors_per_second: float | None
    retries_per_second: float | None
    open_circuits: list[str]
    requests_in_flight: int
    bytes_in_flight: int
    pending_deletions: int
    lost_objects: dict[str, int]
    copy_bytes: int


@dataclass(frozen=True)
class Report:
    """The activity of a cluster.

    Attributes
    ----------
    seconds : float or None
        Time over which rates and quantiles are taken; None after a single scrape.
    cluster : NodeReport
        All nodes together.
    nodes : list of NodeReport
        Each node that has metrics of fsspill, the busiest first.
    failures : dict
        By the host and port of each endpoint that did not answer, the reason.
    """

    seconds: float | None
    cluster: NodeReport
    nodes: list[NodeReport]
    failures: dict[str, str]


def make_report(before: Scrape | None, after: Scrape) -> Report:
    """Return the activity of a cluster between two scrapes, or at the last one if it is alone."""
    changes = compare(before, after)
    nodes = [_report(node, each) for node, each in changes.by_node().items()]
    return Report(
        after.time - before.time if before else None,
        _report(ALL, changes),
        sorted(nodes, key=lambda node: (-sum(_moved(node)), node.address, node.node)),
        dict(after.failures),
    )


def _moved(node: NodeReport) -> Iterator[float]:
    for tier in node.tiers:
        yield tier.spilled_bytes_per_second or 0.0
        yield tier.restored_bytes_per_second or 0.0


def _report(node: str, changes: Changes) -> NodeReport:
    addresses = changes.labels("NodeAddress")
    circuits = changes.values("fsspill_circuit_open", "uri")
    lost = changes.values("fsspill_lost_objects", "reason")
    copies = changes.values("fsspill_copy_bytes", "node")
    return NodeReport(
        node=node,
        address=node if node == ALL or not addresses else min(addresses),
        tiers=[_tier(tier, changes) for tier in sorted(changes.labels("tier"))],
        errors_per_second=_errors(changes),
        retries_per_second=changes.rate("fsspill_retries"),
        open_circuits=sorted(uri for uri, values in circuits.items() if max(values)),
        requests_in_flight=int(changes.total("fsspill_requests_in_flight")),
        bytes_in_flight=int(changes.total("fsspill_bytes_in_flight")),
        pending_deletions=int(changes.total("fsspill_pending_deletions")),
        lost_objects={reason: int(sum(values)) for reason, values in lost.items()},
        # Each process of a node reports the same.
        copy_bytes=int(sum(map(max, copies.values()))),
    )


def _tier(tier: str, changes: Changes) -> TierReport:
    return TierReport(
        tier,
        changes.rate("fsspill_spilled_bytes", tier=tier),
        changes.rate("fsspill_restored_bytes", tier=tier),
        _quantiles("fsspill_spill_seconds", tier, changes),
        _quantiles("fsspill_restore_seconds", tier, changes),
    )


def _quantiles(name: str, tier: str, changes: Changes) -> Quantiles:
    return Quantiles(*(changes.quantile(q, name, tier=tier) for q in (0.5, 0.99)))


def _errors(changes: Changes) -> float | None:
    total = changes.rate("fsspill_requests")
    successes = [changes.rate("fsspill_requests", outcome=outcome) for outcome in SUCCESSFUL]
    return None if total is None else max(0.0, total - sum(rate or 0.0 for rate in successes))
