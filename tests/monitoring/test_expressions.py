"""Expressions of PromQL."""

from __future__ import annotations

import pytest

from fsspill.monitoring.expressions import dollars, grew, quantile, rate, series
from fsspill.storage.prices import price_of


def test_series_are_selected_by_the_variables_of_the_dashboard() -> None:
    """By the node; by the URI only where the metric has that label."""
    assert series("fsspill_retries", 'x="y"') == (
        'ray_fsspill_retries_total{node=~"$node",uri=~"$uri",x="y"}'
    )
    assert series("fsspill_copy_bytes") == 'ray_fsspill_copy_bytes{node=~"$node"}'
    assert series("fsspill_spill_seconds") == 'ray_fsspill_spill_seconds_bucket{node=~"$node"}'


def test_alerts_have_no_variables() -> None:
    """Prometheus knows none."""
    assert series("fsspill_retries", variables=False) == "ray_fsspill_retries_total"
    assert "$" not in grew("reason", "fsspill_lost_objects", "15m")
    assert "$" not in rate("uri", "fsspill_retries", over="5m")
    assert "$" not in quantile(0.5, "tier", "fsspill_spill_seconds", over="5m")


def test_a_metric_that_does_not_exist_has_no_expression() -> None:
    """The mistake shows when the module is imported."""
    with pytest.raises(KeyError):
        series("fsspill_something")


@pytest.mark.parametrize("uri", ["s3://b", "gs://b", "abfs://c@a"])
def test_dollars_are_those_of_the_prices(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same that fsspill bench asks for."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    price = price_of(uri)
    assert price is not None
    [write, read] = [
        term
        for term in dollars("rate", "5m").split(" or ")
        if uri.partition(":")[0] in term.partition("://")[0]
    ]
    assert f"{price.write:g} * rate(" in write
    assert '"put|put_part|' in write
    assert f"{price.read:g} * rate(" in read
    assert '"get|head"' in read
