"""The dashboard on a real Prometheus, and its picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fsspill.monitoring.panels import ROWS
from tests.monitoring import pictures
from tests.monitoring.prometheus import Prometheus
from tests.monitoring.simulation import OUTAGE

DOCS = Path(__file__).parents[2] / "docs"
TITLES = [*ROWS, *(panel.title for panels in ROWS.values() for panel in panels)]
END = pictures.END
DURING = END - pictures.SECONDS + OUTAGE.stop - 60
"""A moment in which the first bucket does not answer."""


@pytest.fixture(scope="module")
def hour() -> Iterator[Prometheus]:
    """Yield a Prometheus that has seen a cluster for an hour."""
    with pictures.simulated_hour() as found:
        yield found


def value(found: Prometheus, title: str, at: float = END, /, **labels: str) -> float:
    """Return what the first query of a panel shows at a time, of the series with these labels."""
    [panel] = [each for panels in ROWS.values() for each in panels if each.title == title]
    series = found.query(pictures.with_values(panel.queries[0].expression), at)
    [one] = [each for each in series if labels.items() <= each["metric"].items()]
    return float(one["value"][1])


def test_every_query_of_the_dashboard_has_data(hour: Prometheus) -> None:
    """None is about labels that never meet."""
    for panels in ROWS.values():
        for panel in panels:
            for expression, _ in panel.queries:
                shown = hour.query(pictures.with_values(expression), DURING)
                assert shown, (panel.title, expression)


def test_panels_show_what_happened(hour: Prometheus) -> None:
    """Rates in bytes and seconds, the circuit, events that were rare, and dollars."""
    second = "gs://second-bucket/spill"
    assert 500e6 < value(hour, "Spilled, by tier", tier="bucket") < 2e9
    assert value(hour, "Stored bytes for each spilled byte", uri="s3://my-bucket/spill") == (
        pytest.approx(0.58, abs=0.001)
    )
    assert 0.05 < value(hour, "Time to restore an object", tier="bucket") < 0.2
    for at, is_open in ((DURING, 1), (END, 0)):
        node = {"NodeAddress": "10.0.0.11", "uri": "s3://my-bucket/spill"}
        assert value(hour, "Circuit open", at, **node) == is_open
    assert value(hour, "Events since the processes started", reason="unreachable") == 1
    requests = value(hour, "Requests, by operation", DURING, operation="put")
    dollars = value(hour, "Dollars an hour for requests", DURING, uri=second)
    assert dollars == pytest.approx(requests * 3600 * 0.005 / 1000)
    assert 0.1 < value(hour, "Dollars for requests, in the time that is shown", uri=second) < 0.3


def test_the_pictures_are_drawn(hour: Prometheus, tmp_path: Path) -> None:
    """As those of the README."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("rich")
    pictures.draw_dashboard(str(tmp_path / "dashboard.svg"), hour)
    pictures.draw_top(str(tmp_path / "top.svg"))
    assert all(f">{title}</text>" in (tmp_path / "dashboard.svg").read_text() for title in TITLES)
    assert "4&#160;nodes&#160;do&#160;not&#160;write" in (tmp_path / "top.svg").read_text()


def test_the_picture_of_the_documentation_has_every_panel() -> None:
    """Draw it again if this fails: docs/development.md has the command."""
    assert all(f">{title}</text>" in (DOCS / "dashboard.svg").read_text() for title in TITLES)


def test_the_picture_of_top_fetches_nothing() -> None:
    """It is read where nothing else may be."""
    assert "url(" not in (DOCS / "top.svg").read_text().replace("url(#", "")
