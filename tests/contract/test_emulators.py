"""The contract on emulators of other clouds, and on a real SFTP server."""

from __future__ import annotations

import functools
import getpass
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.cleanup import clean
from fsspill.storage.client_pool import open_client
from fsspill.storage.range_reader import FilesystemReader
from fsspill.testing.contract import ExternalStorageContract
from fsspill.testing.s3_server import S3Server
from tests import emulators
from tests.faults.dialects import (
    DemandsChecksums,
    DirectoryBucket,
    EqualParts,
    HierarchicalNamespace,
)
from tests.faults.fault_proxy import Dialect, FaultProxy
from tests.instances import forgotten
from tests.storage.test_range_reader import round_trip

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
    with emulators.azure(tmp_path_factory.mktemp("azure")) as variables, forgotten("abfs"):
        for name, value in variables.items():
            environment.setenv(name, value)
        yield


def new_container() -> str:
    """Create a container, and return its name."""
    name = f"c{uuid.uuid4().hex}"
    fsspec.filesystem("abfs").mkdir(name)
    return name


class TestAzure(ExternalStorageContract):
    @pytest.fixture
    def uri(self, azure_server: None) -> str:
        return f"abfs://{new_container()}/prefix"


@pytest.fixture(scope="module")
def gcs_server(
    tmp_path_factory: pytest.TempPathFactory, environment: pytest.MonkeyPatch
) -> Iterator[None]:
    pytest.importorskip("gcsfs")
    with emulators.gcs(tmp_path_factory.mktemp("gcs")) as variables, forgotten("gs"):
        for name, value in variables.items():
            environment.setenv(name, value)
        environment.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        yield


class TestAzureReadByTheFilesystem(TestAzure):
    def storage_arguments(self) -> dict[str, Any]:
        return {"engine": "fsspec"}


@pytest.fixture
def namespace(
    azure_server: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HierarchicalNamespace]:
    """Yield the hierarchical namespace that is spoken before Azurite."""
    variable = "AZURE_STORAGE_CONNECTION_STRING"
    connection = os.environ[variable]
    [endpoint] = re.findall("BlobEndpoint=([^;]+)/devstoreaccount1", connection)
    with FaultProxy(endpoint) as proxy:
        namespace = HierarchicalNamespace(connection)
        monkeypatch.setenv(variable, connection.replace(endpoint, proxy.endpoint_url))
        with forgotten("abfs"), proxy.speak(namespace):
            yield namespace


class TestAzureHierarchical(ExternalStorageContract):
    """Directories are blobs."""

    @pytest.fixture
    def uri(self, namespace: HierarchicalNamespace) -> str:
        return f"abfs://{new_container()}/prefix"


@pytest.mark.parametrize("cleaned", [False, True], ids=["destroy", "clean"])
def test_no_directory_of_a_hierarchical_namespace_is_left(
    namespace: HierarchicalNamespace, cleaned: bool
) -> None:
    """They would be listed and billed; those of a session that lives stay, as does the URI's."""
    container = new_container()
    uri = f"abfs://{container}/spill"
    storages = {}
    for session in ("dead", "live"):
        store = InMemoryObjectStore()
        store.put(b"ref", bytes(100))
        storage = ExternalStorage(uri, session_name=session, node_id="n", object_store=store)
        urls = storage.spill_objects([b"ref"])
        storage.files.write_heartbeat("n")
        storages[session] = storage, urls
    dead, urls = storages["dead"]
    dead.delete_spilled_objects(urls)
    assert "spill/dead/ray_spilled_objects_n" in namespace.names(container)
    if cleaned:
        clean(uri, sessions=["dead"], older_than=0, stale_after=0)
    else:
        dead.destroy_external_storage()
    left = namespace.names(container)
    assert [name for name in left if name.startswith("spill/dead")] == []
    assert {"spill", "spill/live", "spill/live/ray_spilled_objects_n"} <= set(left)
    store.delete(b"ref")
    live, urls = storages["live"]
    live.restore_spilled_objects([b"ref"], urls)
    live.destroy_external_storage()
    assert namespace.names(container) == ["spill"]


@pytest.mark.parametrize("source", ["key", "signature"])
def test_obstore_reads_with_what_adlfs_found(
    azure_server: None, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """Ranges are read with an account key or a shared access signature in a connection string."""
    monkeypatch.setattr(FilesystemReader, "read", None)
    connection = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
    container = new_container()
    if source == "signature":
        signature = emulators.azure_signature()
        connection = re.sub("AccountKey=[^;]*", f"SharedAccessSignature={signature}", connection)
    round_trip(f"abfs://{container}/x", storage_options={"connection_string": connection})


class TestGcs(ExternalStorageContract):
    @pytest.fixture
    def uri(self, gcs_server: None) -> str:
        bucket = f"b{uuid.uuid4().hex}"
        fsspec.filesystem("gs").mkdir(bucket)
        return f"gs://{bucket}/prefix"


class TestGcsReadByTheFilesystem(TestGcs):
    def storage_arguments(self) -> dict[str, Any]:
        return {"engine": "fsspec"}


def test_obstore_reads_with_what_gcsfs_found(
    gcs_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges are read from the emulator that gcsfs found in the environment."""
    monkeypatch.setattr(FilesystemReader, "read", None)
    bucket = f"b{uuid.uuid4().hex}"
    fsspec.filesystem("gs").mkdir(bucket)
    round_trip(f"gs://{bucket}/x")


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
        """Return the files from this machine's disk, which is the server's."""
        directory = Path(uri.removeprefix("sftp://127.0.0.1"))
        found = [Path(at, name) for at, _, names in os.walk(directory) for name in names]
        return {f"sftp://127.0.0.1{path}": path.read_bytes() for path in found}

    def write_at_rest(self, base_url: str, data: bytes) -> None:
        """Write the file on this machine's disk."""
        Path(base_url.removeprefix("sftp://127.0.0.1")).write_bytes(data)


@pytest.fixture(scope="module")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    pytest.importorskip("s3fs")
    with emulators.s3_of_rclone(tmp_path_factory.mktemp("rclone")) as variables:
        yield variables


class TestS3OfRclone(ExternalStorageContract):
    @pytest.fixture
    def uri(
        self, rclone_server: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[str]:
        for name, value in rclone_server.items():
            monkeypatch.setenv(name, value)
        bucket = f"b{uuid.uuid4().hex}"
        with forgotten("s3"):
            fsspec.filesystem("s3").mkdir(bucket)
            yield f"s3://{bucket}/prefix"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], None]]:
    """Return a function that starts the server of a protocol, once, and makes fsspec find it."""
    with ExitStack() as servers, pytest.MonkeyPatch.context() as patch:

        @functools.cache
        def start_server(protocol: str) -> None:
            server = getattr(emulators, protocol)(tmp_path_factory.mktemp(protocol))
            options = servers.enter_context(server)
            fsspec.get_filesystem_class(protocol)
            patch.setitem(fsspec.config.conf, protocol, options)

        yield start_server


class OnServer(ExternalStorageContract):
    """A server whose address and password are options, in fsspec's own configuration."""

    protocol = ""
    root = ""

    @pytest.fixture
    def uri(self, start: Callable[[str], None]) -> str:
        start(self.protocol)
        return f"{self.protocol}://{self.root}d{uuid.uuid4().hex}"

    def write_at_rest(self, base_url: str, data: bytes) -> None:
        """Write the file to its directory, which is made first."""
        fs, path = fsspec.core.url_to_fs(base_url)
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, data)


class TestWebdav(OnServer):
    protocol = "webdav"


class TestFtp(OnServer):
    protocol = "ftp"
    root = "127.0.0.1/"


class TestSmb(OnServer):
    protocol = "smb"
    root = "127.0.0.1/share/"


class TestR2(ExternalStorageContract):
    """Parts of an upload must have one length."""

    dialect: Dialect = EqualParts()

    @pytest.fixture
    def uri(self, proxy: FaultProxy, s3_bucket: str) -> Iterator[str]:
        with proxy.speak(self.dialect):
            yield f"s3://{s3_bucket}/prefix"


class TestDirectoryBucket(TestR2):
    """Requests need a session, and only directories are listed."""

    dialect = DirectoryBucket()

    @pytest.fixture
    def uri(self, proxy: FaultProxy, s3_server: S3Server) -> Iterator[str]:
        s3_server.create_bucket("spill--use1-az4--x-s3")
        with proxy.speak(self.dialect):
            yield "s3://spill--use1-az4--x-s3/prefix"


class TestObjectLock(TestR2):
    """Each body must have a checksum."""

    dialect = DemandsChecksums()

    def write_at_rest(self, base_url: str, data: bytes) -> None:
        """Write the file with a checksum."""
        client = open_client(base_url, {})
        client.run(client.put, client.root, data)


class TestB2(ExternalStorageContract):
    """Every file has versions."""

    @pytest.fixture
    def uri(self, s3_bucket: str) -> str:
        fs = fsspec.filesystem("s3")
        fs.call_s3(
            "put_bucket_versioning",
            Bucket=s3_bucket,
            VersioningConfiguration={"Status": "Enabled"},
        )
        return f"s3://{s3_bucket}/prefix"
