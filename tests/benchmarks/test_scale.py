"""``docs/scale.md`` contains the tables that its script computes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from tests.benchmarks.scale import Footprint, tables

pytest.importorskip("s3fs")
pytest.importorskip("obstore")

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_the_page_contains_the_tables(count: int) -> None:
    """Requests are counted again, and the page contains the tables computed from them."""
    found = list(islice(tables(), count))
    assert len(found) == count
    for table in found:
        assert table in PAGE


def test_dollars_follow_from_the_requests() -> None:
    """A TiB of a million writes and as many reads costs 5.4 dollars."""
    footprint = Footprint("", 1, 2**40, 10**6, 10**6, 5)
    assert footprint.dollars_per_tib == pytest.approx(5.4)
    assert footprint.per(footprint.writes, 2**39) == 5 * 10**5
