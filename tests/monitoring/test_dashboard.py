"""The dashboard as JSON of Grafana."""

from __future__ import annotations

import json
from typing import Any

from fsspill.monitoring.dashboard import make_dashboard
from fsspill.monitoring.panels import ROWS


def found() -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(make_dashboard())
    return dashboard


def panels() -> list[dict[str, Any]]:
    return [panel for panel in found()["panels"] if panel["type"] != "row"]


def test_the_dashboard_has_every_panel() -> None:
    """In rows, with its expressions, unit and legend."""
    expected = [panel for row in ROWS.values() for panel in row]
    for panel, shown in zip(expected, panels(), strict=True):
        assert shown["title"] == panel.title
        assert shown["fieldConfig"]["defaults"]["unit"] == panel.unit
        assert [target["expr"] for target in shown["targets"]] == [
            query.expression for query in panel.queries
        ]
    titles = [panel["title"] for panel in found()["panels"] if panel["type"] == "row"]
    assert titles == list(ROWS)


def test_panels_do_not_overlap() -> None:
    """Each has an id and a place of its own, in a grid of 24 columns."""
    everything = found()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in everything)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_every_panel_asks_the_chosen_datasource() -> None:
    """There are variables for it, for the node and for the URI, and for nothing else."""
    variables = {variable["name"] for variable in found()["templating"]["list"]}
    assert variables == {"datasource", "node", "uri"}
    for panel in panels():
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_targets_of_a_panel_have_letters() -> None:
    """Grafana tells them apart by those."""
    for panel in panels():
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == ["A", "B", "C", "D"][: len(letters)]
