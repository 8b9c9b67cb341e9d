"""Reports as text and as JSON."""

from __future__ import annotations

import json

from fsspill.bench.contenders import FSSPILL, RAY, Variant
from fsspill.bench.measure import Batch
from fsspill.bench.run import Report
from fsspill.bench.table import panels, report_as_json, report_lines
from fsspill.settings import MIB
from tests.bench.samples import measured

REQUESTS = Variant("max_requests_in_flight", 16)
SMALL = Batch(40, MIB)


def report(*, ray: bool = True) -> Report:
    found = [
        measured(FSSPILL, [1.0, 1.0, 1.0]),
        measured(REQUESTS.title, [2.0, 2.0, 2.0], variant=REQUESTS, requests=12345),
        *([measured(RAY, [10.0, 8.0, 12.0])] if ray else []),
        measured(FSSPILL, [0.1, 0.1, 0.1], batch=SMALL),
        *([measured(RAY, [0.2, 0.2, 0.2], batch=SMALL)] if ray else []),
    ]
    return Report("s3://bucket", found, ["Something was left out."])


def test_lines_fit_a_narrow_terminal() -> None:
    """Each operation has a table, in which speeds are relative to Ray's own."""
    lines = list(report_lines(report()))
    tables = [line for line in lines if "rounds" in line]
    assert tables == [
        "spill 2 x 20 MiB, 3 rounds",
        "restore 2 x 20 MiB, 3 rounds",
        "spill 40 x 1 MiB, 3 rounds",
        "restore 40 x 1 MiB, 3 rounds",
    ]
    assert all(len(line) <= 60 for line in lines)
    start = lines.index(tables[0])
    assert [line.split() for line in lines[start + 1 : start + 5]] == [
        ["MiB/s", "x", "Ray's", "CPU", "s/GiB", "requests"],
        ["fsspill", "80", "10.00", "6.40", "20"],
        ["max_requests_in_flight=16", "40", "5.00", "12.80", "24,690"],
        ["Ray's", "own", "8.0", "1.00", "64.00", "20"],
    ]


def test_without_rays_own_the_default_is_the_baseline() -> None:
    """And the heading says so."""
    text = "\n".join(report_lines(report(ray=False)))
    assert "x default" in text
    assert "x Ray's" not in text
    assert report_as_json(report(ray=False))["baseline"] == "fsspill"


def test_what_was_left_out_and_what_to_set_are_told() -> None:
    """At the end."""
    text = "\n".join(report_lines(report()))
    assert "\n\nNote: Something was left out.\nTo set:\n  Nothing: no parameter" in text


def test_json_has_all_numbers() -> None:
    """Of every table, and the sentences."""
    found = json.loads(json.dumps(report_as_json(report())))
    first = found["measurements"][0]
    assert (first["operation"], first["contender"]) == ("spill", "fsspill")
    assert (first["mib_per_second"], first["ratio"]) == (80.0, 10.0)
    assert (first["writes"], first["reads"], first["rounds"]) == (10, 10, 3)
    assert len(found["measurements"]) == 10
    assert found["notes"] == ["Something was left out."]
    assert found["to_set"][0].startswith("Nothing")


def test_every_table_is_a_panel() -> None:
    """With the speeds of the table."""
    first, *others = panels(report())
    assert first.title == "spill 2 x 20 MiB"
    assert dict(first.bars)["fsspill"] == 80.0
    assert len(others) == 3
