"""The text of a Prometheus endpoint."""

from __future__ import annotations

import pytest

from fsspill.metrics import Sample
from fsspill.monitoring.exposition import parse
from tests.monitoring.samples import NODES, line


def test_a_sample_has_the_name_of_the_metric_and_all_labels() -> None:
    """Those that Ray adds too, without what it adds to the name."""
    [sample] = parse(line("retries_total", 3, uri="s3://b"))
    assert sample == Sample(
        "fsspill_retries",
        {
            "NodeAddress": "10.0.0.1",
            "SessionName": "session_1",
            "WorkerId": "w1",
            "node": NODES["10.0.0.1"],
            "uri": "s3://b",
        },
        3.0,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# TYPE ray_fsspill_retries_total counter",
        'ray_tasks{State="RUNNING"} 3.0',
        "ray_fsspill_something_total 3.0",
        'ray_fsspill_retries{uri="s3://b"} 3.0',
        'ray_fsspill_spill_seconds_sum{tier="copy"} 3.0',
        "not a metric at all",
    ],
)
def test_other_lines_are_left_out(text: str) -> None:
    """Comments, Ray's own metrics, and the gauge that older Rays make of each counter."""
    assert list(parse(text)) == []


def test_buckets_of_histograms_are_samples() -> None:
    """With their upper bounds."""
    found = parse('ray_fsspill_spill_seconds_bucket{le="+Inf",tier="bucket"} 5')
    assert list(found) == [Sample("fsspill_spill_seconds", {"le": "+Inf", "tier": "bucket"}, 5.0)]


def test_labels_may_have_any_character() -> None:
    """Quotes, backslashes and line ends are escaped; braces, commas and spaces are not."""
    text = r'ray_fsspill_failovers_total{uri="s3://b/a\"b\\n\n{x}, y=1",node="n"} 1.5e+3 1700000000'
    [sample] = parse(text)
    assert sample.labels == {"uri": 's3://b/a"b\\n\n{x}, y=1', "node": "n"}
    assert sample.value == 1500.0


def test_a_sample_without_labels() -> None:
    """As of an endpoint that is not Ray's."""
    assert list(parse("ray_fsspill_pending_deletions 2")) == [
        Sample("fsspill_pending_deletions", {}, 2.0)
    ]
