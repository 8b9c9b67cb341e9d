"""Every tool of the comparison moves the right bytes, and has a row for each operation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fsspill.bench.measure import Batch
from fsspill.settings import MIB
from tests.benchmarks.link_server import LinkServer
from tests.benchmarks.movers import BUCKET, FSSPILL, MOVERS, is_installed
from tests.benchmarks.peers import PeerRow, Sample, compare

pytest.importorskip("s3fs")


@pytest.fixture(scope="module", params=["http", "https"])
def server(request: pytest.FixtureRequest) -> Iterator[LinkServer]:
    with LinkServer(0, None, tls=request.param == "https") as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.mark.parametrize("name", MOVERS)
def test_it_moves_the_right_bytes(name: str, server: LinkServer) -> None:
    """The process of each tool compares what came back; it ends if that differs."""
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")
    rows = list(compare(Batch(2, MIB), dict.fromkeys([FSSPILL, name]), 1, server, (0, 0)))
    upload, download = (row for row in rows if row.name == name)
    assert (upload.operation, download.operation) == ("upload", "download")
    assert download.requests["GetObject"] >= 2
    assert upload.peak > MIB
    assert all(len(row.cells) == len(PeerRow.headings) for row in rows)
