"""Several processes are measured together, and the page has the cores that follow from CPU time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fsspill.bench.measure import GIB, Batch
from fsspill.settings import MIB
from tests.benchmarks.processes import NETWORKS, CoresRow, measure_cores, measure_processes

pytest.importorskip("s3fs")

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()


def test_each_number_of_processes_has_a_row_for_each_operation() -> None:
    """Speeds are those of all processes together, relative to the first number of them."""
    rows = list(measure_processes(Batch(1, MIB), [1, 2], 0, 1e9))
    assert [(row.processes, row.operation) for row in rows] == [
        (1, "upload"),
        (1, "download"),
        (2, "upload"),
        (2, "download"),
    ]
    assert [row.ratio for row in rows[:2]] == [1, 1]
    assert all(row.connections == row.mib_per_second * MIB / 1e9 for row in rows)


def test_cores_are_measured_with_http_and_https() -> None:
    """Each has a row for both operations."""
    rows = list(measure_cores(Batch(1, MIB), 1))
    schemes = ["upload, http", "download, http", "upload, https", "download, https"]
    assert [row.operation for row in rows] == schemes


def test_cores_follow_from_the_cpu_time() -> None:
    """A CPU second per GiB is one core for 8 Gibit/s."""
    assert CoresRow("", 1.0).cores(8 * GIB / 1e9) == pytest.approx(1)


def test_the_page_has_the_cores_that_follow_from_its_cpu_time() -> None:
    """Every row of its table is computed from the row's own CPU time."""
    heading = "| " + " | ".join(CoresRow.headings) + " |"
    assert heading.replace("|  |", "| |") in PAGE
    pattern = re.compile(r"^\| ((?:up|down)load, https?) \| ([\d.]+) \| (.*) \|$", re.MULTILINE)
    rows = pattern.findall(PAGE)
    assert len(rows) == 4
    for operation, seconds, cores in rows:
        _, _, *expected = CoresRow(operation, float(seconds)).cells
        assert cores.split(" | ") == expected
        assert len(expected) == len(NETWORKS)
