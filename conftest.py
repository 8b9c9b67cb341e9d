"""Options, markers and the S3 server of the tests. Imports no cloud SDK and no Ray."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from fsspill.s3_server import S3Server

# Machines that run tests are shared and noisy: no test depends on how long anything takes.
settings.register_profile("fsspill", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fsspill")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--nightly``."""
    parser.addoption("--nightly", action="store_true", help="run the long tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the long tests unless they were asked for."""
    if config.getoption("--nightly"):
        return
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.skip(reason="long; run with --nightly"))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Start moto's server once for all tests."""
    pytest.importorskip("s3fs")
    with S3Server() as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give a test an empty bucket, and the environment to reach it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.create_bucket("bucket")
    yield "bucket"
    s3_server.reset()
