"""The report of a cluster."""

from __future__ import annotations

import pytest

from fsspill.monitoring.exposition import parse
from fsspill.monitoring.report import ALL, Quantiles, Report, make_report
from fsspill.monitoring.scrape import Scrape
from fsspill.settings import MIB
from tests.monitoring.samples import BUCKET, NODES, SECOND, line, node

FIRST, OTHER = NODES.values()


def scraped(time: float, *texts: str) -> Scrape:
    found = {f"h:{port}": list(parse(text)) for port, text in enumerate(texts)}
    return Scrape(time, found, {"h:9": "refused"})


def reported() -> Report:
    """Return what two nodes do, the second one twice as much as the first."""
    addresses = list(NODES)
    before = scraped(0.0, *(node(address) for address in addresses))
    return make_report(before, scraped(10.0, node(times=1), node(addresses[1], times=2)))


def test_a_node_is_reported_by_tier() -> None:
    """Rates in bytes, quantiles in seconds, of what happened between the scrapes."""
    [_, first] = reported().nodes
    assert (first.node, first.address) == (FIRST, "10.0.0.1")
    bucket, copy = first.tiers
    assert (bucket.tier, copy.tier) == ("bucket", "copy")
    assert bucket.spilled_bytes_per_second == 100 * MIB
    assert bucket.restored_bytes_per_second == 25 * MIB
    assert copy.spilled_bytes_per_second == 0.0
    assert copy.restored_bytes_per_second == 300 * MIB
    assert bucket.spill_seconds.p50 == pytest.approx(0.55)
    assert bucket.spill_seconds.p99 == pytest.approx(0.991)
    assert bucket.restore_seconds == Quantiles(None, None)
    assert copy.restore_seconds.p99 == pytest.approx(5.5)


def test_a_node_has_a_backlog_and_errors() -> None:
    """In flight is the sum of its processes; of local copies each process knows all."""
    [_, first] = reported().nodes
    assert first.errors_per_second == pytest.approx(2.0)
    assert first.retries_per_second == 1.5
    assert (first.requests_in_flight, first.bytes_in_flight) == (16, 96 * MIB)
    assert (first.pending_deletions, first.copy_bytes) == (3, 5_000_000_000)


def test_the_busiest_node_is_the_first() -> None:
    """And the cluster is all of them together."""
    report = reported()
    assert [node.node for node in report.nodes] == [OTHER, FIRST]
    assert report.seconds == 10.0
    assert report.failures == {"h:9": "refused"}
    assert report.cluster.node == report.cluster.address == ALL
    assert report.cluster.tiers[0].spilled_bytes_per_second == 300 * MIB
    assert report.cluster.requests_in_flight == 32
    assert report.cluster.copy_bytes == 10_000_000_000


def test_a_circuit_is_open_if_a_process_says_so() -> None:
    """They share it, but do not report at the same time."""
    lines = [
        line("circuit_open", 0, uri=BUCKET),
        line("circuit_open", 0, uri=SECOND),
        line("circuit_open", 1, uri=SECOND, worker="w2"),
    ]
    [found] = make_report(None, scraped(0.0, "\n".join(lines))).nodes
    assert found.open_circuits == [SECOND]


def test_lost_objects_are_counted_by_reason() -> None:
    """Since the processes started."""
    lines = [
        line("lost_objects_total", 2, reason="missing"),
        line("lost_objects_total", 1, reason="missing", worker="w2"),
        line("lost_objects_total", 1, reason="corrupt"),
    ]
    [found] = make_report(None, scraped(0.0, "\n".join(lines))).nodes
    assert found.lost_objects == {"missing": 3, "corrupt": 1}


def test_a_single_scrape_has_no_rates() -> None:
    """What is in flight is known."""
    report = make_report(None, scraped(0.0, node(times=3)))
    [found] = report.nodes
    assert report.seconds is None
    assert found.errors_per_second is found.retries_per_second is None
    assert found.tiers[0].spilled_bytes_per_second is None
    assert found.requests_in_flight == 16


def test_without_metrics_there_is_no_node() -> None:
    """Nothing was spilled yet."""
    report = make_report(None, scraped(0.0, "ray_tasks 3"))
    assert report.nodes == []
    assert report.cluster.tiers == []
