"""The difference of two scrapes."""

from __future__ import annotations

import pytest

from fsspill.monitoring.exposition import parse
from fsspill.monitoring.rates import Changes, compare
from fsspill.monitoring.scrape import Scrape
from tests.monitoring.samples import NODES, histogram, line

NAME = "fsspill_spilled_bytes"


def scraped(time: float, *lines: str, endpoint: str = "10.0.0.1:8080") -> Scrape:
    return Scrape(time, {endpoint: list(parse("\n".join(lines)))}, {})


def spilled(value: float, **labels: str) -> str:
    return line("spilled_bytes_total", value, uri="s3://b", **{"tier": "bucket", **labels})


def between(before: list[str], after: list[str], seconds: float = 10.0) -> Changes:
    return compare(scraped(100.0, *before), scraped(100.0 + seconds, *after))


def test_a_rate_is_the_growth_in_a_second() -> None:
    """Of all series together, or of those with a label."""
    before = [spilled(100), spilled(7, tier="local")]
    changes = between(before, [spilled(300), spilled(17, tier="local")])
    assert changes.rate(NAME) == 21.0
    assert changes.rate(NAME, tier="bucket") == 20.0
    assert changes.rate(NAME, tier="copy") == 0.0


def test_a_counter_that_began_again_has_grown_by_its_value() -> None:
    """Its process was started again, or the agent of the node."""
    assert between([spilled(1000)], [spilled(50)]).rate(NAME) == 5.0


def test_processes_are_counted_one_by_one() -> None:
    """The end of one, whose series is gone, does not hide what another does."""
    before = [spilled(1000, worker="w1"), spilled(10, worker="w2")]
    assert between(before, [spilled(60, worker="w2")]).rate(NAME) == 5.0


def test_a_new_series_began_at_0() -> None:
    """Its process is new, or it is its first event."""
    assert between([], [spilled(50)]).rate(NAME) == 5.0


def test_a_series_of_an_endpoint_that_did_not_answer_has_no_growth() -> None:
    """All of its value is older than nobody knows."""
    before = Scrape(100.0, {}, {"10.0.0.1:8080": "refused"})
    assert compare(before, scraped(110.0, spilled(50))).rate(NAME) == 0.0


def test_after_a_single_scrape_there_are_no_rates() -> None:
    """Values are known."""
    [*lines] = histogram("spill_seconds", (1, 1, 1, 1), tier="bucket")
    changes = compare(None, scraped(100.0, spilled(50), *lines))
    assert changes.rate(NAME) is None
    assert changes.quantile(0.5, "fsspill_spill_seconds") is None
    assert changes.total(NAME) == 50.0


def test_changes_of_a_node() -> None:
    """A node is known by its id, not by the endpoint."""
    nodes = between([], [spilled(10), spilled(30, address="10.0.0.2")]).by_node()
    rates = {node: changes.rate(NAME) for node, changes in nodes.items()}
    assert rates == {NODES["10.0.0.1"]: 1.0, NODES["10.0.0.2"]: 3.0}


def test_a_node_without_an_id_is_its_endpoint() -> None:
    """As where something else than Ray exports the metrics."""
    changes = compare(None, scraped(1.0, "ray_fsspill_pending_deletions 2", endpoint="h:1"))
    assert set(changes.by_node()) == {"h:1"}


def test_labels_and_values() -> None:
    """Values of one metric by one label; the values of a label of all."""
    lines = [line("circuit_open", value, uri="s3://b", worker=f"w{value}") for value in (0, 1)]
    changes = between([], [*lines, spilled(1)])
    assert changes.values("fsspill_circuit_open", "uri") == {"s3://b": [0.0, 1.0]}
    assert changes.labels("tier") == {"bucket"}


@pytest.mark.parametrize(
    ("counts", "q", "seconds"),
    [
        ((10, 0, 0, 0), 0.5, 0.05),
        ((0, 10, 0, 0), 0.5, 0.55),
        ((0, 10, 0, 0), 1.0, 1.0),
        ((5, 5, 0, 0), 0.75, 0.55),
        ((98, 0, 2, 0), 0.99, 5.5),
        ((0, 0, 0, 4), 0.5, 10.0),
        ((1, 0, 0, 3), 0.5, 10.0),
        ((0, 0, 0, 0), 0.5, None),
    ],
)
def test_quantiles_are_those_of_prometheus(
    counts: tuple[int, ...], q: float, seconds: float | None
) -> None:
    """Interpolated in their bucket; of what is above the last bound, that bound."""
    before = histogram("spill_seconds", (3, 3, 3, 3), tier="bucket")
    grown = (counts[0] + 3, counts[1] + 3, counts[2] + 3, counts[3] + 3)
    changes = between(before, histogram("spill_seconds", grown, tier="bucket"))
    found = changes.quantile(q, "fsspill_spill_seconds", tier="bucket")
    assert found == (seconds if seconds is None else pytest.approx(seconds))


def test_quantiles_without_a_histogram() -> None:
    """There is none."""
    assert between([], []).quantile(0.5, "fsspill_spill_seconds") is None
