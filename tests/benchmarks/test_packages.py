"""The comparison of environments runs, with rows for each of them."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks.packages import PackagesRow, compare

pytest.importorskip("s3fs")


def test_each_python_has_a_row_for_each_operation() -> None:
    """Speeds are relative to the first one."""
    rows = list(compare([sys.executable, sys.executable], 1, 0, 0, count=1))
    assert [row.operation for row in rows] == ["spill", "spill", "restore", "restore"]
    assert [row.ratio for row in rows[::2]] == [1, 1]
    assert all(len(row.cells) == len(PackagesRow.headings) for row in rows)
    assert all(row.cpu_seconds_per_gib > 0 and row.mib_per_second > 0 for row in rows)


def test_a_python_that_cannot_import_fsspill_is_an_error() -> None:
    """Not a row of zeros."""
    with pytest.raises(RuntimeError, match="names the cause"):
        list(compare(["/bin/false"], 1, 0, 0, count=1))
