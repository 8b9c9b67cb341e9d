"""The comparison with bare clients runs, with rows for all of them with http and https."""

from __future__ import annotations

import pytest

from tests.benchmarks.raw_clients import RAW_CLIENTS, ClientRow, compare

pytest.importorskip("s3fs")
pytest.importorskip("boto3")
pytest.importorskip("obstore")


def test_each_client_has_a_row_for_each_scheme() -> None:
    """The cheapest of the bare clients is above itself by nothing."""
    rows = list(compare(count=2, rounds=1))
    names = [*(client.name for client in RAW_CLIENTS), "fsspill", "fsspill, engine=fsspec"]
    assert [(row.scheme, row.client) for row in rows] == [
        (scheme, name) for scheme in ("http", "https") for name in names
    ]
    for row in rows:
        assert len(row.cells) == len(ClientRow.headings)
        assert row.up > 0 < row.down
    for scheme in ("http", "https"):
        raw = [row for row in rows if row.scheme == scheme][: len(RAW_CLIENTS)]
        assert min(row.above_up for row in raw) == min(row.above_down for row in raw) == 0
