"""The contract on emulators of other clouds, and on a real SFTP server."""

from __future__ import annotations

import getpass
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import fsspec
import pytest

from fsspill.testing import ExternalStorageContract
from tests import emulators

pytestmark = [pytest.mark.nightly]


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def azure_server(
    tmp_path_factory: pytest.TempPathFactory, environment: pytest.MonkeyPatch
) -> Iterator[None]:
    pytest.importorskip("adlfs")
    with emulators.azure(tmp_path_factory.mktemp("azure")) as variables:
        for name, value in variables.items():
            environment.setenv(name, value)
        yield


class TestAzure(ExternalStorageContract):
    @pytest.fixture
    def uri(self, azure_server: None) -> str:
        container = f"c{uuid.uuid4().hex}"
        fsspec.filesystem("abfs").mkdir(container)
        return f"abfs://{container}/prefix"


@pytest.fixture(scope="module")
def gcs_server(
    tmp_path_factory: pytest.TempPathFactory, environment: pytest.MonkeyPatch
) -> Iterator[None]:
    with emulators.gcs(tmp_path_factory.mktemp("gcs")) as variables:
        for name, value in variables.items():
            environment.setenv(name, value)
        pytest.importorskip("gcsfs")
        environment.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        yield


class TestGcs(ExternalStorageContract):
    @pytest.fixture
    def uri(self, gcs_server: None) -> str:
        bucket = f"b{uuid.uuid4().hex}"
        fsspec.filesystem("gs").mkdir(bucket)
        return f"gs://{bucket}/prefix"


@pytest.fixture(scope="module")
def sftp_server(
    tmp_path_factory: pytest.TempPathFactory, environment: pytest.MonkeyPatch
) -> Iterator[None]:
    pytest.importorskip("paramiko")
    with emulators.sftp(tmp_path_factory.mktemp("sftp")) as options:
        user: Mapping[str, object] = {"username": getpass.getuser(), **options}
        environment.setitem(fsspec.config.conf, "sftp", user)
        yield


class TestSftp(ExternalStorageContract):
    @pytest.fixture
    def uri(self, sftp_server: None, tmp_path: Path) -> str:
        return f"sftp://127.0.0.1{tmp_path}"

    def files_at_rest(self, uri: str) -> dict[str, bytes]:
        """Look at the files on this machine, where the server has them."""
        directory = Path(uri.removeprefix("sftp://127.0.0.1"))
        found = [Path(at, name) for at, _, names in os.walk(directory) for name in names]
        return {f"sftp://127.0.0.1{path}": path.read_bytes() for path in found}

    def write_at_rest(self, base_url: str, data: bytes) -> None:
        """Write the file on this machine."""
        Path(base_url.removeprefix("sftp://127.0.0.1")).write_bytes(data)
