"""The dashboard as JSON of Grafana."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

from fsspill.monitoring.panels import ROWS, Panel

__all__ = ["make_dashboard"]

_WIDTH, _HEIGHT, _COLUMNS = 24, 8, 3
"""Width of Grafana's grid, height of a panel in it, and panels side by side at most."""

_SCHEMA = 36
"""Version of Grafana's format: of Grafana 9, which later ones read."""

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def make_dashboard() -> str:
    """Return the dashboard, to be imported."""
    dashboard = {
        "title": "fsspill",
        "uid": "fsspill",
        "tags": ["ray", "fsspill"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource(), _variable("node"), _variable("uri")]},
        "panels": list(_panels()),
    }
    return json.dumps(dashboard, indent=2) + "\n"


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }


def _variable(label: str) -> dict[str, Any]:
    query = f'label_values({{__name__=~"ray_fsspill_.+"}}, {label})'
    return {
        "name": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": label},
        "definition": query,
        "refresh": 2,  # when the time that is shown changes
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def _panels() -> Iterator[dict[str, Any]]:
    y, numbers = 0, count(1)
    for title, panels in ROWS.items():
        place = {"x": 0, "y": y, "w": _WIDTH, "h": 1}
        yield {"id": next(numbers), "type": "row", "title": title, "gridPos": place, "panels": []}
        y += 1
        columns = min(_COLUMNS, len(panels))
        width = _WIDTH // columns
        for index, panel in enumerate(panels):
            row, column = divmod(index, columns)
            place = {"x": column * width, "y": y + row * _HEIGHT, "w": width, "h": _HEIGHT}
            yield {"id": next(numbers), "gridPos": place, **_panel(panel)}
        y += -(-len(panels) // columns) * _HEIGHT


def _panel(panel: Panel) -> dict[str, Any]:
    is_stat = panel.kind == "stat"
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": _SOURCE,
            "expr": query.expression,
            "legendFormat": query.legend,
            "instant": is_stat,
            "range": not is_stat,
        }
        for index, query in enumerate(panel.queries)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }
