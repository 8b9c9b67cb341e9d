"""Memory is bounded by configuration, whatever the size of a batch or an object."""

from __future__ import annotations

import os

import pytest

from tests.benchmarks.link_server import LinkServer
from tests.running import Program

MIB = 2**20
LIMIT = 32 * MIB


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (1, 500 * MIB),
        (300, 2 * MIB),
        pytest.param(1, 4 * 2**30, marks=pytest.mark.nightly),
        pytest.param(2000, 2 * MIB, marks=pytest.mark.nightly),
    ],
)
def test_what_is_in_flight_is_bounded(count: int, size: int) -> None:
    """Spilling and restoring take no more private memory than the limit and 64 MiB.

    The server is as fast as it can be; batch and object are many times the limit.
    """
    pytest.importorskip("s3fs")
    with LinkServer(latency=0, bandwidth=0) as server:
        server.create_bucket("bucket")
        arguments = ["s3://bucket", str(LIMIT), str(count), str(size)]
        environment = {**os.environ, **server.environment}
        with Program("memory.py", *arguments, environment=environment) as program:
            _, spilling, in_all = program.expect("peak").split()
            program.output()
    assert int(spilling) < LIMIT + 64 * MIB
    assert int(in_all) < LIMIT + 64 * MIB
