"""Memory is bounded by configuration, whatever the size of a batch or an object."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.benchmarks.link_server import LinkServer
from tests.running import Program

MIB = 2**20
LIMIT = 32 * MIB
LARGE = 256 * MIB
"""Bytes of an object, or of a batch: more than may be in memory, even where they are compressed to
a half."""


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (1, LARGE),
        (LARGE // (2 * MIB), 2 * MIB),
        pytest.param(1, 4 * 2**30, marks=pytest.mark.nightly),
        pytest.param(2000, 2 * MIB, marks=pytest.mark.nightly),
    ],
)
def test_memory_in_flight_is_bounded(count: int, size: int) -> None:
    """Spilling and restoring take no more private memory than the limit and 64 MiB.

    The server does not throttle; batch and object are many times the limit.
    """
    pytest.importorskip("s3fs")
    with LinkServer(latency=0, bandwidth=0) as server:
        server.create_bucket("bucket")
        check(["s3://bucket", str(LIMIT), str(count), str(size)], server.environment)


@pytest.mark.parametrize(
    ("codec", "count", "size"),
    [
        ("lz4", 1, LARGE),
        pytest.param("zstd", 1, 4 * 2**30, marks=pytest.mark.nightly),
        pytest.param("lz4", 1, 4 * 2**30, marks=pytest.mark.nightly),
        pytest.param("zstd", 300, 2 * MIB, marks=pytest.mark.nightly),
        pytest.param("lz4", 100, 20 * MIB, marks=pytest.mark.nightly),
    ],
)
def test_compressed_copies_are_bounded(codec: str, count: int, size: int) -> None:
    """The bound holds with compression too: no object is compressed as a whole."""
    pytest.importorskip("s3fs")
    pytest.importorskip("lz4")
    pytest.importorskip("zstandard")
    with LinkServer(latency=0, bandwidth=0) as server:
        server.create_bucket("bucket")
        check(["s3://bucket", str(LIMIT), str(count), str(size), codec], server.environment)


@pytest.mark.nightly
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_streams_of_compressed_blocks_are_bounded(codec: str, tmp_path: Path) -> None:
    """The bound holds for files written block by block, on filesystems other than S3."""
    pytest.importorskip("lz4")
    pytest.importorskip("zstandard")
    uri = f"memory://{tmp_path.name}"
    arguments = [uri, str(LIMIT), "1", str(500 * MIB), codec]
    spilling, restoring = peaks(arguments, {})
    # The files themselves are in the memory of the process.
    assert spilling < 280 * MIB + LIMIT + 64 * MIB
    assert restoring < 280 * MIB + LIMIT + 64 * MIB


@pytest.mark.parametrize(
    ("codec", "count", "size"),
    [
        ([], 1, LARGE),
        (["lz4"], 1, LARGE),
        pytest.param(["zstd"], 300, 2 * MIB, marks=pytest.mark.nightly),
        pytest.param([], 300, 2 * MIB, marks=pytest.mark.nightly),
    ],
)
def test_local_copies_take_no_more(codec: list[str], count: int, size: int, tmp_path: Path) -> None:
    """They are written from what is in memory anyway, and read into the object store."""
    pytest.importorskip("s3fs")
    pytest.importorskip("lz4")
    pytest.importorskip("zstandard")
    with LinkServer(latency=0, bandwidth=0) as server:
        server.create_bucket("bucket")
        variables = {**server.environment, "COPIES": str(tmp_path)}
        check(["s3://bucket", str(LIMIT), str(count), str(size), *codec], variables)


def check(arguments: list[str], environment: dict[str, str]) -> None:
    spilling, in_all = peaks(arguments, environment)
    assert spilling < LIMIT + 64 * MIB
    assert in_all < LIMIT + 64 * MIB


def peaks(arguments: list[str], environment: dict[str, str]) -> tuple[int, int]:
    """Return the bytes of private memory that spilling took, and spilling and restoring."""
    variables = {**os.environ, **environment}
    with Program("memory.py", *arguments, environment=variables) as program:
        _, spilling, in_all = program.expect("peak").split()
        program.output()
    return int(spilling), int(in_all)
