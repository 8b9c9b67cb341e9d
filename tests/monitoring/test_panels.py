"""The panels of the dashboard."""

from __future__ import annotations

import re

import pytest

from fsspill.metrics import METRICS
from fsspill.monitoring.alerts import ALERTS, Alert
from fsspill.monitoring.exposition import SUFFIXES
from fsspill.monitoring.panels import NOT_SHOWN, ROWS, Panel

PANELS = [panel for panels in ROWS.values() for panel in panels]
OF_RAY = {"node", "NodeAddress", "le"}
"""Labels that all metrics have under Ray, and buckets."""

SAMPLE = re.compile(r"ray_(fsspill_\w+)")


def metrics_of(expression: str) -> set[str]:
    """Return the metrics in an expression, by their own names."""
    exported = {f"{name}{SUFFIXES[metric.kind]}": name for name, metric in METRICS.items()}
    return {exported[found] for found in SAMPLE.findall(expression)}


def labels_of(expression: str) -> set[str]:
    """Return the labels in an expression."""
    grouped = ", ".join(re.findall(r"by \(([^)]*)\)", expression))
    return {*re.findall(r"(\w+)(?:=~|!~|=|!=)\"", expression), *re.findall(r"\w+", grouped)}


@pytest.mark.parametrize("panel", PANELS, ids=[panel.title for panel in PANELS])
def test_a_panel_is_of_metrics_that_are_exported(panel: Panel) -> None:
    """By the names and the labels that they have; legends are of labels that are left."""
    for expression, legend in panel.queries:
        names = metrics_of(expression)
        assert names
        for name in names:
            assert labels_of(expression) <= OF_RAY | set(METRICS[name].labels)
        left = set(re.findall(r"\w+", ", ".join(re.findall(r"by \(([^)]*)\)", expression))))
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= left


@pytest.mark.parametrize("alert", ALERTS, ids=[alert.name for alert in ALERTS])
def test_an_alert_is_about_metrics_that_are_exported(alert: Alert) -> None:
    """By the names and the labels that they have, in its text too."""
    names = metrics_of(alert.expression)
    assert names
    for name in names:
        assert labels_of(alert.expression) <= OF_RAY | set(METRICS[name].labels)
    assert set(re.findall(r"\$labels\.(\w+)", alert.summary)) <= labels_of(alert.expression)


def test_every_metric_is_shown_or_has_a_reason() -> None:
    """A new metric needs a panel, or a line that says why not."""
    shown = {name for panel in PANELS for query in panel.queries for name in metrics_of(query[0])}
    assert shown | set(NOT_SHOWN) == set(METRICS)
    assert not shown & set(NOT_SHOWN)


def test_titles_tell_panels_apart() -> None:
    """Each is there once."""
    titles = [panel.title for panel in PANELS]
    assert len(set(titles)) == len(titles)
