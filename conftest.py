"""Options, markers and shared fixtures of the tests. Imports no cloud SDK and no Ray."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from functools import cache
from typing import Any

import fsspec
import pytest
from hypothesis import HealthCheck, settings

from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.testing.s3_server import S3Server
from tests.faults.fault_proxy import FaultProxy
from tests.instances import forgotten
from tests.recording import RequestRecorder
from tests.running import one_of_few
from tests.timeouts import PATIENT, cleanup_limit

# Read when gcsfs is imported. Else it asks another server of Google's about each bucket, and waits
# a minute where there is none.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

# Machines that run tests are shared and noisy: no test depends on how long anything takes.
settings.register_profile("fsspill", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fsspill")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--nightly``."""
    parser.addoption("--nightly", action="store_true", help="run the long tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with those of clusters, and skip the long tests unless they were asked for."""
    # A worker of xdist has a part of the list and takes from the end of another's when it is done.
    # So one worker starts one cluster after another, while the others run what is small.
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
    if config.getoption("--nightly"):
        return
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.skip(reason="long; run with --nightly"))


@pytest.fixture(autouse=True)
def _few_clusters(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Let two tests of all workers of xdist have a cluster: more make each other very slow."""
    if request.node.get_closest_marker("ray") is None:
        yield
        return
    directory = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        directory = directory.parent
    with one_of_few(directory, 2):
        yield


@pytest.fixture(autouse=True)
def _records_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Separate the state that processes of a node share, such as an unhealthy URI, by test."""
    directory = tmp_path_factory.mktemp("records")
    monkeypatch.setattr("fsspill.placement.shared_state.gettempdir", lambda: str(directory))


@pytest.fixture(autouse=True)
def _secrets_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the secrets of other tests: a process redacts every one that it has ever seen."""
    monkeypatch.setattr("fsspill.secrets._remembered", set())


@pytest.fixture(autouse=True)
def _incidents_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what other tests have logged: a process reports an incident once a minute at most."""
    monkeypatch.setattr("fsspill.log._reported", {})


@pytest.fixture(autouse=True)
def _botocore_data_read_once() -> None:
    """Parse a data file of botocore once, not once for each client: a third of the time on S3."""
    # This file imports no cloud SDK.
    if "botocore.loaders" in sys.modules:
        _keep_data_files(sys.modules["botocore.loaders"].JSONFileLoader)


@cache
def _keep_data_files(loader: Any) -> None:
    load_file = cache(loader().load_file)
    loader.load_file = lambda self, path: load_file(path)


@pytest.fixture(autouse=True)
def _patient_cleanup() -> Iterator[None]:
    """Wait for deletions as long as a busy machine may need for them."""
    with cleanup_limit(PATIENT):
        yield


@pytest.fixture
def store() -> InMemoryObjectStore:
    """Return an empty object store."""
    return InMemoryObjectStore()


@pytest.fixture
def memory_uri() -> Iterator[str]:
    """Yield a URI that no other test uses, in fsspec's memory filesystem."""
    yield f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Start moto's server once for all tests."""
    pytest.importorskip("s3fs")
    with S3Server() as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield an empty bucket, with the environment to reach it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.create_bucket("bucket")
    yield "bucket"
    s3_server.reset()


@pytest.fixture
def checking_server(s3_server: S3Server) -> Iterator[S3Server]:
    """Give a test the server, without a bucket: until the test ends it may check credentials."""
    yield s3_server
    s3_server.check_credentials(False)
    s3_server.reset()


@pytest.fixture
def recorder(s3_server: S3Server, s3_bucket: str) -> RequestRecorder:
    """Return a recorder of the requests that the server answers from here on."""
    return RequestRecorder(s3_server)


@pytest.fixture
def storage(s3_bucket: str, store: InMemoryObjectStore) -> ExternalStorage:
    """Give a test an external storage in the empty bucket."""
    return ExternalStorage(f"s3://{s3_bucket}/prefix", object_store=store)


@pytest.fixture
def proxy(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """Yield a proxy that injects faults before the empty bucket, with its environment."""
    with FaultProxy(s3_server.endpoint_url) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        with forgotten("s3"):
            yield proxy
